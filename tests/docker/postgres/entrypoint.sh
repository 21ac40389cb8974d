#!/bin/sh
# As the official image does for an empty data directory: initdb, then the server with the arguments given.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  initdb --no-sync -D "$PGDATA" -U "${POSTGRES_USER:-postgres}" -A trust --encoding=UTF8 --locale=C.UTF-8 >/dev/null
  for database in all replication; do
    echo "host $database all all ${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$PGDATA/pg_hba.conf"
  done
fi
exec "$@" -c listen_addresses='*'

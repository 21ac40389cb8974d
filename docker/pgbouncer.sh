#!/bin/sh
# Starts pgbouncer for compose.yaml's demo: one database that points at the source, in a file of its own on the shared
# volume, so that the tool can point it at the target. No passwords: nothing outside compose's network reaches it.
set -eu
cd /pooler
[ -e databases.ini ] || {
  echo "[databases]"
  for name in ${DATABASES:-postgres}; do echo "$name = host=source port=5432 dbname=$name"; done
} >databases.ini
for user in ${CLIENTS:-postgres}; do echo "\"$user\" \"\""; done >users.txt
cat >pgbouncer.ini <<END
%include /pooler/databases.ini
[pgbouncer]
listen_addr = *
listen_port = 6432
unix_socket_dir =
auth_type = trust
auth_file = /pooler/users.txt
admin_users = postgres
pool_mode = transaction
max_client_conn = 200
default_pool_size = 20
server_login_retry = 1
ignore_startup_parameters = extra_float_digits, options
END
exec pgbouncer pgbouncer.ini

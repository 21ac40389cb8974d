#!/usr/bin/env bash
# Fetches PostgreSQL servers 12 to 18 (tests/tools/servers: pinned, checked by hash) and a pg_dump that can read all of
# them, and prints what the tests want in their environment:
#   PGCUTOVER_TEST_PG_12=/.../bin ...   PGCUTOVER_TEST_CLIENT=/.../bin
# Nothing is installed: everything lies below one cache directory that user postgres can read.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
client_major=18 client_suite=sid

cache=${PGCUTOVER_CACHE:-$([ "$(id -u)" = 0 ] && echo /var/cache || echo "${XDG_CACHE_HOME:-$HOME/.cache}")/pgcutover}
key=$(cat "$here"/servers/package*.json | sha256sum | cut -c1-12)
servers=$cache/servers-$key client=$cache/client-$client_major
say() { printf 'fetch-servers: %s\n' "$*" >&2; }

fetch_servers() {
  command -v npm >/dev/null || { say "npm is missing; HINT: apt-get install npm"; exit 1; }
  say "servers of $(grep -c '"pg[0-9]' "$here/servers/package.json") versions to $servers"
  rm -rf "$servers.new"
  mkdir -p "$servers.new"
  cp "$here"/servers/{package.json,package-lock.json,.npmrc} "$servers.new/"
  (cd "$servers.new" && npm ci --ignore-scripts --no-audit --no-fund >&2)
  local package
  for package in "$servers.new"/node_modules/pg*; do
    (cd "$package" && node scripts/hydrate-symlinks.js >&2)   # the package's own step that links its libraries
  done
  chmod -R a+rX "$servers.new"
  mv "$servers.new" "$servers"
}

# A client newer than the distribution's.
fetch_client() {
  say "pg_dump $client_major to $client"
  "$here/unpack-debian.sh" "$client_suite" "$client" "postgresql-client-$client_major" \
    "usr/lib/postgresql/$client_major/bin" pg_dump pg_restore psql
}

mkdir -p "$cache"
[ -d "$servers" ] || fetch_servers
for bin in "$servers"/node_modules/pg*/native/bin; do
  major=${bin#*/node_modules/pg}
  echo "PGCUTOVER_TEST_PG_${major%%/*}=$bin"
done
if [ -d "$client" ] || fetch_client; then
  echo "PGCUTOVER_TEST_CLIENT=$client/bin"
fi

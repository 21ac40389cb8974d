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

# A client newer than the distribution's: unpacked beside the libc it was linked with, never installed.
fetch_client() {
  local work mirror options packages loader tool
  work=$(mktemp -d)
  mkdir -p "$work"/{lists/partial,cache/archives/partial,packages,root}
  mirror=$(apt-get indextargets --format "\$(REPO_URI)" 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
  [ -n "$mirror" ] || { say "no Debian mirror in apt's sources: pg_dump $client_major can't be fetched"; return 1; }
  say "pg_dump $client_major to $client"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $client_suite main" >"$work/sources.list"
  : >"$work/status"   # nothing is installed, as far as this apt knows: it then names every library
  options=(-o "Dir::State::Lists=$work/lists" -o "Dir::State::status=$work/status" -o "Dir::Cache=$work/cache"
           -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
           -o APT::Install-Recommends=0 -o Acquire::Languages=none -o APT::Sandbox::User=root)
  apt-get -qq "${options[@]}" update >&2
  mapfile -t packages < <(apt-get "${options[@]}" -s install "postgresql-client-$client_major" 2>/dev/null |
    awk '/^Inst/ { print $2 }' | grep -E "^(postgresql-client-$client_major|lib.*)$" | grep -vE '^lib(perl|.*-perl|debconf|.*debconfclient)')
  (cd "$work/packages" && apt-get -qq "${options[@]}" download "${packages[@]}" >&2)
  for tool in "$work"/packages/*.deb; do dpkg-deb -x "$tool" "$work/root"; done
  loader=$(find "$work/root" -name 'ld-linux-*.so.*' -printf '%P\n' | head -n 1)
  rm -rf "$client.new"
  mkdir -p "$client.new/bin"
  mv "$work/root" "$client.new/root"
  for tool in pg_dump pg_restore psql; do
    cat >"$client.new/bin/$tool" <<END
#!/bin/sh
root=\$(dirname -- "\$(readlink -f -- "\$0")")/../root
exec "\$root/$loader" --library-path "\$root/usr/lib/$(uname -m)-linux-gnu:\$root/lib/$(uname -m)-linux-gnu" \\
  --argv0 "\$0" "\$root/usr/lib/postgresql/$client_major/bin/$tool" "\$@"
END
    chmod +x "$client.new/bin/$tool"
  done
  rm -rf "$work"
  chmod -R a+rX "$client.new"
  mv "$client.new" "$client"
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

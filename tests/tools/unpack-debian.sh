#!/usr/bin/env bash
# Fetches a program of another Debian suite with all its libraries and unpacks it beside the libc it was linked with;
# nothing is installed. usage: unpack-debian.sh SUITE PREFIX PACKAGE DIRECTORY PROGRAM...
# PREFIX/bin/PROGRAM then starts DIRECTORY/PROGRAM of the package (DIRECTORY: usr/bin). Signed lists, Debian only.
set -euo pipefail
suite=$1 prefix=$2 package=$3 directory=$4
shift 4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists/partial,cache/archives/partial,packages,root}
mirror=$(apt-get indextargets --format "\$(REPO_URI)" 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
[ -n "$mirror" ] || { echo "unpack-debian: no Debian mirror in apt's sources: $package can't be fetched" >&2; exit 1; }
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$work/sources.list"
: >"$work/status"   # nothing is installed, as far as this apt knows: it then names every library
options=(-o "Dir::State::Lists=$work/lists" -o "Dir::State::status=$work/status" -o "Dir::Cache=$work/cache"
         -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
         -o APT::Install-Recommends=0 -o Acquire::Languages=none -o APT::Sandbox::User=root)
apt-get -qq "${options[@]}" update >&2
mapfile -t packages < <(apt-get "${options[@]}" -s install "$package" 2>/dev/null | awk '/^Inst/ { print $2 }' |
  grep -E "^($package|lib.*)$" | grep -vE '^lib(perl|.*-perl|debconf|.*debconfclient)')
(cd "$work/packages" && apt-get -qq "${options[@]}" download "${packages[@]}" >&2)
for deb in "$work"/packages/*.deb; do dpkg-deb -x "$deb" "$work/root"; done
loader=$(find "$work/root" -name 'ld-linux-*.so.*' -printf '%P\n' | head -n 1)
rm -rf "$prefix.new"
mkdir -p "$prefix.new/bin"
mv "$work/root" "$prefix.new/root"
for program; do
  cat >"$prefix.new/bin/$program" <<END
#!/bin/sh
root=\$(dirname -- "\$(readlink -f -- "\$0")")/../root
exec "\$root/$loader" --library-path "\$root/usr/lib/$(uname -m)-linux-gnu:\$root/lib/$(uname -m)-linux-gnu" \\
  --argv0 "\$0" "\$root/$directory/$program" "\$@"
END
  chmod +x "$prefix.new/bin/$program"
done
chmod -R a+rX "$prefix.new"
mv "$prefix.new" "$prefix"

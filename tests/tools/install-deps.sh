#!/usr/bin/env bash
# Installs from the distribution's packages what is missing, and says what. Skips what is there.
# usage: install-deps.sh [--print] [build|compile|check|fuzz|docker]...
# build = compile (compilers and libraries) and the servers that the tests and the demo start
set -euo pipefail

compile=(make g++ cmake ninja-build pkg-config libpq-dev libboost-program-options-dev libprotobuf-dev protobuf-compiler
         libspdlog-dev doctest-dev libyaml-cpp-dev libzstd-dev)
servers=(postgresql postgresql-contrib pgbouncer)
fast=(ccache lld)   # nobody fails for the lack of these
check=(clang-format-14 clang-tidy-14 shellcheck)
fuzz=(clang llvm)
docker=(docker.io docker-compose debootstrap)

say() { printf 'install-deps: %s\n' "$*" >&2; }
# A package counts as present too where another one provides it (newer distributions merge some).
present() {
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ] ||
    dpkg-query -W -f='${db:Status-Status}, ${Provides}\n' |
    awk -F ', *' -v want="$1" '$1 == "installed" { for (i = 2; i <= NF; i++) { sub(/ \(.*/, "", $i); if ($i == want) found = 1 } }
                               END { exit !found }'
}

print_only=false
if [ "${1:-}" = --print ]; then
  print_only=true
  shift
fi
wanted=() optional=()
for group in "${@:-build}"; do
  case $group in
    build) wanted+=("${compile[@]}" "${servers[@]}"); optional+=("${fast[@]}") ;;
    compile) wanted+=("${compile[@]}"); optional+=(lld) ;;
    check) wanted+=("${check[@]}") ;;
    fuzz) wanted+=("${fuzz[@]}") ;;
    docker) wanted+=("${docker[@]}") ;;
    *) say "unknown group \"$group\": build, compile, check, fuzz or docker"; exit 2 ;;
  esac
done
if $print_only; then
  printf '%s\n' "${wanted[@]}" ${optional[@]+"${optional[@]}"}
  exit 0
fi

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  say "not a Debian or Ubuntu system; what is needed, by Debian's names: ${wanted[*]}"
  exit 0   # they may be there under other names: cmake will tell
fi

missing=()
for package in "${wanted[@]}" ${optional[@]+"${optional[@]}"}; do
  present "$package" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

sudo=()
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null; then
    needed=()
    for package in "${missing[@]}"; do
      [[ " ${optional[*]-} " == *" $package "* ]] || needed+=("$package")
    done
    [ ${#needed[@]} -gt 0 ] || exit 0   # only what would make it faster
    say "missing packages: ${needed[*]}"
    say "HINT: as root: apt-get update && apt-get install ${needed[*]}"
    exit 1
  fi
  sudo=(sudo)
fi
say "installing: ${missing[*]}"
apt_get() { ${sudo[@]+"${sudo[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" >&2; }
apt_get update

# A newer distribution has no clang-format-14: take its own, and let the caller judge by the version.
available=()
for package in "${missing[@]}"; do
  if apt-cache show "$package" >/dev/null 2>&1; then
    available+=("$package")
  elif [[ $package == clang-*-14 ]]; then
    say "no package $package here; installing ${package%-14}"
    available+=("${package%-14}")
  elif [[ " ${optional[*]-} " == *" $package "* ]]; then
    say "no package $package here; going on without it"
  else
    available+=("$package")   # apt-get's own message says what is wrong with it
  fi
done
apt_get install -y --no-install-recommends "${available[@]}" </dev/null
say "done"

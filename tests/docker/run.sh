#!/usr/bin/env bash
# Runs docker/compose.yaml, the demo in containers, on a real engine: the machine's own where one answers, else a
# private one where this user may start dockerd. Where no engine can run it says so loudly and ends with 0, or with
# 77 under STRICT=1.
# Images that can't be pulled are built from the distribution's packages and given the names that compose.yaml uses,
# so that the shipped files are run unchanged.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
root=$PWD
work=$(mktemp -d /var/tmp/pgcutover-docker.XXXXXX)
private_engine=""
project=pgcutover-test-$$

say() { printf 'docker-test: %s\n' "$*" >&2; }
skip() {
  say "****************************************************************"
  say "SKIPPED: $*"
  say "****************************************************************"
  [ -z "${STRICT:-}" ] || exit 77
  exit 0
}

compose() {
  if docker compose version >/dev/null 2>&1; then
    docker compose -p "$project" -f docker/compose.yaml "$@"
  else
    docker-compose -p "$project" -f docker/compose.yaml "$@"
  fi
}

cleanup() {
  local code=$?
  if docker info >/dev/null 2>&1; then
    compose down --volumes --timeout 2 >"$work/down.log" 2>&1 || cat "$work/down.log" >&2
  fi
  if [ -n "$private_engine" ]; then
    kill "$private_engine" 2>/dev/null || true
    wait "$private_engine" 2>/dev/null || true
    umount "$work/exec/netns/default" 2>/dev/null || true
    ip link del docker0 2>/dev/null || true
  fi
  rm -rf "$work"
  exit $code
}

start_private_engine() {
  command -v dockerd >/dev/null || skip "no docker engine answers and dockerd isn't installed (tests/tools/install-deps.sh docker)"
  [ "$(id -u)" = 0 ] || skip "no docker engine answers, and only root could start one"
  export DOCKER_HOST=unix://$work/docker.sock
  # Limits that a machine without CAP_SYS_RESOURCE can give to containers.
  dockerd --data-root "$work/root" --exec-root "$work/exec" -H "$DOCKER_HOST" -p "$work/pid" \
    --default-ulimit nofile=20000:20000 --default-ulimit nproc=4096:4096 >"$work/log" 2>&1 </dev/null &
  private_engine=$!
  local tries
  for ((tries = 0; tries < 150; tries++)); do
    docker info >/dev/null 2>&1 && return
    kill -0 "$private_engine" 2>/dev/null || break
    sleep 0.2   # polls a stated condition, with a limit
  done
  tail -n 5 "$work/log" >&2
  skip "dockerd doesn't start here"
}

# The base image, from the distribution this machine runs, where it can't be pulled.
base_image() {
  local name=$1 suite mirror
  docker image inspect "$name" >/dev/null 2>&1 && return
  timeout 60 docker pull -q "$name" >/dev/null 2>&1 && return
  command -v debootstrap >/dev/null || skip "$name can't be pulled and debootstrap isn't installed"
  suite=${name#debian:}
  suite=${suite%-slim}
  mirror=$(apt-get indextargets --format "\$(REPO_URI)" 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
  say "$name can't be pulled: made by debootstrap"
  debootstrap --variant=minbase "$suite" "$work/base" "$mirror" >"$work/debootstrap.log" 2>&1 ||
    { tail -n 5 "$work/debootstrap.log" >&2; skip "debootstrap fails here"; }
  tar -C "$work/base" -c . | docker import - "$name" >/dev/null
  rm -rf "$work/base"
}

# postgres:N, from the distribution's package of whatever major it has.
postgres_image() {
  local name=$1
  docker image inspect "$name" >/dev/null 2>&1 && return
  timeout 60 docker pull -q "$name" >/dev/null 2>&1 && return
  say "$name can't be pulled: a stand-in from the distribution's package"
  docker build -q --network=host --build-arg "BASE=$base" -t "$name" tests/docker/postgres >/dev/null
}

trap cleanup EXIT
trap 'exit 130' INT TERM
command -v docker >/dev/null || skip "docker isn't installed (tests/tools/install-deps.sh docker)"
docker info >/dev/null 2>&1 || start_private_engine
docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null || skip "docker compose isn't installed"

export DOCKER_BUILDKIT=${DOCKER_BUILDKIT:-0}   # the plain builder is in every engine
base=$(sed -n 's/^ARG BASE=//p' docker/Dockerfile)
base_image "$base"
mapfile -t servers < <(sed -n 's/.*image: *\(postgres:.*\)/\1/p' docker/compose.yaml | sort -u)
for name in "${servers[@]}"; do
  postgres_image "$name"
done
for target in runtime demo pgbouncer; do
  say "building $target"
  docker build --network=host -f docker/Dockerfile --target "$target" -t "pgcutover-$target" "$root" >"$work/build.log" 2>&1 ||
    { tail -n 40 "$work/build.log" >&2; say "FAILED: building $target"; exit 1; }
done

say "the tool's image answers as nobody in particular"
docker run --rm pgcutover-runtime --version
[ "$(docker run --rm --entrypoint id pgcutover-runtime -u)" != 0 ] || { say "FAILED: the tool's image runs as root"; exit 1; }

say "the demo"
if ! compose up --no-build --abort-on-container-exit --exit-code-from demo; then
  say "FAILED: the demo in containers"
  exit 1
fi
say "1 passed, 0 failed"

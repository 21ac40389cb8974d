#!/usr/bin/env bash
# Runs every measurement of a build directory (ctest label bench), one at a time. usage: bench.sh BUILD_DIR [ctest options]
set -euo pipefail
dir=$1
shift
echo "bench: $(uname -srm), $(nproc) cores, $(awk -F ': ' '/model name/{print $2; exit}' /proc/cpuinfo)"
ctest --test-dir "$dir" --verbose --no-tests=error -j 1 -L bench "$@"

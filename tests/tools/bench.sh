#!/usr/bin/env bash
# Measures, with the build directory's programs: tests labelled bench where there are some, then the demo a few times:
# write pauses and the clients' longest stalls. usage: bench.sh BUILD_DIR [ROUNDS [demo options]]
set -euo pipefail
dir=$1
shift
echo "bench: $(uname -srm), $(nproc) cores,$(awk -F ':' '/model name/{print $2; exit}' /proc/cpuinfo)"
ctest --test-dir "$dir" --verbose -j 1 -L bench
[ $# -gt 0 ] || set -- 3
exec "$(dirname "$0")/soak.sh" "$dir" "$@"

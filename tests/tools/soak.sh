#!/usr/bin/env bash
# The demo again and again; stops at the first round that fails. Ends with the pauses of every round.
# usage: soak.sh BUILD_DIR [ROUNDS [demo options]]
set -euo pipefail
dir=$1
rounds=${2:-10}
shift
[ $# = 0 ] || shift
log=$(mktemp -d "${TMPDIR:-/tmp}/pgcutover-soak.XXXXXX")
for ((round = 1; round <= rounds; round++)); do
  begin=$SECONDS
  if ! "$(dirname "$0")/demo.sh" "$dir" "$@" >"$log/$round" 2>&1; then
    tail -n 60 "$log/$round"
    echo "soak: round $round of $rounds FAILED; its whole output is $log/$round"
    exit 1
  fi
  printf 'soak: round %d of %d passed in %d s\n' "$round" "$rounds" $((SECONDS - begin))
  sed -nE 's/^(switch|rollback) +([0-9]+ ms) +([0-9]+ ms)$/soak:   \1: write pause \2, longest client stall \3/p' "$log/$round"
done
echo "soak: $rounds passed, 0 failed"
rm -rf "$log"

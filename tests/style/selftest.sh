#!/usr/bin/env bash
# Proves that style.sh can fail: for each rule a small tree with exactly one breach must be refused for that rule, and
# the same tree without it must pass.
set -euo pipefail
style=$(dirname "$(readlink -f "$0")")/style.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

good_tree() {
  rm -rf "$work/tree"
  mkdir -p "$work"/tree/{replication/{base,postgres,pgoutput,catalog,stream,apply},sequences,cutover/{plan,state,steps,cli},tests/unit}
  cd "$work/tree"
  for room in replication/{base,postgres,pgoutput,catalog,stream,apply} sequences cutover/{plan,state,steps,cli}; do
    printf '#pragma once\n#include <string>\n' >"$room/x.h"
  done
  printf '#include "replication/base/x.h"\n#include <libpq-fe.h>\n' >replication/postgres/x.cc
  printf '#include "replication/stream/x.h"\n#include "replication/pgoutput/x.h"\n' >replication/apply/x.cc
  printf '#include <spdlog/spdlog.h>\n' >replication/base/log.cc
  printf '#include "cutover/steps/x.h"\n#include <boost/program_options.hpp>\n' >cutover/cli/x.cc
  printf '#include "cutover/state/pgcutover.pb.h"\n' >cutover/state/x.cc
}
# verdict NAME EXPECTED: EXPECTED is a rule, or "clean".
verdict() {
  local output code=0
  output=$("$style" "$work/tree" 5 2>&1) || code=$?
  if { [ "$2" = clean ] && [ $code = 0 ]; } ||
     { [ "$2" != clean ] && [ $code = 1 ] && grep -q "\[$2\]" <<<"$output" && grep -q ' 1 breaches' <<<"$output"; }; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'selftest: %s: wanted %s, exit code %d:\n%s\n' "$1" "$2" "$code" "$output" >&2
  fi
}
refuses() {  # refuses RULE FILE TEXT...
  good_tree
  printf '%b\n' "${@:3}" >>"$2"
  verdict "$2: ${*:3}" "$1"
}

good_tree
verdict "a tree that keeps every rule" clean
refuses arrow replication/base/y.cc '#include "replication/postgres/x.h"'
refuses arrow replication/pgoutput/y.cc '#include "replication/postgres/x.h"'
refuses arrow replication/stream/y.cc '#include "replication/apply/x.h"'
refuses arrow replication/catalog/y.cc '#include "cutover/plan/x.h"'
refuses arrow sequences/y.cc '#include "replication/stream/x.h"'
refuses arrow cutover/plan/y.cc '#include "cutover/steps/x.h"'
refuses arrow cutover/plan/y.cc '#include "cutover/state/x.h"'
refuses arrow cutover/steps/y.cc '#  include "cutover/cli/x.h"'
refuses include replication/apply/y.cc '#include "row.h"'
refuses libpq replication/stream/y.cc '#include <libpq-fe.h>'
refuses libpq tests/unit/y.cc '#include <postgresql/libpq-fe.h>'
refuses spdlog cutover/steps/y.cc '#include <spdlog/fmt/fmt.h>'
refuses options cutover/plan/y.cc '#include <boost/program_options.hpp>'
refuses protobuf cutover/state/y.h '#pragma once\n#include "cutover/state/pgcutover.pb.h"'
refuses pragma cutover/plan/y.h '#include <string>'
refuses tab cutover/plan/y.cc 'int\tx;'
good_tree
mkdir replication/unheard
printf '#include "replication/base/x.h"\n' >replication/unheard/y.cc
verdict "a room that the table doesn't know" arrow
good_tree
seq 601 | sed 's,^,// ,' >cutover/plan/y.cc
verdict "a file of 601 lines" length
good_tree
seq 600 | sed 's,^,// ,' >cutover/plan/y.cc
verdict "a file of 600 lines" clean
good_tree
find . -name '*.cc' -delete -o -name '*.h' -delete
empty_code=0
"$style" "$work/tree" 5 >/dev/null 2>&1 || empty_code=$?
if [ $empty_code = 1 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "selftest: an empty tree passed" >&2; fi

echo "style selftest: $passed passed, $failed failed"
[ $failed = 0 ]

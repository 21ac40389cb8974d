#!/usr/bin/env bash
# The integration tests and the demo on pairs of PostgreSQL versions; fetches the servers first. Ends with one line a pair.
# usage: matrix.sh BUILD_DIR [SOURCE:TARGET...]      (TESTS=regex picks some tests, JOBS=N runs so many at once)
set -euo pipefail
dir=$1
shift
pairs=("$@")
[ ${#pairs[@]} -gt 0 ] || pairs=(12:13 13:14 14:15 15:16 16:17 17:18 12:18 18:18)

while IFS= read -r line; do
  export "${line?}"
done < <("$(dirname "$0")/fetch-servers.sh")
[ -n "${PGCUTOVER_TEST_PG_12:-}" ] || { echo "matrix: no servers were fetched" >&2; exit 1; }
[ -z "${PGCUTOVER_TEST_CLIENT:-}" ] || export PATH="$PGCUTOVER_TEST_CLIENT:$PATH"

passed=0 failed=0 summary=""
for pair in "${pairs[@]}"; do
  begin=$SECONDS verdict=passed
  export PGCUTOVER_TEST_SOURCE_VERSION=${pair%:*} PGCUTOVER_TEST_TARGET_VERSION=${pair#*:}
  echo "== matrix: PostgreSQL $PGCUTOVER_TEST_SOURCE_VERSION to $PGCUTOVER_TEST_TARGET_VERSION"
  if ctest --test-dir "$dir" --output-on-failure --no-tests=error -j "${JOBS:-$(nproc)}" -L integration -R "${TESTS:-.}" &&
    "$(dirname "$0")/demo.sh" "$dir"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1)) verdict=FAILED
  fi
  summary+=$(printf '\nmatrix: %8s  %s in %d s' "$pair" "$verdict" $((SECONDS - begin)))
done
echo "$summary"
echo "$passed passed, $failed failed"
[ $failed = 0 ]

#!/usr/bin/env bash
# libFuzzer over every decoder, SECONDS_EACH (60) each; a crash leaves its input beside the corpus and fails.
set -euo pipefail
cd "$(dirname "$0")/../.."
cmake --preset fuzz
cmake --build build/fuzz --target help | sed -n 's/^\(fuzz_[a-z0-9_]*\): phony.*/\1/p' | xargs -r cmake --build build/fuzz --target
found=0
while IFS= read -r -d '' fuzzer; do
  found=$((found + 1))
  name=$(basename "$fuzzer")
  mkdir -p "build/fuzz/corpus/$name"
  echo "fuzz: $name, ${SECONDS_EACH:-60} s"
  "$fuzzer" -max_total_time="${SECONDS_EACH:-60}" -max_len=65536 -print_final_stats=1 \
    -artifact_prefix="build/fuzz/corpus/$name-" "build/fuzz/corpus/$name"
done < <(find build/fuzz/tests/fuzz -maxdepth 1 -type f -name 'fuzz_*' -perm -u+x -print0)
[ $found -gt 0 ] || { echo "fuzz: no fuzzer was built" >&2; exit 1; }
echo "fuzz: $found passed, 0 failed"

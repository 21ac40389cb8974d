#!/usr/bin/env bash
# clang-tidy over every .cc file of a configured build directory, or over the files named.
# usage: tidy.sh BUILD_DIR [FILE...]
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=$1
shift
tool=$(command -v clang-tidy-14 || command -v clang-tidy) || { echo "tidy: clang-tidy is missing" >&2; exit 1; }
# Generated headers (protobuf) must be there before anything that includes them can be parsed.
if ninja -C "$dir" -t targets all | grep -q '\.pb\.h: '; then
  ninja -C "$dir" -t targets all | sed -n 's/\(.*\.pb\.h\): .*/\1/p' | xargs -r ninja -C "$dir" >/dev/null
fi
files=("$@")
if [ ${#files[@]} = 0 ]; then
  mapfile -t files < <(find cutover replication sequences tests -name '*.cc' | sort)
fi
printf '%s\0' "${files[@]}" | xargs -0 -n 1 -P "$(nproc)" "$tool" -p "$dir" --quiet --warnings-as-errors='*'
echo "tidy: ${#files[@]} files"

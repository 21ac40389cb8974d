#!/usr/bin/env bash
# Is every C++ file as clang-format would have it? FIX=1 formats them.
set -euo pipefail
cd "$(dirname "$0")/../.."
# The version the files were formatted with; others differ in details.
tool=$(command -v clang-format-14 || command -v clang-format) || { echo "format: clang-format is missing" >&2; exit 1; }
mapfile -d '' -t files < <(find cutover replication sequences tests \( -name '*.h' -o -name '*.cc' \) -print0)
[ ${#files[@]} -gt 0 ] || { echo "format: found no file" >&2; exit 1; }
if [ -n "${FIX:-}" ]; then
  "$tool" -i "${files[@]}"
elif ! "$tool" --dry-run -Werror --ferror-limit=3 "${files[@]}"; then
  case $("$tool" --version) in
    *"version 14."*) echo "format: HINT: make format FIX=1" >&2; exit 1 ;;
    *) echo "format: not counted: the files are formatted with version 14, this is $("$tool" --version)" >&2 ;;
  esac
fi
echo "format: ${#files[@]} files as they should be"

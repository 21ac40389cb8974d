#!/usr/bin/env bash
# Do the documents say what the code says? Exit codes, verbs, plan keys and findings' names that a user can meet must be
# documented, links must lead somewhere, tests that are named must exist.
# usage: docs.sh ROOT
set -euo pipefail
cd "$1"
breaches=0
missing() {
  printf 'docs: %s\n' "$*"
  breaches=$((breaches + 1))
}
# words FILE... : what sed prints must not be empty, or the search itself is broken
words() {
  local found
  found=$(cat)
  [ "$(wc -w <<<"$found")" -ge "$1" ] || { echo "docs: found too little of what $2 should have" >&2; exit 1; }
  printf '%s\n' "$found"
}

codes=$(sed -n '/^enum class ExitCode/,/^};/s/.* = \([0-9]*\),.*/\1/p' replication/base/error.h | words 8 "error.h")
for code in $codes; do
  grep -q "^| $code |" README.md || missing "README.md: exit code $code (replication/base/error.h) is not in the table"
done

keys=$(sed -nE 's/.*\b(text|texts|flag|choice|duration|integer|connection|address|list|map|later|command_field)\( *"([a-z_-]+)".*/\2/p' \
  cutover/plan/schema.cc | sort -u | words 20 "cutover/plan/schema.cc")
for key in $keys; do
  grep -Eq "([\`.{ ]|^### )${key}([\`,:}]|$)" docs/plan-file.md || missing "docs/plan-file.md: key $key (cutover/plan/schema.cc) is missing"
done

findings=$(sed -n '/finding_kinds()/,/^}/s/^ *{"\([a-z-]*\)",.*/\1/p' cutover/check/check.cc | sort -u | words 20 "cutover/check/check.cc")
for id in $findings; do
  grep -q "\`$id\`" docs/findings.md || missing "docs/findings.md: finding $id (cutover/check/check.cc) is missing"
done

# Names of tests may go over several lines, and have escaped quotes.
tests=$(find tests -name '*.cc' -print0 | xargs -0 cat | tr '\n' ' ' | sed -E 's/" +"//g' |
  grep -oE '((TEST_CASE|SUBCASE)\( *|\{)"([^"\\]|\\.)*"' | sed -E 's/^[^"]*"//; s/"$//; s/\\(.)/\1/g' | words 500 "tests")
named=0
while IFS='|' read -r _ _ _ name _; do
  name=$(sed -E 's/^ +| +$//g' <<<"$name")
  named=$((named + 1))
  grep -qxF -- "$name" <<<"$tests" || missing "docs/guarantees.md: there is no test '$name'"
done < <(sed -n '/^## Known failures/,/^## How/p' docs/guarantees.md | grep '^| ' | tail -n +2)
[ $named -ge 40 ] || { echo "docs: found only $named known failures" >&2; exit 1; }

links=0
while IFS=: read -r file target; do
  links=$((links + 1))
  [ -e "$(dirname "$file")/${target%%#*}" ] || missing "$file: link to $target leads nowhere"
done < <(grep -oHE '\]\([^)#:]+(#[^)]*)?\)' README.md CONTRIBUTING.md docs/*.md | sed -E 's/\]\(([^)]*)\)/\1/')
[ $links -ge 8 ] || { echo "docs: found only $links links" >&2; exit 1; }

echo "docs: $(wc -w <<<"$codes") exit codes, $(wc -w <<<"$keys") plan keys, $(wc -w <<<"$findings") findings, $links links, $named known failures, $breaches breaches"
[ $breaches = 0 ]

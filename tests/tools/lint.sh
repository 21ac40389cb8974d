#!/usr/bin/env bash
# The house's own rules (tests/style) and shellcheck over every script.
set -euo pipefail
cd "$(dirname "$0")/../.."
tests/style/style.sh .
tests/style/selftest.sh
tests/style/docs.sh .
mapfile -d '' -t scripts < <(find tests docker -name '*.sh' -print0)
shellcheck .ci/run "${scripts[@]}"
echo "lint: shellcheck has nothing to say about $((${#scripts[@]} + 1)) scripts"

#!/usr/bin/env bash
# Runs the demo that a build directory holds. usage: demo.sh BUILD_DIR [demo options]
set -euo pipefail
dir=$1
shift
exec "$(find "$dir" -type f -name pgcutover_demo -perm -u+x | head -n 1)" "$@"

#!/usr/bin/env bash
# The house's rules that a compiler can't check. Prints each breach as FILE:LINE: [rule] text; exit 1 where there is one.
#   arrow    an include against the order of the rooms, or of a room that the table below doesn't know
#   include  a quoted include that isn't relative to the root
#   libpq    libpq outside replication/postgres          spdlog   spdlog outside replication/base/log.cc
#   options  Boost.Program_options outside cutover/cli   protobuf a *.pb.h in a header
#   length   a file over 600 lines                       pragma   a header without #pragma once
#   tab      a tab in a C++ file
# usage: style.sh ROOT [FILES_MIN]
set -euo pipefail
cd "$1"
files_min=${2:-20}   # fewer files than this means that the search is broken, not that the tree is clean

mapfile -d '' -t files < <(find cutover replication sequences tests \( -name '*.h' -o -name '*.cc' \) -print0 2>/dev/null | sort -z)
if [ ${#files[@]} -lt "$files_min" ]; then
  echo "style: found only ${#files[@]} C++ files under $PWD" >&2
  exit 1
fi

awk '
  BEGIN {
    # Who may include whom. A room may always include itself.
    b = "replication/base"; p = b " replication/postgres"; c = p " replication/catalog"
    may["replication/base"] = ""
    may["replication/postgres"] = b
    may["replication/pgoutput"] = b
    may["replication/journal"] = b
    may["replication/catalog"] = p
    may["replication/snapshot"] = c
    may["replication/verify"] = c
    may["sequences"] = c
    may["replication/stream"] = c " replication/pgoutput replication/journal"
    may["replication/apply"] = c " replication/pgoutput replication/stream"
    below = c " replication/pgoutput replication/journal replication/snapshot replication/verify replication/stream" \
              " replication/apply sequences"
    may["cutover/plan"] = below
    may["cutover/state"] = below
    middle = below " cutover/plan cutover/state"
    may["cutover/traffic"] = middle
    may["cutover/check"] = middle
    may["cutover/report"] = middle
    upper = middle " cutover/traffic cutover/check cutover/report"
    may["cutover/steps"] = upper
    may["cutover/cli"] = upper " cutover/steps"
  }

  # The room a path lies in: replication/x and cutover/x, sequences as a whole, tests free of arrows.
  function room_of(path,   parts) {
    split(path, parts, "/")
    if (parts[1] == "replication" || parts[1] == "cutover") return parts[1] "/" parts[2]
    return parts[1]
  }
  function breach(rule, text) {
    printf "%s:%d: [%s] %s\n", FILENAME, FNR, rule, text
    breaches++
  }
  function close_file() {
    if (file == "") return
    if (lines > 600) { printf "%s:%d: [length] %d lines; 600 is the limit\n", file, lines, lines; breaches++ }
    if (file ~ /\.h$/ && !pragma) { printf "%s:1: [pragma] no #pragma once\n", file; breaches++ }
  }

  FNR == 1 { close_file(); file = FILENAME; room = room_of(FILENAME); pragma = 0; checked++ }
  { lines = FNR }
  /^#pragma once/ { pragma = 1 }
  /\t/ { breach("tab", "a tab") }

  /^[ ]*#[ ]*include/ {
    includes++
    quoted = match($0, /"[^"]*"/)
    if (!quoted && !match($0, /<[^>]*>/)) next
    name = substr($0, RSTART + 1, RLENGTH - 2)
    if (name ~ /(^|\/)(libpq-fe|libpq\/.*|pg_config|postgres_ext|libpq-events)\.h$/ && room != "replication/postgres")
      breach("libpq", name " outside replication/postgres")
    if (name ~ /^spdlog\// && FILENAME != "replication/base/log.cc")
      breach("spdlog", name " outside replication/base/log.cc")
    if (name ~ /^boost\/program_options/ && room != "cutover/cli")
      breach("options", name " outside cutover/cli")
    if (name ~ /\.pb\.h$/ && FILENAME ~ /\.h$/)
      breach("protobuf", name " in a header")
    if (!quoted || name ~ /\.pb\.h$/ && name !~ /\//) next

    if (name !~ /^(replication|cutover|sequences|tests)\//) {
      breach("include", "\"" name "\" is not relative to the root")
      next
    }
    if (room == "tests") next
    other = room_of(name)
    if (!(room in may))
      breach("arrow", "room " room " is not in the table of tests/style/style.sh")
    else if (other != room && index(" " may[room] " ", " " other " ") == 0)
      breach("arrow", room " must not include " name)
  }

  END {
    close_file()
    if (includes == 0) { print "style: saw no include at all"; exit 1 }
    printf "style: %d files, %d includes, %d breaches\n", checked, includes, breaches
    exit breaches > 0
  }
' "${files[@]}"

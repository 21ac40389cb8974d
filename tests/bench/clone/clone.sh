#!/usr/bin/env bash
# The first copy, measured side by side on two throw-away clusters of this machine: `pgcutover run`, pgcopydb,
# pg_dump | pg_restore, a native subscription, and the floor: bare COPY pipes.
#
# usage: clone.sh BUILD_DIR [--set pgbench|wide|small|bare] [--scale N] [--tables N] [--runs N] [--tools "A B"]
#                 [--dir DIR] [--report] [--clean]
#   --set     pgbench: accounts with a primary key and two more indexes, foreign keys; wide: one table of every common
#             type, as large; small: N tables of 100 rows; bare: pgbench and wide without any index (the data phase)
#   --tools   of: pgcutover pgcopydb dump subscription floor; one round runs them one after the other
#   --dir     where the clusters live (default: a new directory, removed at the end; a given one is kept and used again)
#   --report  only prints the medians of what DIR/results.csv holds
# PGCUTOVER_BENCH_ARGS: more options for `pgcutover run`. PGCOPYDB: its program (default: PATH, then what
# `unpack-debian.sh sid` fetched). Servers refuse to run as root: they run as user postgres then.
set -euo pipefail
build=$(readlink -f "$1")
shift
sets="pgbench wide small bare" scale=5 tables=500 runs=1 tools="" dir="" report="" clean="" jobs=2
while [ $# -gt 0 ]; do
  case $1 in
    --set) sets=$2; shift ;;
    --scale) scale=$2; shift ;;
    --tables) tables=$2; shift ;;
    --runs) runs=$2; shift ;;
    --tools) tools=$2; shift ;;
    --dir) dir=$2; shift ;;
    --report) report=1 ;;
    --clean) clean=1 ;;
    *) echo "clone.sh: unknown option $1" >&2; exit 2 ;;
  esac
  shift
done
owner=postgres
[ "$(id -u)" = 0 ] || owner=$(id -un)
as_owner() { if [ "$(id -u)" = 0 ]; then runuser -u "$owner" -- "$@"; else "$@"; fi; }
pgbin=${PGCUTOVER_BENCH_PGBIN:-$(pg_config --bindir 2>/dev/null || true)}
[ -x "$pgbin/initdb" ] || pgbin=$(find /usr/lib/postgresql/*/bin -name initdb -printf '%h\n' | sort -V | tail -n 1)
export PATH="$pgbin:$PATH" LC_ALL=C PGUSER=postgres
pgcopydb=${PGCOPYDB:-$(command -v pgcopydb || true)}
fetched=${PGCUTOVER_CACHE:-/var/cache}/pgcutover/pgcopydb-sid/bin/pgcopydb
[ -n "$pgcopydb" ] || { [ ! -x "$fetched" ] || pgcopydb=$fetched; }

keep=$dir
[ -n "$dir" ] || dir=$(mktemp -d)
mkdir -p "$dir"
dir=$(readlink -f "$dir")
results=$dir/results.csv
source_port=5501 target_port=5502

stop_servers() {
  local side
  for side in source target; do
    [ ! -f "$dir/$side/postmaster.pid" ] || as_owner pg_ctl -s -w -m fast -D "$dir/$side" stop || true
  done
}
finish() {
  stop_servers
  if [ -z "$keep" ] || [ -n "$clean" ]; then rm -rf "$dir"; fi
}

print_report() {
  awk -F , '
    { key = $1 " " $2; if (!(key in n)) { order[++kinds] = key; set[kinds] = $1; tool[kinds] = $2 }
      i = ++n[key]; wall[key, i] = $4; s[key, i] = $5; t[key, i] = $6; own[key, i] = $7; copy[key, i] = $8 }
    function median(a, key,   i, j, v, c, x) {
      c = n[key]
      for (i = 1; i <= c; i++) v[i] = a[key, i] + 0
      for (i = 2; i <= c; i++) for (j = i; j > 1 && v[j - 1] > v[j]; j--) { x = v[j]; v[j] = v[j - 1]; v[j - 1] = x }
      return c % 2 ? v[(c + 1) / 2] : (v[c / 2] + v[c / 2 + 1]) / 2
    }
    END {
      for (k = 1; k <= kinds; k++) if (tool[k] == "pgcutover") ours[set[k]] = median(wall, order[k])
      printf "%-8s %-13s %5s %9s %20s %16s %11s\n", "set", "tool", "runs", "median s", "CPU s source/target", "CPU s tool", "ours/theirs"
      for (k = 1; k <= kinds; k++) {
        m = median(wall, order[k])
        printf "%-8s %-13s %5d %9.2f %11.1f / %6.1f %16.1f", set[k], tool[k], n[order[k]], m, median(s, order[k]), median(t, order[k]), median(own, order[k])
        if (tool[k] != "pgcutover" && (set[k] in ours)) printf " %11.2f", ours[set[k]] / m
        c = median(copy, order[k])
        if (c > 0) printf "   rows alone %.2f", c
        print ""
      }
    }' "$results"
}
if [ -n "$report" ]; then print_report; exit; fi
trap finish EXIT
[ -z "$clean" ] || exit 0

source_sql() { psql -XqAt -v ON_ERROR_STOP=1 -h "$dir" -p $source_port -d "$1" -c "$2"; }
target_sql() { psql -XqAt -v ON_ERROR_STOP=1 -h "$dir" -p $target_port -d "$1" -c "$2"; }

start_servers() {
  chmod 755 "$dir"
  [ "$(id -u)" != 0 ] || chown "$owner" "$dir"
  local side port
  for side in source target; do
    port=$([ $side = source ] && echo $source_port || echo $target_port)
    if [ ! -d "$dir/$side" ]; then
      as_owner initdb -D "$dir/$side" -A trust -U postgres --locale=C.UTF-8 -E UTF8 >/dev/null
      as_owner tee -a "$dir/$side/postgresql.conf" >/dev/null <<END
port = $port
unix_socket_directories = '$dir'
listen_addresses = ''
wal_level = logical
max_wal_senders = 20
max_replication_slots = 20
max_worker_processes = 20
max_logical_replication_workers = 8
shared_buffers = 1GB
max_wal_size = 16GB
checkpoint_timeout = 30min
max_connections = 100
max_locks_per_transaction = 256
fsync = on
synchronous_commit = on
autovacuum = off
END
    fi
    [ -f "$dir/$side/postmaster.pid" ] || as_owner pg_ctl -s -w -D "$dir/$side" -l "$dir/$side.log" start
  done
}

# An identical table as large as pgbench_accounts of the same scale, about a quarter of the rows.
wide_sql() {
  cat <<END
CREATE TABLE wide (id bigint $1, a int, b smallint, n numeric(14,4), t text, v varchar(40), at timestamptz, d date,
  j jsonb, x bytea, u uuid, l int[], f float8, ok boolean, nothing text);
INSERT INTO wide SELECT i, (i * 7919) % 1000000, i % 30000, i / 7.0, md5(i::text) || repeat('x', (i % 60)::int),
  CASE WHEN i % 3 = 0 THEN NULL ELSE 'name ' || i END, '2026-01-01 UTC'::timestamptz + i * interval '1 s',
  '2020-01-01'::date + (i % 2000)::int, jsonb_build_object('k', i, 'tags', jsonb_build_array('a', i % 10)),
  decode(md5(i::text), 'hex'), md5(i::text)::uuid, ARRAY[i % 5, i % 7, 1]::int[], i * 1.5, i % 2 = 0, NULL
  FROM generate_series(1, $scale * 25000::bigint) i;
END
}

make_source() {   # set
  local db=bench_$1
  [ "$(source_sql postgres "SELECT count(*) FROM pg_database WHERE datname = '$db'")" = 0 ] || return 0
  echo "clone.sh: making the source of set $1" >&2
  source_sql postgres "CREATE DATABASE making"
  case $1 in
    pgbench)
      PGOPTIONS="-c synchronous_commit=off" pgbench -q -i -I dtgpf -s "$scale" -h "$dir" -p $source_port making 2>/dev/null
      source_sql making "CREATE INDEX accounts_bid ON pgbench_accounts (bid);
        CREATE INDEX accounts_balance ON pgbench_accounts (abalance, aid);
        ALTER TABLE pgbench_history ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY" ;;
    wide) wide_sql "PRIMARY KEY" | psql -Xq -h "$dir" -p $source_port making
      source_sql making "CREATE INDEX wide_at ON wide (at); CREATE INDEX wide_u ON wide (u)" ;;
    bare)
      PGOPTIONS="-c synchronous_commit=off" pgbench -q -i -I dtg -s "$scale" -h "$dir" -p $source_port making 2>/dev/null
      wide_sql "" | psql -Xq -h "$dir" -p $source_port making ;;
    small)
      local from
      for from in $(seq 1 500 "$tables"); do
        source_sql making "DO \$\$ BEGIN
          FOR i IN $from..least($from + 499, $tables) LOOP
            EXECUTE format('CREATE TABLE small_%s (id int PRIMARY KEY, name text NOT NULL DEFAULT %L, at timestamptz)', i, 'x');
            EXECUTE format('INSERT INTO small_%s SELECT n, md5(n::text), now() FROM generate_series(1, 100) n', i);
          END LOOP; END \$\$"
      done ;;
  esac
  source_sql making "VACUUM (ANALYZE, FREEZE)"
  source_sql postgres "ALTER DATABASE making RENAME TO $db"
}

uri() { echo "host=$dir port=$1 user=postgres dbname=$2"; }

wait_for_subscription() {   # database
  local deadline=$((SECONDS + 1800))
  while [ "$(target_sql "$1" "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'")" != 0 ]; do
    [ $SECONDS -lt $deadline ] || { echo "clone.sh: the subscription is not in sync after half an hour" >&2; return 1; }
    sleep 0.1   # between two looks
  done
}
post_data() {   # list filter: entries of the archive's post-data to restore
  pg_restore --section=post-data -l "$dir/scratch/schema" | grep -v '^;' | grep "$@" >"$dir/scratch/list" || true
  [ ! -s "$dir/scratch/list" ] ||
    PGOPTIONS="-c maintenance_work_mem=1GB" pg_restore -h "$dir" -p $target_port -j $jobs -d "$db" -L "$dir/scratch/list" "$dir/scratch/schema"
}
floor_tables() {   # the largest first
  source_sql "$db" "SELECT c.oid::regclass FROM pg_class c WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
    ORDER BY pg_table_size(c.oid) DESC"
}
copy_pipe() {   # table
  psql -Xq -h "$dir" -p $source_port "$db" -c "COPY $1 TO STDOUT (FORMAT binary)" |
    PGOPTIONS="-c synchronous_commit=off" psql -Xq -h "$dir" -p $target_port "$db" -c "COPY $1 FROM STDIN (FORMAT binary)"
}
# As many pipes as jobs, the largest table first.
floor_copy() {
  local table
  while read -r table; do
    while [ "$(jobs -rp | wc -l)" -ge $jobs ]; do wait -n; done
    copy_pipe "$table" &
  done < <(floor_tables)
  wait
}

run_tool() {   # tool; db is the database
  case $1 in
    pgcutover)
      # shellcheck disable=SC2086
      "$build/bin/pgcutover" run --source "$(uri $source_port "$db")" --target "$(uri $target_port "$db")" --name bench \
        --until foreign-keys --jobs $jobs --accept slot-runway --keyless full ${PGCUTOVER_BENCH_ARGS:-} ;;
    pgcopydb)
      "$pgcopydb" clone --source "$(uri $source_port "$db")" --target "$(uri $target_port "$db")" --dir "$dir/scratch/pgcopydb" \
        --table-jobs $jobs --index-jobs $jobs --use-copy-binary --no-acl --no-owner ;;
    dump)
      pg_dump -h "$dir" -p $source_port -Fd -j $jobs -Z0 -f "$dir/scratch/dump" "$db"
      PGOPTIONS="-c maintenance_work_mem=1GB -c synchronous_commit=off" \
        pg_restore -h "$dir" -p $target_port -j $jobs -d "$db" "$dir/scratch/dump"
      target_sql "$db" ANALYZE ;;
    subscription)   # keys before the sync, other indexes and foreign keys after it
      pg_dump -h "$dir" -p $source_port -Fc -s -f "$dir/scratch/schema" "$db"
      pg_restore --section=pre-data -h "$dir" -p $target_port -d "$db" "$dir/scratch/schema"
      post_data ' CONSTRAINT .*_pkey'
      target_sql "$db" "CREATE SUBSCRIPTION bench CONNECTION '$(uri $source_port "$db")' PUBLICATION bench WITH (binary = true)"
      wait_for_subscription "$db"
      post_data -v ' CONSTRAINT .*_pkey'
      target_sql "$db" ANALYZE ;;
    floor)
      pg_dump -h "$dir" -p $source_port -s --section=pre-data "$db" | psql -Xq -h "$dir" -p $target_port "$db" >/dev/null
      floor_began=$EPOCHREALTIME
      floor_copy
      copy_seconds=$(awk -v a="$floor_began" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }') ;;
  esac
}

# CPU seconds of a cluster so far: the postmaster's, its living children's and those it has buried.
cluster_cpu() {   # side
  local pid
  pid=$(head -n 1 "$dir/$1/postmaster.pid")
  { cat "/proc/$pid/stat"; for child in $(pgrep -P "$pid"); do cat "/proc/$child/stat" 2>/dev/null || true; done; } |
    sed 's/^.*) //' | awk -v hz="$(getconf CLK_TCK)" '{ t += $12 + $13 + (NR == 1 ? $14 + $15 : 0) } END { print t / hz }'
}
subtract() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", b - a }'; }

clean_up_after() {   # tool
  case $1 in
    subscription)
      target_sql "$db" "DROP SUBSCRIPTION bench"
      source_sql "$db" "DROP PUBLICATION bench" ;;
    pgcutover)
      "$build/bin/pgcutover" cancel --yes --source "$(uri $source_port "$db")" --target "$(uri $target_port "$db")" --name bench >/dev/null 2>&1 || true ;;
  esac
}

one() {   # set tool
  local tool=$2 source_before target_before rows copy_seconds=0
  db=bench_$1
  rm -rf "$dir/scratch"
  mkdir "$dir/scratch"
  target_sql postgres "DROP DATABASE IF EXISTS $db WITH (FORCE)"
  target_sql postgres "CREATE DATABASE $db"
  [ "$tool" != subscription ] || source_sql "$db" "CREATE PUBLICATION bench FOR ALL TABLES"
  source_sql "$db" CHECKPOINT
  target_sql "$db" CHECKPOINT
  sync
  source_before=$(cluster_cpu source) target_before=$(cluster_cpu target)
  TIMEFORMAT='%R %U %S'
  local failed=""
  { time run_tool "$tool" >"$dir/scratch/out" 2>"$dir/scratch/err" || failed=1; } 2>"$dir/scratch/time" || failed=1
  [ -z "$failed" ] || { failures=1; echo "clone.sh: $tool failed on set $1:" >&2; tail -n 5 "$dir/scratch/err" >&2; cp "$dir/scratch/err" "$dir/failed-$tool"; }
  local wall user system
  read -r wall user system <"$dir/scratch/time"
  local cpu_source cpu_target
  cpu_source=$(subtract "$source_before" "$(cluster_cpu source)")
  cpu_target=$(subtract "$target_before" "$(cluster_cpu target)")
  if [ "$tool" = pgcutover ] && [ -z "$failed" ]; then
    copy_seconds=$(target_sql "$db" "SELECT extract(epoch FROM max(at) FILTER (WHERE kind = 'done') - max(at) FILTER (WHERE kind = 'began'))
      FROM pgcutover.event WHERE step = 'copy'" 2>/dev/null || echo 0)
    target_sql "$db" "SELECT step, kind, extract(epoch FROM at - min(at) OVER ())::numeric(10,2) FROM pgcutover.event ORDER BY at" >"$dir/last-steps" 2>/dev/null || true
  fi
  # shellcheck disable=SC2016
  rows=$(target_sql "$db" "SELECT coalesce(sum((xpath('/row/c/text()', query_to_xml('SELECT count(*) AS c FROM ' || oid::regclass, false, true, '')))[1]::text::bigint), 0)
    || ' rows, ' || (SELECT count(*) FROM pg_index JOIN pg_class i ON i.oid = indexrelid WHERE i.relnamespace = 'public'::regnamespace) || ' indexes, '
    || (SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated) || ' foreign keys'
    FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")
  clean_up_after "$tool"
  echo "$1 $tool: $wall s, CPU source $cpu_source target $cpu_target tool $(subtract "-$user" "$system"), copy $copy_seconds s; $rows"
  [ -n "$failed" ] || echo "$1,$tool,$scale,$wall,$cpu_source,$cpu_target,$(subtract "-$user" "$system"),$copy_seconds" >>"$results"
}

failures=0
start_servers
for set in $sets; do make_source "$set"; done
for ((round = 1; round <= runs; ++round)); do
  for set in $sets; do
    wanted=${tools:-pgcutover pgcopydb dump subscription}
    if [ "$set" = bare ] && [ -z "$tools" ]; then wanted="pgcutover floor"; fi
    for tool in $wanted; do
      if [ "$tool" = pgcopydb ] && [ -z "$pgcopydb" ]; then
        echo "no pgcopydb (tests/tools/unpack-debian.sh sid ${fetched%/bin/*} pgcopydb usr/bin pgcopydb fetches one)" >&2
        continue
      fi
      one "$set" "$tool"
    done
  done
done
echo
print_report
[ $failures = 0 ]

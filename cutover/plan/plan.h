// The plan of a migration: what is moved, from where to where, which apps have to follow and under which
// gates.
//
// Pure data plus its ways in and out: a YAML file (load_plan_file), a redacted text for the state and the
// reports (redacted_text), and a secret byte string that only ever goes through a pipe to the guardian
// (to_secret_bytes). Times are milliseconds. Errors: UsageError naming file, line, column and the nearest
// valid key. Keys of the format that this version can't do yet are refused by name, never ignored.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "replication/base/deadline.h"
#include "replication/base/finding.h"
#include "replication/catalog/catalog.h"
#include "replication/catalog/role_map.h"
#include "replication/postgres/conninfo.h"

namespace cutover::plan {

namespace base = replication::base;
namespace catalog = replication::catalog;
namespace postgres = replication::postgres;

// Where a pooler sends a database's clients. Empty fields are taken from the side's ConnInfo.
struct Address {
  std::string host;  // name, address or directory of a unix socket
  std::string port;  // "5432" where nothing says otherwise
  std::string dbname;
  bool operator==(const Address&) const = default;
};

struct PgbouncerSpec {
  postgres::ConnInfo admin;  // of the admin console; dbname defaults to "pgbouncer"
  std::string database;      // the name clients connect to
  std::string ini;           // the file that holds the database's line: edited in place ...
  std::vector<std::string>
      edit_command;        // ... or argv that does it: PGCUTOVER_HOST, _PORT, _DBNAME in its environment
  Address source, target;  // as the pooler reaches them, where that differs from our own ConnInfo
};

// argv of the four hooks; release and hold may be empty where the app needs none.
struct CommandSpec {
  std::vector<std::string> hold;     // stop new transactions, wait for open ones
  std::vector<std::string> release;  // let them go on; must be safe to run twice
  std::vector<std::string> move;     // point the app at the side in PGCUTOVER_SIDE
  std::vector<std::string> undo;     // point it back; where empty, `move` is run with the old side
  std::vector<std::string> where;    // prints "source" or "target" on stdout; empty = can't be asked
};

struct App {
  std::string name;
  bool writes = true;
  std::vector<PgbouncerSpec> pgbouncers;
  std::optional<CommandSpec> command;
};

// What of the database `run` brings to the target: pg_restore's words.
enum class Content {
  all,
  data_only,    // the target has the schema already: rows and stream only
  schema_only,  // neither rows nor stream: `run` ends when the schema is there
};
std::string_view to_string(Content content);

enum class VerifyGate { none, full };

// What a hand-over does with unlogged tables, large objects and materialized views that changed after they
// were brought up to date, right before the pause: no stream carries that.
enum class Unstreamed {
  copy,    // again inside the pause, whose budget is the limit
  refuse,  // undo the hand-over
  defer,   // leave it behind and name it; views are refreshed once the side is open
};
std::string_view to_string(Unstreamed choice);

struct Gates {
  bool manual = true;                     // `run` stops before the switch; false = switches when it is ready
  base::milliseconds max_pause{5'000};    // whole budget from hold to release
  base::milliseconds max_lag{1'000};      // more than this and the switch isn't begun
  VerifyGate verify = VerifyGate::full;   // a whole comparison must have been equal before the switch
  bool cancel_blockers = false;           // after three polite attempts, cancel who blocks the fence's locks
  base::milliseconds lock_limit{10'000};  // for all attempts together
  Unstreamed unstreamed = Unstreamed::copy;
};

// MB (10^6 bytes) per second; what a limit of the copy's rate may be at most.
inline constexpr std::int64_t kMaxRateMb = 1'000'000;
// How far behind a limit of the copy may let a standby be, at most; and how old a snapshot.
inline constexpr base::milliseconds kMaxReplicaLag{3'600'000};
inline constexpr std::int64_t kMaxXminAge = 2'000'000'000;

// MB (2^20 bytes) of WAL that a slot's limits may be at most.
inline constexpr std::int64_t kMaxWalMb = std::int64_t{1} << 40;

struct Plan {
  std::string name;  // [a-z0-9_]{1,30}: slots, publications; from the database name
  postgres::ConnInfo source, target;
  std::string strategy = "switchover";
  catalog::TableFilter tables;
  bool keyless_full = false;      // set REPLICA IDENTITY FULL on tables without a key
  bool unlogged_data = true;      // rows of unlogged tables are moved; false = they arrive empty
  bool follow_schema = false;     // schema changes of the safe kinds are made on the other side too
  bool stop_at_conflict = false;  // a change that meets no row ends the stream instead of being recorded
  bool create_roles = true;       // make the roles that the target lacks; false = they must be there
  std::map<std::string, std::string> role_map;  // of the source's roles to their names on the target
  bool copy_publications = false;               // the user's, made on the target with the schema
  bool copy_subscriptions = false;              // the same, disabled and without a slot
  std::vector<std::string> accepted;            // findings that shall not block: "id" or "id:object"
  Content content = Content::all;
  int copy_jobs = 2;
  int index_jobs = 2;
  bool indexes_later = false;         // secondary indexes only once a `run` without it is called
  std::int64_t split_above_mb = 0;    // larger tables are copied in parts by all jobs; 0 = by itself
  std::int64_t copy_max_rate_mb = 0;  // rows, per second; 0 = no limit
  int copy_max_active_sessions = 0;   // of others on the source: the copy rests while there are more; 0 = off
  // Of the source's standbys: the copy rests while one is further behind; 0 = off.
  base::milliseconds copy_max_replica_lag{0};
  // Transactions: no further table is begun while a snapshot on the source is older, where each table has a
  // snapshot of its own; 0 = off.
  std::int64_t copy_max_xmin_age = 0;
  bool snapshot_per_table = false;     // each table its own snapshot: nothing pins the source's xmin for long
  std::int64_t sequence_headroom = 0;  // increments; 0 = computed from what is observed
  base::milliseconds sequence_window{std::chrono::hours(1)};
  base::milliseconds sequence_rollback_window{std::chrono::hours(24)};
  int sequence_safety = 2;
  std::string spool_directory;  // on this host; empty: nothing is spooled
  std::int64_t spool_limit_bytes = std::int64_t{10} << 30;
  std::int64_t slot_wal_warn_mb = 10 * 1024;  // MB (2^20 bytes) of WAL that a slot keeps before it is told
  std::int64_t slot_wal_limit_mb = 0;         // and before the stream's is given up; 0 = never
  bool slot_failover = false;                 // slots that standbys keep in step (servers from 17 on)
  std::string pg_bindir;                      // where pg_dump and pg_restore are; empty = PATH
  std::vector<App> apps;
  Gates gates;
  std::string file;  // where it was read from; empty = made of options

  bool accepts(const base::Finding& finding) const;
  catalog::RoleMap roles() const { return catalog::RoleMap(role_map); }  // throws where check_plan does
};

// Whether `names` ("id" or "id:object") has the finding: the one test of all that asks.
bool is_accepted(const std::vector<std::string>& names, const base::Finding& finding);

// Reads and checks a plan file. Throws UsageError ("plan.yaml:12:5: unknown key 'sorce'", hint "did you mean
// 'source'?"). Passwords in it are registered as secrets.
Plan load_plan_file(const std::string& path);
Plan parse_plan(const std::string& yaml, const std::string& file);

// What can be said about a plan without asking a server: missing sides, bad names, impossible gates, unknown
// strategies. Throws UsageError at the first. Fills `name` from the source's database where it is empty.
enum class Sides { both, one };  // one: a verb that must work where the other server is gone
void check_plan(Plan& plan, Sides needed = Sides::both);

// "admin='host=... dbname=pgbouncer' database=shop ini=/etc/pgbouncer/databases.ini", the short form of
// options.
PgbouncerSpec parse_pgbouncer(std::string_view text, std::string_view what);
// "5s", "300ms", "2m", "1h"; a plain number is refused. Throws UsageError naming `what`.
base::milliseconds parse_duration(std::string_view text, std::string_view what);
std::string duration_text(base::milliseconds span);

// A name for slots and publications made from any database name.
std::string name_from_database(std::string_view database);

// YAML with every value, connection strings without passwords. Two equal plans give the same text.
std::string redacted_text(const Plan& plan);
// One line a key: name, default and what it means; from the table that also drives the parser.
std::string format_help();

// With secrets: for a pipe to a process of ours and nowhere else.
std::string to_secret_bytes(const Plan& plan);
Plan from_secret_bytes(std::string_view bytes);

// The address a pooler shall use for one side: the spec's own, completed from the ConnInfo. host is empty
// where neither says it (service files are not read here).
Address address_of(const Address& given, const postgres::ConnInfo& info);

// The candidate with the smallest edit distance, or nothing where none is near. Also used for options.
std::optional<std::string> nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace cutover::plan

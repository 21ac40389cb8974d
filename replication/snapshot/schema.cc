#include "replication/snapshot/schema.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>

#include "replication/base/error.h"
#include "replication/base/redaction.h"
#include "replication/base/subprocess.h"
#include "replication/catalog/left_out.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/transaction.h"
#include "replication/snapshot/index_statement.h"
#include "replication/snapshot/restore.h"
#include "replication/snapshot/sql_script.h"
#include "replication/snapshot/toc.h"

namespace replication::snapshot {
namespace {

using base::Error;
namespace fs = std::filesystem;

// A schema is catalog rows: even of 100,000 tables it is dumped in minutes. Who waits longer waits for a
// lock.
constexpr base::milliseconds kProgramMax{30 * 60'000};

class PrivateDirectory {
 public:
  PrivateDirectory() {
    auto pattern = (fs::temp_directory_path() / "pgcutover-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) {  // mode 0700
      throw Error("can't make a temporary directory " + pattern,
                  "set TMPDIR to a directory that can be written");
    }
    path_ = pattern;
  }
  ~PrivateDirectory() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  PrivateDirectory(const PrivateDirectory&) = delete;
  PrivateDirectory& operator=(const PrivateDirectory&) = delete;
  std::string file(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (!in.is_open() || in.bad()) {
    throw Error("can't read " + path);
  }
  return text;
}

void write_file(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary);
  out << text;
  out.close();
  if (!out) {
    throw Error("can't write " + path, "is the disk of TMPDIR full?");
  }
}

// Returns what it wrote to stdout.
std::string run(std::vector<std::string> argv, std::map<std::string, std::string> env,
                const base::Stop& stop) {
  const auto program = argv.front();
  env["LC_MESSAGES"] = "C";
  auto result =
      base::run_command({std::move(argv), std::move(env), {}}, base::Deadline::in(kProgramMax), stop);
  if (result.exit_code != 0) {
    // libpq's own words, untranslated: how the session ended, or that it couldn't begin. And the server's,
    // where it speaks English: an application locks the same tables in another order.
    const bool passes = result.errors.find("server closed the connection") != std::string::npos ||
                        result.errors.find("connection to server") != std::string::npos ||
                        result.errors.find("deadlock detected") != std::string::npos;
    throw Error(program + " failed: " + base::redact(result.errors.substr(0, result.errors.find('\n'))))
        .set_retryable(passes);
  }
  return std::move(result.output);
}

struct DumpSettings {
  std::string encoding = "UTF8";  // bytes of a database without an encoding stay what they are
  std::string options;            // of the session
};

DumpSettings dump_settings(const postgres::ConnInfo& source, const base::Stop& stop) {
  postgres::SessionOptions session;
  session.server = "source";
  session.application_name = "pgcutover schema";
  auto connection = postgres::Connection::open(source, session, stop);
  DumpSettings settings;
  if (connection.one_value("SHOW server_encoding") == "SQL_ASCII") {
    settings.encoding = "SQL_ASCII";
  }
  // The dump is written in the settings it will be read in, whatever the database or role say.
  settings.options = source.get("options") +
                     " -c standard_conforming_strings=on -c statement_timeout=0 -c lock_timeout=0"
                     " -c client_min_messages=warning -c default_transaction_read_only=off";
  if (connection.server_major() >= 14) {
    settings.options += " -c idle_session_timeout=0";
  }
  return settings;
}

// pg_dump against the source, with `options` added to what every dump needs.
std::string dump(const SchemaTools& tools, const postgres::ConnInfo& source, const base::Stop& stop,
                 const std::vector<std::string>& options) {
  const auto settings = dump_settings(source, stop);
  std::vector<std::string> argv{tools.pg_dump, "--schema-only", "--encoding=" + settings.encoding,
                                "--lock-wait-timeout=300000"};
  argv.insert(argv.end(), options.begin(), options.end());
  auto env = source.environment();
  env["PGAPPNAME"] = "pgcutover pg_dump";
  env["PGOPTIONS"] = settings.options;
  try {
    return run(std::move(argv), std::move(env), stop);
  } catch (Error& error) {
    error.on("source");
    throw;
  }
}

// Tables and views that the filter leaves out, as patterns that match exactly them.
std::vector<std::string> excluded_tables(const postgres::ConnInfo& source, const catalog::TableFilter& filter,
                                         const base::Stop& stop) {
  std::vector<std::string> patterns;
  if (filter.include.empty() && filter.exclude.empty()) {
    return patterns;
  }
  postgres::SessionOptions options;
  options.server = "source";
  options.application_name = "pgcutover schema";
  auto connection = postgres::Connection::open(source, options, stop);
  for (const auto& relation : catalog::left_out(connection, filter)) {
    patterns.push_back("--exclude-table=" + relation.qualified());
  }
  return patterns;
}

// Rows that a user put into configuration tables of extensions, as pg_dump takes them (those that meet the
// extension's own condition), in the snapshot. A dump of the schema has them not.
std::vector<ScriptItem> extension_rows(const postgres::ConnInfo& source, const std::string& snapshot,
                                       const base::Stop& stop) {
  postgres::SessionOptions options;
  options.server = "source";
  options.application_name = "pgcutover schema";
  auto connection = postgres::Connection::open(source, options, stop);
  const postgres::Transaction transaction(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
  if (!snapshot.empty()) {
    connection.exec("SET TRANSACTION SNAPSHOT " + postgres::quote_literal(snapshot));
  }
  const auto tables = connection.exec(R"(
    SELECT format('%I.%I', n.nspname, c.relname), string_agg(format('%I', a.attname), ', ' ORDER BY a.attnum),
           string_agg(format('quote_nullable(t.%I)', a.attname), ' || '', '' || ' ORDER BY a.attnum), k.condition
      FROM pg_catalog.pg_extension e CROSS JOIN LATERAL unnest(e.extconfig, e.extcondition) k(oid, condition)
      JOIN pg_catalog.pg_class c ON c.oid = k.oid AND c.relkind = 'r'
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
       AND a.attgenerated = ''
     WHERE has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
     GROUP BY c.oid, n.nspname, c.relname, k.condition ORDER BY n.nspname, c.relname)");
  std::vector<ScriptItem> items;
  for (int table = 0; table < tables.rows(); ++table) {
    const auto into = "INSERT INTO " + tables.text(table, 0) + " (" + tables.text(table, 1) +
                      ") OVERRIDING SYSTEM VALUE VALUES (";
    const auto rows = connection.exec("SELECT " + tables.text(table, 2) + " FROM " + tables.text(table, 0) +
                                      " AS t " + tables.text_or(table, 3, ""));
    for (int row = 0; row < rows.rows(); ++row) {
      items.push_back({"", into + rows.text(row, 0) + ") ON CONFLICT DO NOTHING;"});
    }
  }
  // And the sequences that number such rows. Their values belong to no snapshot, like all sequences'.
  const auto sequences = connection.exec(R"(
    SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
      FROM pg_catalog.pg_extension e CROSS JOIN LATERAL unnest(e.extconfig) k(oid)
      JOIN pg_catalog.pg_class c ON c.oid = k.oid AND c.relkind = 'S'
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE has_schema_privilege(n.oid, 'USAGE')
       AND CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, 'SELECT') END ORDER BY 1)");
  for (int row = 0; row < sequences.rows(); ++row) {
    const auto value = connection.one_row("SELECT last_value, is_called FROM " + sequences.text(row, 0));
    items.push_back({"", "SELECT pg_catalog.setval(" + postgres::quote_literal(sequences.text(row, 0)) +
                             "::pg_catalog.regclass, " + value.text(0, 0) +
                             (value.boolean(0, 1) ? ", true);" : ", false);")});
  }
  return items;
}

}  // namespace

struct SchemaArchive::State {
  std::vector<ScriptItem> extension_rows;
  SchemaTools tools;
  postgres::ConnInfo source;
  const base::Stop& stop;
  PrivateDirectory directory;
  std::optional<std::vector<ScriptItem>> post_data = {};
  bool put_off_secondary = false;
  StreamObjects stream_objects = {};
  catalog::RoleMap roles = {};

  // As read_script(), for the target.
  std::vector<ScriptItem> read(std::string_view script) const {
    auto items = read_script(script);
    if (!roles.empty()) {
      for (auto& item : items) {
        item.sql = rename_roles(item.sql, roles);
      }
    }
    return items;
  }

  std::string archive() const { return directory.file("schema.dump"); }

  std::vector<ScriptItem> pre_data() const {
    const auto script = directory.file("pre-data.sql");
    run({tools.pg_restore, "--section=pre-data", "--file=" + script, archive()}, {}, stop);
    return read(read_file(script));
  }
  std::vector<ScriptItem> read_all_post_data() const {
    const auto list = directory.file("post-data.list");
    const auto script = directory.file("post-data.sql");
    run({tools.pg_restore, "--section=post-data", "--list", "--file=" + list, archive()}, {}, stop);
    const auto kept = keep_for_post_data(read_file(list));
    if (!has_entries(kept)) {
      return {};
    }
    write_file(list, kept);
    run({tools.pg_restore, "--section=post-data", "--use-list=" + list, "--file=" + script, archive()}, {},
        stop);
    return read(read_file(script));
  }
  std::vector<ScriptItem> read_post_data() const {
    auto items = read_all_post_data();
    std::erase_if(items, [](const ScriptItem& item) { return stream_object_name(item.sql).has_value(); });
    return items;
  }
};

SchemaArchive::SchemaArchive(const SchemaTools& tools, const postgres::ConnInfo& source,
                             const std::string& snapshot, const catalog::TableFilter& filter,
                             const base::Stop& stop, StreamObjects wanted, catalog::RoleMap roles)
    : state_(new State{extension_rows(source, snapshot, stop), tools, source, stop, {}, {}}) {
  std::vector<std::string> options{"--format=custom", "--no-subscriptions", "--exclude-schema=pgcutover",
                                   "--file=" + state_->archive()};
  if (!snapshot.empty()) {
    options.push_back("--snapshot=" + snapshot);
  }
  if (!wanted.publications) {
    options.emplace_back("--no-publications");
  }
  for (auto& pattern : excluded_tables(source, filter, stop)) {
    options.push_back(std::move(pattern));
  }
  state_->stream_objects = wanted;
  state_->roles = std::move(roles);
  dump(tools, source, stop, options);
}

SchemaArchive::~SchemaArchive() = default;

void SchemaArchive::restore_pre_data(const postgres::ConnInfo& target,
                                     const postgres::FencingToken& token) const {
  auto connection = open_restore_session(target, token, state_->stop);
  auto items = state_->pre_data();
  for (auto& item : items) {
    item.sql = for_server(std::move(item.sql), connection.server_major());
  }
  std::ranges::copy(state_->extension_rows, std::back_inserter(items));
  // pg_dump from 15 on writes the rights of "public" as changes against 15's initial ones, where PUBLIC can't
  // create.
  if (state_->tools.major >= 15 && connection.server_major() < 15 &&
      connection.maybe_value("SELECT to_regnamespace('public')::text")) {
    items.insert(items.begin(), {"", "REVOKE CREATE ON SCHEMA public FROM PUBLIC;"});
  }
  const auto left = outstanding(connection, items);
  require_roles(connection, left);
  run_in_order(connection, left);
}

namespace {

// The secondary indexes among them, or the others.
std::vector<ScriptItem> picked(const std::vector<ScriptItem>& items, bool secondary) {
  const auto may_wait = secondary_indexes(items);
  std::vector<ScriptItem> chosen;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (may_wait[i] == secondary) {
      chosen.push_back(items[i]);
    }
  }
  return chosen;
}

}  // namespace

void SchemaArchive::put_off_secondary_indexes() {
  state_->put_off_secondary = true;
}

std::vector<ScriptItem> SchemaArchive::stream_objects() const {
  const auto& wanted = state_->stream_objects;
  std::vector<ScriptItem> items;
  if (wanted.publications) {
    items = state_->read_all_post_data();
  }
  if (wanted.subscriptions) {  // through a pipe: their passwords shall lie in no file that a crash leaves
    std::ranges::move(state_->read(dump(state_->tools, state_->source, state_->stop,
                                        {"--section=post-data", "--no-publications", "--exclude-schema=*"})),
                      std::back_inserter(items));
  }
  std::erase_if(items, [&](const ScriptItem& item) {
    const auto object = stream_object_name(item.sql);
    return !object || (!object->subscription && object->name.starts_with(kOwnPublications));
  });
  return items;
}

const std::vector<ScriptItem>& SchemaArchive::post_data() const {
  if (!state_->post_data) {
    auto all = state_->read_post_data();
    if (state_->put_off_secondary) {
      all = picked(all, false);
    }
    state_->post_data = std::move(all);
  }
  return *state_->post_data;
}

namespace {

// Index builds are the work; they need nothing but their tables. The rest (rules, triggers, policies,
// attaching partitions' indexes, comments, event triggers last) follows in the archive's order.
void restore(postgres::Connection& connection, const postgres::ConnInfo& target,
             const postgres::FencingToken& token, const std::vector<RestoreItem>& left, int jobs,
             const base::Stop& stop) {
  std::vector<RestoreItem> indexes;
  for (const auto& one : left) {
    if (builds_index(one.item.sql)) {
      indexes.push_back(one);
    }
  }
  std::set<std::string> put_off;
  for (auto& one : build_indexes(target, token, indexes, jobs, stop)) {
    put_off.insert(std::move(one.key));
  }
  std::vector<RestoreItem> rest;
  for (const auto& one : left) {
    if (!builds_index(one.item.sql) || put_off.contains(one.key)) {
      rest.push_back(one);
    }
  }
  run_in_order(connection, rest);
}

}  // namespace

void SchemaArchive::restore_post_data(const postgres::ConnInfo& target, const postgres::FencingToken& token,
                                      int jobs) const {
  auto connection = open_restore_session(target, token, state_->stop);
  const auto left = outstanding(connection, post_data());
  require_roles(connection, left);
  restore(connection, target, token, left, jobs, state_->stop);
}

std::size_t SchemaArchive::restore_secondary_indexes(const postgres::ConnInfo& target,
                                                     const postgres::FencingToken& token, int jobs) const {
  auto connection = open_restore_session(target, token, state_->stop);
  auto left = outstanding(connection, picked(state_->read_post_data(), true));
  std::erase_if(left, [&](const RestoreItem& one) {  // somebody made it by hand
    const auto index = created_index(one.item.sql);
    return !index.empty() &&
           connection.maybe_value("SELECT pg_catalog.to_regclass($1)::text", postgres::Params{index})
               .has_value();
  });
  restore(connection, target, token, left, jobs, state_->stop);
  return left.size();
}

}  // namespace replication::snapshot

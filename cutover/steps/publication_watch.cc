#include "cutover/steps/publication_watch.h"

#include <algorithm>
#include <iterator>

#include "cutover/check/check.h"
#include "replication/base/fault_point.h"
#include "replication/base/log.h"
#include "replication/postgres/patient.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/transaction.h"
#include "replication/stream/publication.h"
#include "replication/stream/publication_marks.h"
#include "replication/stream/slot.h"

namespace cutover::steps {
namespace {

namespace postgres = replication::postgres;
namespace stream = replication::stream;

constexpr base::milliseconds kLook{5'000};
constexpr std::size_t kTablesNamed = 10;
constexpr const char* kPutAgain = "while it was taken out and put in again";

// Of the publication's own row.
std::string mark_fact(Side side) {
  return "publication." + std::string(to_string(side));
}

// What is kept of a table. `mark` is empty while it isn't in the publication; not `sure`: we were about to
// commit it; `anew`: a resync has to publish it anew; `trouble`: why rows of it may be missing.
struct Kept {
  std::string schema, name, mark;
  bool sure = true;
  std::string trouble;
};
using KeptTables = std::map<base::Oid, Kept>;

KeptTables kept_tables(postgres::Connection& target, Side side) {
  const auto rows =
      target.exec("SELECT relid, schema, name, mark, sure, trouble FROM pgcutover.published WHERE side = $1",
                  {to_string(side)});
  KeptTables kept;
  for (int row = 0; row < rows.rows(); ++row) {
    kept[static_cast<base::Oid>(rows.integer(row, 0))] = {
        rows.text(row, 1), rows.text(row, 2), rows.text(row, 3), rows.boolean(row, 4), rows.text(row, 5)};
  }
  return kept;
}

// `sure` and `trouble` as given; what a resync asked for stays.
void keep(postgres::Connection& target, Side side, base::Oid oid, const Kept& table) {
  target.exec(
      "INSERT INTO pgcutover.published (side, relid, schema, name, mark, sure, trouble) "
      "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (side, relid) DO UPDATE SET schema = excluded.schema, "
      "name = excluded.name, mark = excluded.mark, sure = excluded.sure, trouble = excluded.trouble",
      postgres::Params()
          .text(to_string(side))
          .integer(oid)
          .text(std::string_view(table.schema))
          .text(std::string_view(table.name))
          .text(std::string_view(table.mark))
          .boolean(table.sure)
          .text(std::string_view(table.trouble)));
}

void forget(postgres::Connection& target, Side side, base::Oid oid) {
  target.exec("DELETE FROM pgcutover.published WHERE side = $1 AND relid = $2",
              postgres::Params().text(to_string(side)).integer(oid));
}

// One look at what is published on the side that takes writes, against what is kept.
class Look {
 public:
  Look(Context& context, Side side)
      : context_(context),
        side_(side),
        name_(publication_name(context.plan.name, side)),
        target_(context.servers.target()),
        marks_(stream::publication_marks(context.servers.at(side), name_)),
        kept_(kept_tables(target_, side)) {}

  void compare(const std::string& publication_before) {
    if (stream::mark_oid(marks_.publication) != stream::mark_oid(publication_before)) {
      stream::StreamLost error(
          "publication " + postgres::quote_identifier(name_) +
              (marks_.publication.empty() ? " doesn't exist any more" : " was dropped and made again") +
              ": what was written without it is in no stream",
          std::string(stream::kCopyAgain));
      error.on(to_string(side_));
      throw error;
    }
    for (const auto& table : catalog::load(context_.servers.at(side_), context_.plan.tables).tables) {
      if (!table.unlogged || !table.stores_rows()) {
        ours_.insert(table.oid);
      }
    }
    postgres::Transaction transaction(target_);
    if (marks_.publication != publication_before) {
      for (auto& [oid, table] : kept_) {
        trouble(oid, table, "while it was altered (what it publishes, or its owner)");
      }
      put_fact(target_, context_.token, mark_fact(side_), marks_.publication);
    }
    compare_tables();
    context_.token.assert_current(target_);
    transaction.commit_or_throw();
    tell();
  }

 private:
  void compare_tables() {
    std::set<base::Oid> there;
    for (const auto& now : marks_.tables) {
      there.insert(now.oid);
      const auto before = kept_.find(now.oid);
      if (before == kept_.end()) {
        if (ours_.contains(now.oid)) {
          trouble(now.oid, kept_[now.oid] = {now.schema, now.name, now.mark, true, ""},
                  "before it was put in by hand");
        }
        continue;
      }
      auto& table = before->second;
      const bool same = table.mark == now.mark;
      if (same && table.sure && table.name == now.name && table.schema == now.schema) {
        continue;
      }
      table.schema = now.schema;
      table.name = now.name;
      table.mark = now.mark;
      table.sure = true;
      same ? keep(target_, side_, now.oid, table) : trouble(now.oid, table, kPutAgain);
    }
    for (auto& [oid, table] : kept_) {
      if (there.contains(oid) || (table.mark.empty() && ours_.contains(oid))) {
        continue;
      }
      if (!ours_.contains(oid) || (!table.sure && table.trouble.empty())) {
        forget(target_, side_, oid);  // dropped, or not to be streamed any more; or not committed
        continue;
      }
      table.mark.clear();
      table.sure = true;
      trouble(oid, table, "since it was taken out");
    }
  }

  // The last one counts, whatever was the matter before.
  void trouble(base::Oid oid, Kept& table, const std::string& why) {
    table.trouble = why;
    keep(target_, side_, oid, table);
    noticed_[why].push_back(table.schema + "." + table.name);
  }

  void tell() const {
    for (const auto& [why, tables] : noticed_) {
      const auto text = "publication " + postgres::quote_identifier(name_) + " was changed on the " +
                        std::string(to_string(side_)) + ": of " + check::list_text(tables, kTablesNamed) +
                        " what was written " + why + " may be in no stream";
      base::log::warn(text);
      put_event(target_, context_.token, "publication", "noticed", text);
    }
  }

  Context& context_;
  const Side side_;
  const std::string name_;
  postgres::Connection& target_;
  const stream::PublicationMarks marks_;
  KeptTables kept_;
  std::set<base::Oid> ours_;  // tables that have to be streamed
  std::map<std::string, std::vector<std::string>> noticed_;
};

// Under the tables' locks: one that was replaced by a namesake since it was looked up would be put in
// unnoted.
void require_put(const stream::PublicationMarks& marks, const std::set<base::Oid>& wanted, Side side) {
  const auto put =
      std::ranges::count_if(marks.tables, [&](const auto& table) { return wanted.contains(table.oid); });
  if (static_cast<std::size_t>(put) != wanted.size()) {
    throw base::Error("a table was replaced by another one of its name while it was being published",
                      "nothing, it is tried again")
        .on(to_string(side))
        .set_retryable(true);
  }
}

void look(Context& context, Side side) {
  const auto before = read_fact(context.servers.target(), mark_fact(side));
  if (!before) {  // begun by a version that didn't keep it
    keep_publication(context, side);
    return;
  }
  Look(context, side).compare(*before);
}

}  // namespace

std::string publication_schema_sql() {
  return "CREATE TABLE IF NOT EXISTS pgcutover.published (side text, relid bigint, schema text NOT NULL, "
         "name text NOT NULL, mark text NOT NULL, sure boolean NOT NULL DEFAULT true, "
         "anew boolean NOT NULL DEFAULT false, trouble text NOT NULL DEFAULT '', "
         "PRIMARY KEY (side, relid));\n";
}

void PublicationWatch::tend(Side from, bool now) {
  if (!now && base::Clock::now() - looked_ < kLook) {
    return;
  }
  looked_ = base::Clock::now();
  const auto digest = stream::publication_digest(context_.servers.at(from),  // first: see table_files_digest
                                                 publication_name(context_.plan.name, from));
  if (auto& known = digests_[from]; digest.empty() || known != digest) {
    look(context_, from);
    known = digest;
  }
}

std::string keep_publication(Context& context, Side side) {
  auto& target = context.servers.target();
  const auto name = publication_name(context.plan.name, side);
  auto digest = stream::publication_digest(context.servers.at(side), name);
  const auto marks = stream::publication_marks(context.servers.at(side), name);
  postgres::Transaction transaction(target);
  target.exec("DELETE FROM pgcutover.published WHERE side = $1", {to_string(side)});
  for (const auto& table : marks.tables) {
    keep(target, side, table.oid, {table.schema, table.name, table.mark, true, ""});
  }
  put_fact(target, context.token, mark_fact(side), marks.publication);
  context.token.assert_current(target);
  transaction.commit_or_throw();
  return digest;
}

base::Findings publication_findings(Context& context, Side from) {
  std::map<std::string, std::vector<std::string>> tables;
  for (const auto& [oid, table] : kept_tables(context.servers.target(), from)) {
    if (!table.trouble.empty()) {
      tables[table.trouble].push_back(table.schema + "." + table.name);
    }
  }
  base::Findings findings;
  for (const auto& [why, names] : tables) {
    std::string arguments;
    for (const auto& name : names) {
      arguments += arguments.size() < 200 ? " --table " + name : "";
    }
    findings.push_back(
        {base::Severity::blocks, "publication-changed", std::string(to_string(from)),
         names.size() == 1 ? names.front() : "",
         "publication " + postgres::quote_identifier(publication_name(context.plan.name, from)) +
             " was changed by somebody else: what was written to " + check::list_text(names, kTablesNamed) +
             " " + why + " may be missing on the other side",
         (from == Side::source
              ? "`pgcutover resync" + arguments + "` copies it again; or"
              : std::string("`pgcutover verify` tells what differs; put it right by hand, then")) +
             " accept by name, where you know that nothing is missing: --accept publication-changed"});
  }
  return findings;
}

void publish_tables(Context& context, Side side, const std::vector<catalog::Table>& tables,
                    base::milliseconds budget) {
  if (tables.empty()) {
    return;
  }
  auto& connection = context.servers.at(side);
  auto& target = context.servers.target();
  const auto name = publication_name(context.plan.name, side);
  std::set<base::Oid> wanted;
  for (const auto& table : tables) {
    wanted.insert(table.oid);
  }
  // Noted before the commit: a row of the catalog that isn't noted counts as somebody else's. One that is
  // noted and never comes to be counts as nothing.
  postgres::transact_patiently(connection, base::Deadline::in(budget), [&] {
    const auto before = stream::publication_marks(connection, name).publication;
    stream::put_tables(connection, name, tables);
    const auto marks = stream::publication_marks(connection, name);
    require_put(marks, wanted, side);
    auto kept = kept_tables(target, side);
    postgres::Transaction transaction(target);
    for (const auto& table : marks.tables) {
      if (!wanted.contains(table.oid)) {
        continue;
      }
      auto& entry = kept[table.oid];
      if (entry.trouble.empty() && entry.sure && !entry.mark.empty()) {
        entry.trouble = kPutAgain;  // not by us: taken out since the last look
      }
      keep(target, side, table.oid, {table.schema, table.name, table.mark, false, entry.trouble});
    }
    if (marks.publication != before && read_fact(target, mark_fact(side)) == before) {
      put_fact(target, context.token, mark_fact(side), marks.publication);
    }
    context.token.assert_current(target);
    transaction.commit_or_throw();
    base::fault_point("publication.noted");
  });
  base::fault_point("publication.put");
  target.exec(
      "UPDATE pgcutover.published SET sure = true, anew = false, "
      "trouble = CASE WHEN anew THEN '' ELSE trouble END WHERE side = $1 AND NOT sure AND " +
          context.token.sql_condition(),
      {to_string(side)});
}

void publish_missing(Context& context, Side side, const std::vector<catalog::Table>& tables,
                     base::milliseconds budget) {
  const auto there =
      stream::published_tables(context.servers.at(side), publication_name(context.plan.name, side));
  std::vector<catalog::Table> missing;
  std::ranges::copy_if(tables, std::back_inserter(missing), [&](const auto& table) {
    return !std::ranges::binary_search(there, table.qualified());
  });
  publish_tables(context, side, missing, budget);
}

std::set<base::Oid> troubled_tables(postgres::Connection& target) {
  std::set<base::Oid> oids;
  for (const auto& [oid, table] : kept_tables(target, Side::source)) {
    if (!table.trouble.empty()) {
      oids.insert(oid);
    }
  }
  return oids;
}

void ask_anew(Context& context, const std::vector<catalog::Table>& tables) {
  for (const auto& table : tables) {
    context.servers.target().exec(
        "UPDATE pgcutover.published SET anew = true WHERE side = 'source' AND relid = $1 AND trouble <> ''",
        postgres::Params().integer(table.oid));
  }
}

void publish_anew(Context& context, const catalog::Catalog& content, base::milliseconds budget) {
  look(context, Side::source);
  const auto rows =
      context.servers.target().exec("SELECT relid FROM pgcutover.published WHERE side = 'source' AND anew");
  std::vector<catalog::Table> tables;
  for (int row = 0; row < rows.rows(); ++row) {
    if (const auto* table = content.find(static_cast<base::Oid>(rows.integer(row, 0)))) {
      tables.push_back(*table);
    }
  }
  publish_tables(context, Side::source, tables, budget);
}

}  // namespace cutover::steps

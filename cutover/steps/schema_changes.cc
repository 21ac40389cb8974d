#include "cutover/steps/schema_changes.h"

#include <algorithm>
#include <optional>

#include "replication/base/error.h"
#include "replication/base/fault_point.h"
#include "replication/base/log.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/transaction.h"

namespace cutover::steps {
namespace {

using replication::apply::Mend;
using replication::pgoutput::CachedColumn;
using replication::pgoutput::CachedRelation;
namespace evolution = replication::catalog;
namespace postgres = replication::postgres;

constexpr std::string_view kStep = "schema-change";
// Short: apply waits meanwhile, and asks again.
constexpr const char* kLockTimeout = "SET LOCAL lock_timeout = '5s'; SET LOCAL statement_timeout = 0";

// Statements that wait until the rows before the change are applied: "LSN statement".
std::string default_fact(Side to) {
  return "schema-default." + std::string(to_string(to)) + ".";
}

struct TargetColumn {
  base::Oid type = 0;
  int typmod = -1;
};
std::optional<TargetColumn> column_here(postgres::Connection& connection, const CachedRelation& relation,
                                        const std::string& column) {
  const auto rows = connection.exec(
      "SELECT a.atttypid, a.atttypmod FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = "
      "a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND "
      "c.relname = "
      "$2 AND a.attname = $3 AND a.attnum > 0 AND NOT a.attisdropped",
      {relation.schema, relation.name, column});
  if (rows.rows() == 0) {
    return std::nullopt;
  }
  return TargetColumn{rows.oid(0, 0), static_cast<int>(rows.integer(0, 1))};
}

std::string joined(const std::vector<std::string>& statements) {
  std::string text;
  for (const auto& statement : statements) {
    text += (text.empty() ? "" : "; ") + statement;
  }
  return text;
}

// What fails isn't followed, and says why; only a stop and a lost authority end the stream.
template <typename Action>
Mend attempt(const std::string& trouble, Action action) {
  try {
    return action();
  } catch (const base::StateError&) {
    throw;
  } catch (const base::Stopped&) {
    throw;
  } catch (const base::Error& error) {
    return {false, trouble + error.message()};
  }
}

}  // namespace

std::string table_file_schema_sql() {
  return "CREATE TABLE IF NOT EXISTS pgcutover.table_file (side text, schema text, name text, relid bigint "
         "NOT "
         "NULL, filenode bigint NOT NULL, columns integer NOT NULL, PRIMARY KEY (side, schema, name));\n";
}

struct SchemaChanges::Work {
  Work(const Context& context, Side from)
      : near(context.servers.open(from, "schema")), far(context.servers.open(other(from), "schema")) {}

  postgres::Connection near, far;
  const CachedRelation* relation = nullptr;
  std::string table;  // quoted
  base::Oid filenode = 0;
  int columns = -1;  // that the table had when it got this file; -1 = unknown
  std::vector<std::string> now;
  std::vector<std::pair<std::string, std::string>> later;  // column, statement
};

SchemaChanges::SchemaChanges(const Context& context, Side from) : context_(context), from_(from) {}

// What makes one column fit; empty where it does. Throws Error saying why that isn't proven.
std::string SchemaChanges::statement_for(Work& work, const CachedColumn& column) {
  const auto& relation = *work.relation;
  const auto here = column_here(work.far, relation, column.name);
  constexpr base::Oid kFirstUserOid = 16384;
  const bool user_type = column.type >= kFirstUserOid;
  if (here && (user_type || (here->type == column.type && here->typmod == column.typmod))) {
    return {};
  }
  const auto origin =
      evolution::column_origin(work.near, relation.schema, relation.name, column.name, work.columns);
  const auto name = postgres::quote_identifier(column.name);
  const auto refuse = [&](const std::string& why) { throw base::Error("column " + name + ": " + why); };
  if (!origin || origin->type != column.type || origin->typmod != column.typmod) {
    refuse("it was changed again since");
  }
  if (!origin->special.empty()) {
    refuse(origin->special);
  }
  if (here) {
    if (!evolution::widens(here->type, here->typmod, column.type, column.typmod)) {
      refuse("the new type doesn't hold every value of the old one unchanged");
    }
    return "ALTER TABLE ONLY " + work.table + " ALTER COLUMN " + name + " TYPE " + origin->definition;
  }
  if (work.columns < 0 || origin->filenode != work.filenode || origin->number <= work.columns) {
    refuse(
        "the table was rewritten or the column renamed: what old rows have can't be told from the catalog");
  }
  if (origin->dropped_after > 0) {
    refuse("columns were dropped at the same time");
  }
  if (origin->not_null && !origin->has_missing) {
    refuse("it is NOT NULL without a constant default");
  }
  const auto alter = "ALTER TABLE " + work.table + " ALTER COLUMN " + name;
  if (origin->default_expression) {
    work.later.emplace_back(column.name, alter + " SET DEFAULT " + *origin->default_expression);
  } else if (origin->has_missing) {
    work.later.emplace_back(column.name, alter + " DROP DEFAULT");
  }
  return "ALTER TABLE ONLY " + work.table + " ADD COLUMN " + name + " " + origin->definition +
         (origin->has_missing ? " DEFAULT " + postgres::quote_literal(origin->missing) : "") +
         (origin->not_null ? " NOT NULL" : "");
}

Mend SchemaChanges::follow(Work& work) {
  postgres::Transaction transaction(work.far);
  work.far.exec(kLockTimeout);
  for (const auto& statement : work.now) {
    work.far.exec(statement);
  }
  context_.token.assert_current(work.far);
  transaction.commit_or_throw();
  base::fault_point("schema-change.followed");
  const auto text = joined(work.now);
  put_event(record(work), context_.token, kStep, "followed",
            text + (work.later.empty() ? "" : "; its default once all before is applied"));
  const std::lock_guard lock(mutex_);
  followed_.push_back(text);
  return {true, text};
}

postgres::Connection& SchemaChanges::record(Work& work) const {
  return from_ == Side::source ? work.far : work.near;
}

Mend SchemaChanges::mend(const CachedRelation& relation, base::Lsn commit_lsn) {
  if (!context_.plan.follow_schema) {
    return {};
  }
  return attempt("", [&]() -> Mend {
    Work work(context_, from_);
    work.relation = &relation;
    work.table = postgres::quote_qualified(relation.schema, relation.name);
    const auto file = record(work).exec(
        "SELECT filenode, columns FROM pgcutover.table_file WHERE side = $1 AND schema = $2 AND name = $3",
        {to_string(from_), relation.schema, relation.name});
    if (file.rows() == 1) {
      work.filenode = static_cast<base::Oid>(file.integer(0, 0));
      work.columns = static_cast<int>(file.integer(0, 1));
    }
    const auto& left_out = context_.plan.tables.columns;
    const auto known_as = left_out.exclude.empty()
                              ? std::string()
                              : evolution::filter_name(work.far, relation.schema, relation.name);
    for (const auto& column : relation.columns) {
      if (left_out.leaves_out(known_as, column.name)) {
        continue;  // whether there or not: nothing is written to it
      }
      if (auto statement = statement_for(work, column); !statement.empty()) {
        work.now.push_back(std::move(statement));
      }
    }
    if (work.now.empty()) {
      return {};
    }
    // Noted first: a default that is never put right is worse than one that is put right for nothing.
    for (const auto& [column, statement] : work.later) {
      put_fact(record(work), context_.token, default_fact(other(from_)) + work.table + "." + column,
               commit_lsn.to_string() + " " + statement);
    }
    return follow(work);
  });
}

Mend SchemaChanges::mend_types() {
  return attempt("the types of both sides could not be compared: ", [&]() -> Mend {
    Work work(context_, from_);
    const auto there = evolution::enum_types(work.near);
    for (const auto& here : evolution::enum_types(work.far)) {
      const auto twin = std::find_if(there.begin(), there.end(), [&](const auto& type) {
        return type.schema == here.schema && type.name == here.name;
      });
      if (twin == there.end() || twin->labels == here.labels) {
        continue;
      }
      const auto added = evolution::enum_additions(here, *twin);
      if (!added) {
        return {false, "type " + here.schema + "." + here.name +
                           " has labels here that it lacks there: were they renamed? ALTER TYPE " +
                           postgres::quote_qualified(here.schema, here.name) + " RENAME VALUE ... TO ..."};
      }
      work.now.insert(work.now.end(), added->begin(), added->end());
    }
    if (work.now.empty()) {
      return {};
    }
    if (!context_.plan.follow_schema) {
      return {false, joined(work.now)};
    }
    return follow(work);
  });
}

bool SchemaChanges::mended(base::Lsn applied) {
  if (!context_.plan.follow_schema) {
    return true;
  }
  bool all = true;
  try {
    auto record = context_.servers.open(Side::target, "schema");
    std::optional<postgres::Connection> far;
    for (const auto& [key, value] : read_facts(record, default_fact(other(from_)))) {
      const auto space = value.find(' ');
      if (space == std::string::npos) {
        continue;  // done
      }
      if (base::Lsn::parse(value.substr(0, space)) >= applied) {
        all = false;
        continue;
      }
      if (!far) {
        far.emplace(context_.servers.open(other(from_), "schema"));
      }
      base::fault_point("schema-change.before-default");
      postgres::Transaction transaction(*far);
      far->exec(kLockTimeout);
      far->exec(value.substr(space + 1));
      context_.token.assert_current(*far);
      transaction.commit_or_throw();
      put_fact(record, context_.token, key, "done");
    }
  } catch (const base::StateError&) {
    throw;
  } catch (const base::Stopped&) {
    throw;
  } catch (const base::Error& error) {
    base::log::warn("a column's default is not yet as on the " + std::string(to_string(from_)) + ": " +
                    error.describe());
    all = false;
  }
  return all;
}

std::vector<std::string> SchemaChanges::followed() const {
  const std::lock_guard lock(mutex_);
  return followed_;
}

}  // namespace cutover::steps

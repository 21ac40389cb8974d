// The half of schema_changes.h that looks at files.
#include "cutover/check/check.h"
#include "cutover/steps/schema_changes.h"
#include "replication/base/log.h"
#include "replication/postgres/transaction.h"

namespace cutover::steps {
namespace {

namespace catalog = replication::catalog;
namespace postgres = replication::postgres;

constexpr base::milliseconds kLook{5'000};
constexpr std::string_view kRewritten = "rewritten.";

std::string xid_fact(Side side) {
  return "table-file.xid." + std::string(to_string(side));
}

}  // namespace

void RewriteWatch::load(Side side, Known& known) {
  auto& target = context_.servers.target();
  known.xid = read_fact(target, xid_fact(side)).value_or("");
  const auto rows =
      target.exec("SELECT schema, name, relid, filenode, columns FROM pgcutover.table_file WHERE side = $1",
                  {to_string(side)});
  for (int row = 0; row < rows.rows(); ++row) {
    known.tables[{rows.text(row, 0), rows.text(row, 1)}] = {static_cast<base::Oid>(rows.integer(row, 2)),
                                                            static_cast<base::Oid>(rows.integer(row, 3)),
                                                            static_cast<int>(rows.integer(row, 4))};
  }
  known.loaded = true;
}

void RewriteWatch::rewritten(Side side, const catalog::TableFile& file) {
  auto& target = context_.servers.target();
  const auto table = file.schema + "." + file.name;
  const auto what = table + " was rewritten on the " + std::string(to_string(side)) + " by ALTER TABLE";
  put_fact(target, context_.token, std::string(kRewritten) + table, what);
  put_fact(target, context_.token, "verify.equal", "not since " + what);
  put_event(target, context_.token, "rewritten", "noticed", what);
  base::log::warn(what +
                  ": values that it computed aren't in the stream; `pgcutover verify` tells, and "
                  "`pgcutover resync --table " +
                  table + "` copies it again");
}

void RewriteWatch::look(Side side, bool takes_writes) {
  auto& known = side == Side::source ? source_ : target_;
  if (!known.loaded) {
    load(side, known);
  }
  auto& connection = context_.servers.at(side);
  auto& target = context_.servers.target();
  const auto xid = catalog::snapshot_xmin(connection);  // first: what is written meanwhile isn't older
  const auto digest = catalog::table_files_digest(connection) + (takes_writes ? " written" : "");
  if (digest == known.digest) {
    known.xid = xid;
    return;
  }
  bool changed = false;
  for (const auto& file : catalog::table_files(connection)) {
    auto& entry = known.tables[{file.schema, file.name}];
    const bool same = entry.oid == file.oid && entry.filenode == file.filenode;
    if (same && (takes_writes || entry.columns == file.columns)) {
      continue;
    }
    const bool other_file = entry.oid == file.oid && entry.filenode != file.filenode;
    if (takes_writes && other_file && !known.xid.empty() &&
        context_.plan.tables.matches(file.schema + "." + file.name) &&
        catalog::columns_written_since(connection, file.oid, known.xid)) {
      rewritten(side, file);
    }
    new_tables_ = new_tables_ || (takes_writes && entry.oid != file.oid);
    entry = {file.oid, file.filenode, file.columns};
    target.exec(
        "INSERT INTO pgcutover.table_file (side, schema, name, relid, filenode, columns) VALUES ($1, $2, $3, "
        "$4, $5, $6) ON CONFLICT (side, schema, name) DO UPDATE SET relid = excluded.relid, filenode = "
        "excluded.filenode, columns = excluded.columns",
        postgres::Params()
            .text(to_string(side))
            .text(std::string_view(file.schema))
            .text(std::string_view(file.name))
            .integer(file.oid)
            .integer(file.filenode)
            .integer(file.columns));
    changed = true;
  }
  if (takes_writes && !context_.plan.tables.columns.exclude.empty()) {
    left_out_ = check::columns_left_out(std::string(to_string(side)),
                                        catalog::load(connection, context_.plan.tables));
  }
  known.xid = xid;
  known.digest = digest;
  if (changed) {
    put_fact(target, context_.token, xid_fact(side), xid);
  }
}

void RewriteWatch::tend(Side from, bool now) {
  if (!now && base::Clock::now() - looked_ < kLook) {
    return;
  }
  looked_ = base::Clock::now();
  look(from, true);
  look(other(from), false);
}

void RewriteWatch::settled() {
  auto& target = context_.servers.target();
  for (const auto& [key, value] : read_facts(target, kRewritten)) {
    if (!value.empty()) {
      put_fact(target, context_.token, key, "");
    }
  }
}

base::Findings RewriteWatch::findings() {
  base::Findings findings;
  for (const auto& [key, value] : read_facts(context_.servers.target(), kRewritten)) {
    if (!value.empty()) {
      const auto table = key.substr(kRewritten.size());
      findings.push_back({base::Severity::warns, "table-rewritten", "", table,
                          value + ": values that it computed aren't in the stream",
                          "`pgcutover verify`; where it differs, `pgcutover resync --table " + table + "`"});
    }
  }
  if (left_out_) {
    findings.push_back(*left_out_);
  }
  return findings;
}

}  // namespace cutover::steps

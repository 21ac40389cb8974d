// Columns that the plan leaves out: which of them can't be, and what that means for the others.

#include <algorithm>

#include "cutover/check/context.h"
#include "replication/catalog/left_out.h"
#include "replication/postgres/quote.h"

namespace cutover::check {
namespace {

constexpr std::string_view kKeep = "don't leave it out: exclude-columns";

base::Finding finding(base::Severity severity, std::string_view id, const std::string& server,
                      std::string object, std::string message, std::string remedy) {
  return {severity, std::string(id), server, std::move(object), std::move(message), std::move(remedy)};
}

void add_tables(const std::string& server, const catalog::Catalog& tables, bool unlogged_data,
                base::Findings& findings) {
  for (const auto& table : tables.tables) {
    if (table.left_out.empty()) {
      continue;
    }
    if (table.columns.empty()) {
      findings.push_back(finding(base::Severity::blocks, "left-out-column", server, table.display(),
                                 "every column is left out", "--exclude the table, or leave one less out"));
    }
    if (table.unlogged && table.stores_rows() && unlogged_data) {
      findings.push_back(finding(
          base::Severity::blocks, "left-out-column", server, table.display() + "." + table.left_out[0].name,
          "its table is unlogged and copied as a whole at each switch: a rollback would take the values that "
          "the source has",
          "ALTER TABLE " + table.qualified() + " SET LOGGED;  or --unlogged no-data; or " +
              std::string(kKeep)));
    }
    if (table.keyless() && table.stores_rows()) {
      findings.push_back(finding(
          base::Severity::warns, "left-out-way-back", server, table.display(),
          "has no key: rows that differ in nothing but what is left out can't be told apart, so on the way "
          "back an UPDATE or DELETE may meet another one of them",
          "ALTER TABLE " + table.qualified() + " ADD PRIMARY KEY (...);"));
    }
    if (table.kind == catalog::TableKind::partitioned && !table.partition) {
      findings.push_back(finding(
          base::Severity::warns, "left-out-way-back", server, table.display(),
          "is partitioned: an UPDATE that moves a row to another partition is a DELETE and an INSERT in the "
          "stream, so on the way back what is left out of that row gets its default",
          "nothing where rows stay in their partition, or " + std::string(kKeep)));
    }
  }
}

}  // namespace

base::Findings column_findings(const std::string& server, postgres::Connection& connection,
                               const catalog::Catalog& tables, bool unlogged_data) {
  base::Findings findings;
  for (const auto& need : catalog::column_needs(connection, tables)) {
    const bool not_null = need.why.starts_with("is NOT NULL");
    const auto alter =
        "ALTER TABLE " + need.table + " ALTER COLUMN " + postgres::quote_identifier(need.column);
    findings.push_back(
        finding(base::Severity::blocks, "left-out-column", server, need.table + "." + need.column,
                need.table + "." + need.column + " can't be left out: it " + need.why,
                (not_null ? alter + " SET DEFAULT ...;  or " + alter + " DROP NOT NULL;  or " : "") +
                    std::string(kKeep)));
  }
  add_tables(server, tables, unlogged_data, findings);
  return findings;
}

std::optional<base::Finding> columns_left_out(const std::string& server, const catalog::Catalog& tables) {
  constexpr std::size_t kNamed = 20;
  const auto names = catalog::columns_left_out(tables);
  if (names.empty()) {
    return std::nullopt;
  }
  return finding(
      base::Severity::warns, "columns-left-out", server, "",
      list_text(names, kNamed) + (names.size() == 1 ? " is" : " are") +
          " left out, as asked (exclude-columns): neither copied, streamed nor compared; the values "
          "stay behind on the " +
          server,
      "nothing; applications find NULL or the default there after the switch");
}

void check_columns(Context& context) {
  const auto& patterns = context.input.filter.columns.exclude;
  if (patterns.empty()) {
    return;
  }
  const auto add = [&](base::Findings found) {
    std::ranges::move(found, std::back_inserter(context.findings));
  };
  add(column_findings(context.source.name, context.source.connection, context.catalog,
                      context.input.unlogged_data));
  if (!context.restores() || context.resuming) {  // else the target's are the source's
    auto there = column_findings(context.target.name, context.target.connection,
                                 catalog::load(context.target.connection, context.input.filter),
                                 context.input.unlogged_data);
    std::erase_if(there, [](const auto& one) { return one.severity != base::Severity::blocks; });
    add(std::move(there));
  }
  if (auto names = columns_left_out(context.source.name, context.catalog)) {
    context.findings.push_back(std::move(*names));
  }
  for (const auto& pattern : patterns) {
    const catalog::ColumnFilter filter{{pattern}};
    const bool used = std::ranges::any_of(context.catalog.tables, [&](const catalog::Table& table) {
      return std::ranges::any_of(table.left_out, [&](const catalog::Column& column) {
        return filter.leaves_out(table.filter_name(), column.name);
      });
    });
    if (!used) {
      context.warns(context.source, "exclude-columns-unused", pattern,
                    pattern + " matches no column of a table that is moved",
                    "nothing where such columns are still to come; else correct the pattern: "
                    "schema.table.column, partitions by their root's name");
    }
  }
}

}  // namespace cutover::check

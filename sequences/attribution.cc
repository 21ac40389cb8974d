#include "sequences/attribution.h"

#include <charconv>

#include "sequences/catalog_sql.h"

namespace sequences {
namespace {

// A partition takes its ids from the sequence of its root; of an identity column only the root depends on it.
std::string columns_sql() {
  return uses_sql() + R"(, places AS (
  SELECT relation, relation AS place FROM uses
  UNION
  SELECT pg_catalog.pg_partition_root(c.oid)::pg_catalog.oid, c.oid FROM pg_catalog.pg_class c WHERE c.relispartition
)
SELECT DISTINCT sn.nspname, sc.relname, n.nspname, c.relname, a.attname
  FROM uses u
  JOIN pg_catalog.pg_sequence s ON s.seqrelid = u.sequence AND NOT s.seqcycle
  JOIN pg_catalog.pg_class sc ON sc.oid = u.sequence
  JOIN pg_catalog.pg_namespace sn ON sn.oid = sc.relnamespace
  JOIN pg_catalog.pg_attribute r ON r.attrelid = u.relation AND r.attnum = u.number AND NOT r.attisdropped
  JOIN places p ON p.relation = u.relation
  JOIN pg_catalog.pg_class c ON c.oid = p.place
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = r.attname AND NOT a.attisdropped
 ORDER BY 3, 4, 5, 1, 2)";
}

}  // namespace

Attribution::Attribution(postgres::Connection& connection) {
  for (auto& range : read_ledger(connection)) {
    auto& ranges = ledger_[{range.schema, range.name}];
    ranges.push_back(std::move(range));
  }
  if (ledger_.empty()) {
    return;
  }
  const auto rows = connection.exec(columns_sql());
  for (int row = 0; row < rows.rows(); ++row) {
    Name sequence{rows.text(row, 0), rows.text(row, 1)};
    if (ledger_.contains(sequence)) {
      fed_[{rows.text(row, 2), rows.text(row, 3)}].emplace_back(rows.text(row, 4), std::move(sequence));
    }
  }
}

std::string Attribution::made_by(const std::string& schema, const std::string& table,
                                 const std::string& column, std::string_view value) const {
  const auto fed = fed_.find({schema, table});
  std::int64_t id = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), id);
  if (fed == fed_.end() || error != std::errc{} || end != value.data() + value.size()) {
    return {};
  }
  for (const auto& [name, sequence] : fed->second) {
    if (name == column) {
      if (auto server = attribute(ledger_.at(sequence), sequence.first, sequence.second, id);
          !server.empty()) {
        return server;
      }
    }
  }
  return {};
}

std::vector<std::string> Attribution::columns(const std::string& schema, const std::string& table) const {
  std::vector<std::string> names;
  if (const auto fed = fed_.find({schema, table}); fed != fed_.end()) {
    for (const auto& [name, sequence] : fed->second) {
      if (names.empty() || names.back() != name) {
        names.push_back(name);
      }
    }
  }
  return names;
}

}  // namespace sequences

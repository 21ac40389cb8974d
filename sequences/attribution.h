// Which server made a row: told by the id in a column that a sequence with a ledger feeds.
//
// Read once, asked often: made_by() is pure and may be called from several threads. Nothing is known of rows
// whose columns no sequence feeds, of sequences that CYCLE, before the first hand-over or bump, and of ids
// outside of every range. Errors: base::Error of the server.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sequences/ledger.h"

namespace sequences {

class Attribution {
 public:
  Attribution() = default;  // knows nothing
  // From the catalog and the ledger of one server (the ledger is the same on both).
  explicit Attribution(postgres::Connection& connection);

  // "source", "target", or empty where nobody knows. `value` is the column's text.
  std::string made_by(const std::string& schema, const std::string& table, const std::string& column,
                      std::string_view value) const;
  // The columns of a table that made_by() can answer for, partitions included.
  std::vector<std::string> columns(const std::string& schema, const std::string& table) const;

 private:
  std::map<Name, std::vector<Range>> ledger_;
  std::map<Name, std::vector<std::pair<std::string, Name>>> fed_;  // table -> column, sequence
};

}  // namespace sequences

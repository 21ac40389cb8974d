// Replica identities of tables without a key, and the comparison of both sides' structure.
#include <algorithm>
#include <iterator>
#include <map>

#include "cutover/steps/prepare.h"
#include "cutover/steps/publication_watch.h"
#include "replication/base/error.h"
#include "replication/base/log.h"
#include "replication/postgres/patient.h"
#include "replication/stream/publication.h"

namespace cutover::steps {
namespace {

using base::milliseconds;
namespace stream = replication::stream;

constexpr milliseconds kLockBudget{60'000};
constexpr milliseconds kAdoptBudget{2'000};  // the controller's other duties wait meanwhile

std::string identity_clause(std::string_view letter) {
  return letter == "n" ? "NOTHING" : letter == "f" ? "FULL" : "DEFAULT";
}

// "n integer instead of n bigint, no v": what the twin has; empty where the columns are the same.
std::string other_columns(const catalog::Table& table, const catalog::Table& twin) {
  std::map<std::string, std::string> there;
  for (const auto& column : twin.columns) {
    there[column.name] = column.type_name;
  }
  std::string text;
  const auto add = [&](const std::string& what) { text += (text.empty() ? "" : ", ") + what; };
  for (const auto& column : table.columns) {
    const auto found = there.find(column.name);
    if (found == there.end()) {
      add("no " + column.name);
      continue;
    }
    if (found->second != column.type_name) {
      add(column.name + " " + found->second + " instead of " + column.type_name);
    }
    there.erase(found);
  }
  for (const auto& [name, type] : there) {
    add("also " + name + " " + type);
  }
  return text;
}

// "public.orders", "" where it is no partition.
std::string parent_of(const catalog::Catalog& tables, const catalog::Table& table) {
  const auto* root = table.partition ? tables.find(table.root) : nullptr;
  return root == nullptr ? "" : root->display();
}

std::string place_of(const std::string& parent) {
  return parent.empty() ? "no partition" : "a partition of " + parent;
}

}  // namespace

void set_identities(Context& context, const catalog::Catalog& tables, Side side, milliseconds budget) {
  if (!context.plan.keyless_full) {
    return;
  }
  for (const auto& table : tables.tables) {
    if (!table.keyless() || table.unlogged || table.replica_identity == 'f') {
      continue;
    }
    // Recorded first: a crash in between must not forget what it was.
    put_fact(context.servers.target(), context.token, "identity." + table.qualified(),
             std::string(1, table.replica_identity));
    postgres::exec_patiently(context.servers.at(side),
                             "ALTER TABLE ONLY " + table.qualified() + " REPLICA IDENTITY FULL",
                             base::Deadline::in(budget));
    base::log::info("REPLICA IDENTITY FULL set on " + table.display() +
                    ", which has no key; put back at the end");
  }
}

void adopt_partitions(Context& context, Side from) {
  auto& connection = context.servers.at(from);
  if (connection.server_major() < 13) {
    return;  // such a partition isn't in the stream: only a resync takes it in
  }
  const auto name = publication_name(context.plan.name, from);
  const auto published = stream::published_tables(connection, name);
  const auto is_published = [&](const catalog::Table* table) {
    return table != nullptr && std::ranges::binary_search(published, table->qualified());
  };
  const auto content = catalog::load(connection, context.plan.tables);
  catalog::Catalog added;
  std::ranges::copy_if(content.tables, std::back_inserter(added.tables), [&](const auto& table) {
    return table.partition && table.stores_rows() && !table.unlogged && !is_published(&table) &&
           is_published(content.find(table.root));
  });
  set_identities(context, added, from, kAdoptBudget);
  publish_tables(context, from, added.tables, kAdoptBudget);
}

void restore_identities(Context& context, Side side) {
  auto& connection = context.servers.at(side);
  for (const auto& [key, letter] : read_facts(context.servers.target(), "identity.")) {
    const auto table = key.substr(std::string_view("identity.").size());
    if (!connection.one_row("SELECT to_regclass($1) IS NOT NULL", {table}).boolean(0, 0)) {
      continue;
    }
    postgres::exec_patiently(connection,
                             "ALTER TABLE ONLY " + table + " REPLICA IDENTITY " + identity_clause(letter),
                             base::Deadline::in(kLockBudget));
  }
}

std::vector<std::string> structure_differences(const catalog::Catalog& here, const catalog::Catalog& there,
                                               std::string_view where, Keys keys) {
  std::vector<std::string> differences;
  const std::string on = " on the " + std::string(where);
  for (const auto& table : here.tables) {
    const auto* twin = there.find(table.schema, table.name);
    if (twin == nullptr) {
      differences.push_back("table " + table.display() + " is missing" + on);
    } else if (const auto here_in = parent_of(here, table), there_in = parent_of(there, *twin);
               here_in != there_in) {
      differences.push_back("table " + table.display() + " is " + place_of(there_in) + on + ", here " +
                            place_of(here_in));
    } else if (const auto other = other_columns(table, *twin); !other.empty()) {
      differences.push_back("table " + table.display() + " has other columns" + on + ": " + other);
    } else if (keys == Keys::compared && table.key != twin->key) {
      differences.push_back("table " + table.display() + " has another key" + on);
    }
  }
  return differences;
}

}  // namespace cutover::steps

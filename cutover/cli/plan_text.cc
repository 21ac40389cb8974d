#include "cutover/cli/plan_text.h"

#include <algorithm>
#include <map>

#include "cutover/check/check.h"
#include "cutover/state/status.h"
#include "cutover/steps/link.h"
#include "cutover/steps/prepare.h"
#include "cutover/steps/reset.h"
#include "replication/catalog/catalog.h"
#include "replication/catalog/left_out.h"
#include "replication/catalog/server.h"
#include "sequences/sequences.h"

namespace cutover::cli {
namespace {

namespace catalog = replication::catalog;

std::string server_line(std::string_view side, const catalog::ServerFacts& facts,
                        const std::string& address) {
  return std::string(side) + ": PostgreSQL " + std::to_string(facts.version / 10000) + "." +
         std::to_string(facts.version % 10000) + ", database " + facts.database + ", " +
         state::bytes_text(facts.database_bytes) + " (" + address + ")\n";
}

// The values of this system that belong to a step.
std::map<std::string, std::string> values_of(const plan::Plan& plan, const catalog::Catalog& source,
                                             int major, std::size_t sequences) {
  std::int64_t bytes = 0;
  std::int64_t stored = 0;
  const catalog::Table* largest = nullptr;
  for (const auto& table : source.tables) {
    bytes += table.bytes;
    stored += table.stores_rows() ? 1 : 0;
    if (largest == nullptr || table.bytes > largest->bytes) {
      largest = &table;
    }
  }
  std::map<std::string, std::string> values;
  values["publish"] = "publication " + steps::publication_name(plan.name, steps::Side::source) + ", " +
                      std::to_string(source.published(major).size()) + " tables";
  values["slot"] = "slot " + steps::slot_name(plan.name, steps::Side::source);
  values["copy"] =
      std::to_string(stored) + " tables, " + state::bytes_text(bytes) + ", " +
      std::to_string(plan.copy_jobs) + " at a time" +
      (largest == nullptr ? "" : "; largest " + largest->display() + " " + state::bytes_text(largest->bytes));
  if (const auto columns = catalog::columns_left_out(source); !columns.empty()) {
    values["copy"] += "; without " + check::list_text(columns, 20);
  }
  values["indexes"] = std::to_string(plan.index_jobs) + " at a time";
  if (plan.content == plan::Content::data_only) {
    values["schema"] = values["indexes"] = "nothing: --data-only takes the target's as it is";
  }
  values["foreign-keys"] = std::to_string(source.foreign_keys.size()) + " foreign keys, " +
                           std::to_string(source.matviews.size()) + " matviews";
  values["way-back"] = "slot " + steps::slot_name(plan.name, steps::Side::target);
  std::size_t poolers = 0;
  for (const auto& app : plan.apps) {
    poolers += app.pgbouncers.size() + (app.command ? 1 : 0);
  }
  values["hold"] = std::to_string(poolers) + " pooler(s) or hook(s); the whole pause has " +
                   plan::duration_text(plan.gates.max_pause);
  values["sequences"] = std::to_string(sequences) + " sequences, headroom " +
                        (plan.sequence_headroom > 0 ? std::to_string(plan.sequence_headroom) + " increments"
                                                    : "computed: `pgcutover sequences plan` shows each");
  return values;
}

// What --reset-target takes away before the first step.
std::string dropped_text(const plan::Plan& plan, replication::postgres::Connection& target) {
  std::vector<std::string> names;
  if (plan.content == plan::Content::data_only) {
    for (const auto& name : steps::tables_to_empty(target, plan.tables)) {
      names.push_back("rows of " + name);
    }
  } else {
    names = check::objects_to_drop(target);
  }
  std::string text = "--reset-target, before the first step, drops " + std::to_string(names.size()) +
                     " object(s) on the target:\n";
  for (const auto& name : names) {
    text += "  " + name + "\n";
  }
  return text + "\n";
}

}  // namespace

std::string plan_text(const plan::Plan& plan, steps::Servers& servers, bool reset_target) {
  auto& source = servers.source();
  auto& target = servers.target();
  const auto content = catalog::load(source, plan.tables);
  const auto values = values_of(plan, content, source.server_major(), sequences::inventory(source).size());
  std::string text = "migration " + plan.name + ", strategy " + plan.strategy + "\n";
  text += server_line("source", catalog::server_facts(source), plan.source.describe());
  text += server_line("target", catalog::server_facts(target), plan.target.describe()) + "\n";
  if (reset_target) {
    text += dropped_text(plan, target);
  }
  int number = 0;
  for (const auto& step : steps::steps_of(plan.content)) {
    if (step.id == "hold") {
      text += "\n`pgcutover switch`, one pause; anything that fails before the commit is undone:\n";
    }
    ++number;
    text += (number < 10 ? " " : "") + std::to_string(number) + ". " + step.id + ": " + step.title + "\n";
    if (const auto value = values.find(step.id); value != values.end()) {
      text += "      here:     " + value->second + "\n";
    }
    text += "      protects: " + step.protects + "\n      inverse:  " + step.inverse + "\n";
  }
  return text;
}

}  // namespace cutover::cli

#include "cutover/steps/columns.h"

#include <algorithm>

#include "cutover/check/check.h"
#include "replication/base/error.h"
#include "replication/base/log.h"

namespace cutover::steps {
namespace {

constexpr std::string_view kFact = "exclude-columns.";  // a fact for each pattern

}  // namespace

void column_findings(Context& context, Side from, base::Findings& findings) {
  if (context.plan.tables.columns.exclude.empty()) {
    return;
  }
  for (const Side side : {from, other(from)}) {
    auto& connection = context.servers.at(side);
    const std::string server(to_string(side));
    const auto tables = catalog::load(connection, context.plan.tables);
    auto found = check::column_findings(server, connection, tables, context.plan.unlogged_data);
    if (side == from) {
      if (auto names = check::columns_left_out(server, tables)) {
        found.push_back(std::move(*names));
      }
    } else {  // the same tables: said once
      std::erase_if(found, [](const auto& one) { return one.severity != base::Severity::blocks; });
    }
    std::ranges::move(found, std::back_inserter(findings));
  }
}

std::vector<std::string> kept_columns(postgres::Connection& target) {
  std::vector<std::string> patterns;
  for (const auto& [key, value] : read_facts(target, kFact)) {
    patterns.push_back(key.substr(kFact.size()));
  }
  return patterns;
}

void keep_columns(Context& context) {
  auto& target = context.servers.target();
  const auto& patterns = context.plan.tables.columns.exclude;
  const auto begun = kept_columns(target);
  for (const auto& pattern : begun) {
    if (std::ranges::find(patterns, pattern) == patterns.end()) {
      throw base::StateError(
          "this migration leaves out the columns " + pattern + ", and this plan doesn't",
          "say it again (tables: {exclude-columns: ...} or --exclude-columns); to move them "
          "too, `pgcutover cancel` and begin anew");
    }
  }
  std::vector<std::string> added;
  std::ranges::copy_if(patterns, std::back_inserter(added),
                       [&](const auto& pattern) { return std::ranges::find(begun, pattern) == begun.end(); });
  if (added.empty()) {
    return;
  }
  base::Findings findings;
  column_findings(context, Side::source, findings);
  for (const auto& finding : findings) {
    if (finding.severity == base::Severity::blocks && !context.plan.accepts(finding)) {
      throw base::StateError(finding.message, finding.remedy).on(finding.server).at(finding.object);
    }
  }
  for (const auto& pattern : added) {
    put_fact(target, context.token, std::string(kFact) + pattern, "yes");
    base::log::info("columns like " + pattern + " are left out from now on");
  }
}

}  // namespace cutover::steps

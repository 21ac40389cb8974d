#include "cutover/steps/stale.h"

#include <algorithm>

#include "replication/base/log.h"

namespace cutover::steps {
namespace {

namespace snapshot = replication::snapshot;

std::string prefix(Side side) {
  return "stale." + std::string(to_string(side)) + ".";
}

}  // namespace

void note_stale(Context& context, Side side, const std::vector<StaleMatview>& views) {
  auto& target = context.servers.target();
  for (const auto& old : stale_matviews(target, side)) {
    if (std::ranges::find(views, old.name, &StaleMatview::name) == views.end()) {
      put_fact(target, context.token, prefix(side) + old.name, "");
    }
  }
  for (const auto& view : views) {
    put_fact(target, context.token, prefix(side) + view.name, view.reason);
  }
}

std::vector<StaleMatview> stale_matviews(postgres::Connection& target, Side side) {
  std::vector<StaleMatview> views;
  for (const auto& [key, reason] : read_facts(target, prefix(side))) {
    if (!reason.empty()) {
      views.push_back({key.substr(prefix(side).size()), reason});
    }
  }
  return views;
}

void refresh_stale(Context& context, Side side) {
  try {
    const auto noted = stale_matviews(context.servers.target(), side);
    if (noted.empty()) {
      return;
    }
    // In the order of their dependencies; those that are new to the other side come last.
    std::vector<std::string> names;
    for (const auto& name : catalog::load(context.servers.at(side), context.plan.tables).matviews) {
      if (std::ranges::find(noted, name, &StaleMatview::name) != noted.end()) {
        names.push_back(name);
      }
    }
    for (const auto& view : noted) {
      if (std::ranges::find(names, view.name) == names.end()) {
        names.push_back(view.name);
      }
    }
    auto session = context.servers.open(side, "refresh");
    const auto left = snapshot::refresh_matviews(session, names);
    note_stale(context, side, left);
    for (const auto& view : left) {
      base::log::error(stale_text(view, side) + "; " + stale_remedy(view, side));
    }
    if (const auto count = names.size() - left.size(); count > 0) {
      base::log::info(std::to_string(count) +
                      " materialized views that were left behind are refreshed on the " +
                      std::string(to_string(side)));
    }
  } catch (const base::Stopped&) {
    throw;
  } catch (const base::StateError&) {
    throw;
  } catch (const base::Error& error) {
    base::log::error("materialized views that were left behind are not refreshed yet: " + error.describe());
  }
}

base::Findings stale_findings(postgres::Connection& target) {
  base::Findings findings;
  for (const Side side : {Side::source, Side::target}) {
    for (const auto& view : stale_matviews(target, side)) {
      findings.push_back({base::Severity::warns, "matview-stale", std::string(to_string(side)), view.name,
                          stale_text(view, side), stale_remedy(view, side)});
    }
  }
  return findings;
}

std::string stale_text(const StaleMatview& view, Side side) {
  return "materialized view " + view.name + " is not refreshed on the " + std::string(to_string(side)) +
         ": " + view.reason;
}

std::string stale_remedy(const StaleMatview& view, Side side) {
  return "REFRESH MATERIALIZED VIEW " + view.name + ";  on the " + std::string(to_string(side)) +
         " says so too: mend what it names (rows, or a function that finds its tables by search_path), or "
         "drop "
         "the view on both sides";
}

}  // namespace cutover::steps

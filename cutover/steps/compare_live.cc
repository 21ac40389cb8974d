#include "cutover/steps/compare_live.h"

#include <algorithm>

#include "cutover/report/report.h"
#include "replication/base/error.h"
#include "replication/base/log.h"
#include "replication/postgres/transaction.h"
#include "replication/stream/marker.h"
#include "replication/stream/slot.h"
#include "sequences/attribution.h"

namespace cutover::steps {
namespace {

using base::milliseconds;
using replication::apply::WaitResult;
namespace stream = replication::stream;
namespace verify = replication::verify;

constexpr milliseconds kHold{10'000};
constexpr milliseconds kReach{60'000};

class Held {
 public:
  explicit Held(replication::apply::Applier& applier) : applier_(applier) {}
  ~Held() { applier_.release(); }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

 private:
  replication::apply::Applier& applier_;
};

void expect(WaitResult result, Link& link, std::string_view what) {
  if (result == WaitResult::reached) {
    return;
  }
  link.check();
  throw base::TimeoutError("verify: " + std::string(what) + " took too long: apply goes on",
                           "try again when there are no long transactions and the lag is small");
}

std::string_view verdict_text(verify::Verdict verdict) {
  switch (verdict) {
    case verify::Verdict::equal:
      return "equal";
    case verify::Verdict::different:
      return "different";
    case verify::Verdict::not_compared:
      return "not compared";
  }
  throw base::Bug("unknown verdict");
}

}  // namespace

verify::Comparison compare_live(Context& context, Link& link,
                                const std::function<void(std::int64_t, std::int64_t)>& progress) {
  const Side from = link.from();
  const Side to = other(from);
  auto& publisher = context.servers.at(from);
  auto slot_session = context.servers.open(from, "verify", postgres::SessionKind::replication);
  auto far_session = context.servers.open(to, "verify");
  auto tables = catalog::load(context.servers.source(), context.plan.tables).tables;
  // No stream carries them: a hand-over compares and copies them when nobody writes them.
  std::erase_if(tables, [](const catalog::Table& table) { return table.unlogged; });

  std::string near_snapshot;
  std::string far_snapshot;
  {
    const Held held(link.applier());
    expect(link.applier().hold(base::Deadline::in(kHold)), link, "holding apply");
    // What changed while it is made doesn't matter: nothing is decoded by this slot, and its snapshot has
    // everything that was committed before its position, whatever the decoder knows of that.
    const auto slot = stream::create_slot(
        slot_session, publisher, "pgcutover_verify_" + context.servers.tag(), true, base::Deadline::in(kHold),
        [](const std::string& who) { base::log::warn("verify waits for open transactions: " + who); });
    near_snapshot = slot.snapshot_name;
    stream::write_marker(publisher,
                         "verify " + random_hex(4));  // something that comes after the slot's position
    expect(link.applier().run_until(slot.consistent_point, base::Deadline::in(kReach)), link,
           "reaching " + slot.consistent_point.to_string());
    far_session.exec("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    far_snapshot = far_session.one_value("SELECT pg_export_snapshot()");
  }
  verify::CompareOptions options;
  options.source = context.servers.info(Side::source, "verify");
  options.target = context.servers.info(Side::target, "verify");
  options.source_snapshot = from == Side::source ? near_snapshot : far_snapshot;
  options.target_snapshot = from == Side::source ? far_snapshot : near_snapshot;
  options.left_out = context.plan.tables.columns;
  options.jobs = context.plan.copy_jobs;
  options.progress = progress;
  const sequences::Attribution attribution(context.servers.at(to));
  options.made_by = [&attribution](const catalog::Table& table, const std::string& column,
                                   const std::string& value) {
    return attribution.made_by(table.schema, table.name, column, value);
  };
  return verify::compare(options, tables, context.servers.stop());
}

std::string comparison_text(const verify::Comparison& comparison) {
  std::string text;
  std::int64_t rows = 0;
  std::size_t equal = 0;
  for (const auto& table : comparison.tables) {
    rows += table.source_rows;
    equal += table.verdict == verify::Verdict::equal ? 1U : 0U;
    if (table.verdict != verify::Verdict::equal) {
      text += table.table + ": " + std::string(verdict_text(table.verdict)) + ", " +
              std::to_string(table.source_rows) + " rows on the source, " +
              std::to_string(table.target_rows) + " on the target" +
              (table.detail.empty() ? "" : "\n  " + table.detail) + "\n";
    }
  }
  return text + std::to_string(equal) + " of " + std::to_string(comparison.tables.size()) +
         " tables equal, " + std::to_string(rows) + " rows compared at one LSN\n";
}

std::string comparison_json(const verify::Comparison& comparison) {
  report::Report holder;  // the one JSON shape of these results
  for (const auto& table : comparison.tables) {
    holder.verify.push_back({table.table, std::string(verdict_text(table.verdict)), table.detail,
                             table.source_rows, table.target_rows});
  }
  return report::to_json(holder);
}

}  // namespace cutover::steps

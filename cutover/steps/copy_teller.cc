#include "cutover/steps/copy_teller.h"

namespace cutover::steps {
namespace {

std::vector<state::CopyTableStatus> copying(const replication::snapshot::CopyProgress& progress) {
  std::vector<state::CopyTableStatus> tables;
  for (const auto& one : progress.running) {
    state::CopyTableStatus table;
    table.table = one.table;
    table.state = "copying";
    table.bytes_done = one.bytes_done;
    table.bytes_total = one.bytes_total;
    table.rows = one.rows;
    table.since_us = now_us() - static_cast<std::int64_t>(one.seconds * 1e6);
    tables.push_back(std::move(table));
  }
  return tables;
}

}  // namespace

void CopyTeller::tell(const replication::snapshot::CopyProgress& progress) {
  const bool all = totals_ == Totals::all;
  const auto tables_out = all ? 0 : progress.tables_before;
  const auto bytes_out = all ? 0 : progress.bytes_before;
  publisher_.update([&](state::Status& status) {
    status.copy = {progress.tables_done - tables_out,
                   progress.tables_total - tables_out,
                   progress.bytes_done - bytes_out,
                   progress.bytes_total - bytes_out,
                   progress.rows_done - (all ? 0 : progress.rows_before),
                   copying(progress)};
    status.progress = {.step = step_,
                       .done = status.copy.bytes_done,
                       .total = status.copy.bytes_total,
                       .unit = "bytes",
                       .seconds = seconds(),
                       .current = progress.running.empty() ? "" : progress.running.front().table,
                       .rate = window_.rate(progress.bytes_done - progress.bytes_before, base::Clock::now())};
  });
}

void CopyTeller::end() {
  publisher_.update([](state::Status& status) { status.copy.tables.clear(); });
}

}  // namespace cutover::steps

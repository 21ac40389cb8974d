// The apply thread where the target doesn't fit the stream: it waits, has it mended, reads tables again.
#include <unordered_map>

#include "replication/apply/stream_must_restart.h"
#include "replication/apply/worker.h"
#include "replication/base/log.h"
#include "replication/postgres/sqlstate.h"

namespace replication::apply {
namespace {

constexpr base::milliseconds kMisfitPoll{500}, kMendPoll{5'000};
constexpr int kAttemptsMax = 3;  // a table that changes more often than this while one batch is written

}  // namespace

template <typename Action>
auto Worker::until_it_fits(const pgoutput::CachedRelation* relation, Action action) -> decltype(action()) {
  const auto budget = base::Deadline::in(options_.misfit_budget);
  auto mend_due = base::Deadline::in(base::milliseconds{0});
  std::string unmended;
  bool interrupted = false;
  for (;;) {
    try {
      const auto& result = action();
      if (!stats_.waiting_for.empty()) {
        base::log::info("apply " + options_.direction + " goes on: the target fits now");
        stats_.waiting_for.clear();
        control_.publish(stats_);
      }
      if (interrupted) {
        throw StreamMustRestart("the target had to be changed within a large transaction",
                                options_.server_name);
      }
      return result;
    } catch (const TargetMisfit& misfit) {
      if (control_.stopping()) {
        throw;
      }
      if (relation != nullptr) {  // in the old shape, while the target still has it
        flush_earlier();
      }
      if (parts_written_ && !interrupted) {
        lose_session();  // its locks would be in the operator's way
        interrupted = true;
      }
      if (relation != nullptr && options_.mend && !misfit.renamed && mend_due.expired()) {
        if (mend(*relation, unmended)) {
          continue;
        }
        mend_due = base::Deadline::in(kMendPoll);
      }
      if (budget.expired()) {
        throw;
      }
      if (const auto what = misfit.describe() + unmended; stats_.waiting_for != what) {
        stats_.waiting_for = what;
        base::log::warn("apply " + options_.direction + " waits: " + stats_.waiting_for);
        control_.publish(stats_);
      }
    }
    control_.wait(base::Deadline::in(kMisfitPoll).sooner(budget));
  }
}

bool Worker::mend(const pgoutput::CachedRelation& relation, std::string& why) {
  const auto at = batch_.transactions.empty() ? position_ : batch_.transactions.back().commit_lsn;
  const auto done = options_.mend(relation, at);
  if (done.done) {
    base::log::info("apply " + options_.direction + ": a schema change was followed: " + done.text);
    mended_ = true;
    return true;
  }
  why = done.text.empty() ? "" : "\nnot followed by itself: " + done.text;
  return false;
}

bool Worker::labels_came() {
  if (!options_.mend_types) {
    return false;
  }
  bool waited = false;
  return until_it_fits(nullptr, [&] {
    const auto mended = options_.mend_types();
    if (mended.done) {
      base::log::info("apply " + options_.direction + ": a schema change was followed: " + mended.text);
    } else if (!mended.text.empty()) {
      waited = true;
      throw TargetMisfit("an enum has a label in the stream that it lacks here", mended.text)
          .on(options_.server_name);
    }
    return mended.done || waited;
  });
}

const TargetTable& Worker::look_up(const pgoutput::CachedRelation& relation) {
  return until_it_fits(&relation, [&]() -> const TargetTable& {
    const TargetTable* table = nullptr;
    settle(std::nullopt, [&] {
      table = &tables_.get(relation, [&](const auto& wanted) {
        return load_target_table(session_.connection(), wanted, options_.left_out,
                                 options_.keep_twins ? options_.direction : std::string());
      });
      return TargetPosition{};
    });
    return *table;
  });
}

bool Worker::reload_tables() {
  bool changed = false;
  const auto refreshed = [&](const TargetTable* table) {
    return &until_it_fits(nullptr, [&]() -> const TargetTable& {
      const TargetTable* now = nullptr;
      settle(std::nullopt, [&] {
        now = &tables_.refresh(*table, [&](const auto& wanted) {
          return load_target_table(session_.connection(), wanted, options_.left_out,
                                   options_.keep_twins ? options_.direction : std::string());
        });
        return TargetPosition{};
      });
      return *now;
    });
  };
  std::unordered_map<const TargetTable*, const TargetTable*> now;
  batch_.replace_tables([&](const TargetTable* table) {
    const auto [entry, added] = now.emplace(table, nullptr);
    if (added) {
      entry->second = refreshed(table);
      changed = changed || entry->second != table;
      if (!entry->second->found_like(*table)) {
        throw StreamMustRestart("the key of " + table->display + " was changed on the target",
                                options_.server_name);
      }
    }
    return entry->second;
  });
  if (changed) {
    collector_.forget_tables();
  }
  return changed;
}

TargetPosition Worker::write(std::optional<base::Lsn> end, std::int64_t transactions, std::int64_t changes) {
  for (int attempt = 1;; ++attempt) {
    try {
      return writer_.write(batch_, stored_, end, transactions, changes, [&](const WriteCounts& counts) {
        approve(counts, batch_.transactions.back().commit_lsn);
      });
    } catch (const base::StateError&) {
      throw;
    } catch (const base::Error& error) {
      if (error.retryable() || !session_.usable() || attempt == kAttemptsMax) {
        throw;
      }
      // The table may have been changed on the target since it was read: a column added there first.
      const auto refused = std::current_exception();
      writer_.rollback();
      if (error.sqlstate() == postgres::sqlstate::kInvalidText && labels_came()) {
        if (parts_written_) {
          throw StreamMustRestart("an enum was changed on the target within a large transaction",
                                  options_.server_name);
        }
        attempt = 0;
        continue;
      }
      if (!reload_tables()) {
        std::rethrow_exception(refused);
      }
      if (parts_written_) {
        throw StreamMustRestart("a table was changed on the target within a large transaction",
                                options_.server_name);
      }
      base::log::warn("apply " + options_.direction +
                      ": a table was changed on the target, trying again: " + error.describe());
    }
  }
}

}  // namespace replication::apply

#include "cutover/cli/journal_verb.h"

#include <algorithm>
#include <array>
#include <iostream>
#include <iterator>

#include "cutover/state/status.h"
#include "cutover/steps/columns.h"
#include "cutover/steps/store.h"
#include "replication/apply/applier.h"
#include "replication/apply/progress.h"
#include "replication/base/error.h"
#include "replication/catalog/server.h"
#include "replication/journal/scan.h"
#include "replication/pgoutput/relation_cache.h"
#include "replication/snapshot/copy.h"
#include "replication/stream/chunk.h"

namespace cutover::cli {
namespace {

namespace journal = replication::journal;
namespace pgoutput = replication::pgoutput;
namespace stream = replication::stream;
namespace apply = replication::apply;
using base::Deadline;
using base::ExitCode;
using base::milliseconds;

constexpr std::size_t kQueueItems = 256;
constexpr std::size_t kQueueBytes = std::size_t{64} << 20;
constexpr milliseconds kTick{200};

[[noreturn]] void refuse_empty(const std::string& directory) {
  throw base::UsageError("there is no journal in " + directory, "give the --spool that the run was given");
}

int stat(const std::string& directory) {
  std::int64_t messages = 0;
  std::uint64_t bytes = 0;
  const auto segments = journal::scan(directory, nullptr);
  for (const auto& segment : segments) {
    messages += static_cast<std::int64_t>(segment.whole.messages);
    bytes += segment.bytes;
    std::cout << segment.path << ": " << segment.header.begin_lsn.to_string() << " to "
              << segment.end_lsn.to_string() << ", " << segment.whole.messages << " messages, "
              << state::bytes_text(static_cast<std::int64_t>(segment.bytes))
              << (segment.torn > 0
                      ? ", " + std::to_string(segment.torn) + " bytes of a write that was cut off"
                      : "")
              << "\n";
  }
  if (segments.empty()) {
    refuse_empty(directory);
  }
  std::cout << "slot " << segments.front().header.identity.slot << ", "
            << segments.front().header.begin_lsn.to_string() << " to " << segments.back().end_lsn.to_string()
            << ", " << messages << " messages, " << state::bytes_text(static_cast<std::int64_t>(bytes))
            << " on disk, no damage\n";
  return static_cast<int>(ExitCode::done);
}

// A line for each message.
class Printer {
 public:
  void print(std::span<const char> bytes) {
    const auto message = pgoutput::decode(bytes);
    if (const auto* relation = std::get_if<pgoutput::Relation>(&message)) {
      cache_.update(*relation);
    } else if (const auto* begin = std::get_if<pgoutput::Begin>(&message)) {
      std::cout << "begin " << begin->final_lsn.to_string() << " xid " << begin->xid << "\n";
    } else if (const auto* commit = std::get_if<pgoutput::Commit>(&message)) {
      std::cout << "commit " << commit->end_lsn.to_string() << "\n";
    } else if (const auto* insert = std::get_if<pgoutput::Insert>(&message)) {
      std::cout << "insert " << row(insert->relation, insert->new_row) << "\n";
    } else if (const auto* update = std::get_if<pgoutput::Update>(&message)) {
      std::cout << "update " << row(update->relation, update->new_row);
      if (update->old_kind != pgoutput::OldRow::none) {
        std::cout << " of " << row(update->relation, update->old_row);
      }
      std::cout << "\n";
    } else if (const auto* remove = std::get_if<pgoutput::Delete>(&message)) {
      std::cout << "delete " << row(remove->relation, remove->old_row) << "\n";
    } else if (const auto* truncate = std::get_if<pgoutput::Truncate>(&message)) {
      std::cout << "truncate";
      for (const auto oid : truncate->relations) {
        std::cout << " " << cache_.get(oid).schema << "." << cache_.get(oid).name;
      }
      std::cout << "\n";
    }
  }

 private:
  std::string row(base::Oid oid, const pgoutput::Tuple& tuple) const {
    const auto& relation = cache_.get(oid);
    std::vector<pgoutput::ColumnValue> values;
    tuple.read(values);
    std::string text = relation.schema + "." + relation.name;
    for (std::size_t i = 0; i < std::min(values.size(), relation.columns.size()); ++i) {
      text += " " + relation.columns[i].name + "=" + value(values[i]);
    }
    return text;
  }
  static std::string value(const pgoutput::ColumnValue& value) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    switch (value.kind) {
      case pgoutput::ColumnKind::null:
        return "NULL";
      case pgoutput::ColumnKind::unchanged_toast:
        return "(unchanged)";
      case pgoutput::ColumnKind::text:
        return std::string(value.bytes);
      case pgoutput::ColumnKind::binary:
        break;
    }
    std::string text = "\\x";
    for (const char c : value.bytes) {
      const auto byte = static_cast<std::uint8_t>(c);
      text += kDigits[byte >> 4];
      text += kDigits[byte & 15];
    }
    return text;
  }
  pgoutput::RelationCache cache_;
};

template <typename Call>
void each_message(const journal::Entry& entry, const Call& call) {
  std::size_t at = 0;
  for (const auto length : entry.lengths) {
    call(std::span<const char>(entry.bytes.data() + at, length));
    at += length;
  }
}

int cat(const std::string& directory) {
  Printer printer;
  const auto segments = journal::scan(directory, [&](const journal::Entry& entry) {
    each_message(entry, [&](std::span<const char> bytes) { printer.print(bytes); });
  });
  if (segments.empty()) {
    refuse_empty(directory);
  }
  std::cout << std::flush;
  return static_cast<int>(ExitCode::done);
}

// Applies a journal to a staging database, not to the target of a run: one that holds what the first copy's
// snapshot showed at the journal's beginning, or a copy of the run's target, which says itself what it has.
class Replay {
 public:
  Replay(const Invocation& invocation, const base::Stop& stop)
      : directory_(invocation.plan.spool_directory),
        left_out_(invocation.plan.tables.columns),
        stop_(stop),
        servers_(invocation.plan, invocation.connect_timeout, stop) {}

  int run() {
    const auto segments = journal::survey(directory_);
    if (segments.empty()) {
      throw base::UsageError("there is no journal in " + directory_, "see --spool");
    }
    prepare(segments.front().header);
    start();
    journal::scan(directory_, [this](const journal::Entry& entry) { feed(entry); });
    wait(segments.back().end_lsn);
    const auto stats = applier_->stats();
    std::cout << "replayed up to " << stats.applied_lsn.to_string() << ": " << stats.transactions
              << " transactions, " << stats.applied + stats.compacted << " changes, " << stats.conflicts
              << " conflicts\n";
    applier_->stop();
    return static_cast<int>(stats.conflicts > 0 ? ExitCode::data_differs : ExitCode::done);
  }

 private:
  void prepare(const journal::Header& first) {
    auto& target = servers_.target();
    const auto begin = first.begin_lsn;
    if (const auto run = steps::read_run(target)) {
      const auto facts = replication::catalog::server_facts(target);
      if (run->target_system == facts.system_identifier && run->target_database == facts.database) {
        throw base::StateError("the target belongs to a migration: its run applies the journal itself",
                               "give a staging database: a copy of this one under another name, or one that "
                               "holds what the first copy saw");
      }
      if (run->run_id != first.identity.run) {
        throw base::StateError("the target is a copy of another migration's, the journal isn't of that",
                               "give the --spool of that run");
      }
      if (!steps::step_done(target, "copy")) {
        throw base::StateError("the target is a copy of one whose tables were not all copied yet",
                               "copy it behind the step copy: `pgcutover run --until indexes`");
      }
    }
    steps::create_schema(target);
    epoch_ = target
                 .one_row(
                     "UPDATE pgcutover.controller SET epoch = epoch + 1, holder = 'journal replay' "
                     "RETURNING epoch")
                 .integer(0, 0);
    const auto progress = apply::read_progress(target, kDirection);
    if (progress && progress->applied_lsn < begin) {
      throw base::NeedsOperator("the target is at " + progress->applied_lsn.to_string() +
                                    ", the journal begins at " + begin.to_string(),
                                "changes in between are missing: begin with a fresh staging database");
    }
    if (progress) {
      apply::adopt_progress(target, kDirection, epoch_);
    } else {
      apply::init_progress(target, kDirection, begin, epoch_, false);
    }
  }

  void start() {
    apply::ApplierOptions options;
    options.server = servers_.info(steps::Side::target, "replay");
    options.direction = kDirection;
    options.token = replication::postgres::FencingToken(epoch_);
    options.left_out = left_out_;
    std::ranges::move(steps::kept_columns(servers_.target()), std::back_inserter(options.left_out.exclude));
    // Of tables that were read in snapshots of their own: what these showed is there already.
    for (const auto& pending : replication::snapshot::pending_snapshots(servers_.target())) {
      options.filters.push_back({pending.schema, pending.name, pending.snapshot, pending.marker});
    }
    applier_ = std::make_unique<apply::Applier>(std::move(options), queue_);
    applier_->start();
  }

  void check() {
    stop_.check();
    if (const auto failure = applier_->failure()) {
      std::rethrow_exception(failure);
    }
  }

  void feed(const journal::Entry& entry) {
    auto chunk = std::make_shared<stream::Chunk>();
    each_message(entry, [&](std::span<const char> bytes) { chunk->append(bytes); });
    chunk->drained = entry.whole;
    chunk->idle_until = entry.idle_until;
    std::shared_ptr<const stream::Chunk> item = std::move(chunk);
    const auto bytes = item->footprint();
    while (!queue_.push(std::move(item), bytes, Deadline::in(kTick))) {
      check();
    }
  }

  void wait(base::Lsn end) {
    while (applier_->wait_durable(end, Deadline::in(kTick)) != apply::WaitResult::reached) {
      check();
    }
  }

  static constexpr const char* kDirection = "forward";
  const std::string& directory_;
  const replication::catalog::ColumnFilter& left_out_;
  const base::Stop& stop_;
  steps::Servers servers_;
  std::int64_t epoch_ = 0;
  stream::ChunkQueue queue_{kQueueItems, kQueueBytes};
  std::unique_ptr<apply::Applier> applier_;
};

}  // namespace

int journal_verb(const Invocation& invocation, const base::Stop& stop) {
  const auto& directory = invocation.plan.spool_directory;
  if (directory.empty()) {
    throw base::UsageError("journal " + invocation.action + " needs --spool DIR",
                           "the directory that the run was given");
  }
  if (invocation.action == "stat") {
    return stat(directory);
  }
  if (invocation.action == "cat") {
    return cat(directory);
  }
  if (invocation.plan.target.empty()) {
    throw base::UsageError("journal replay needs --target", "a staging database that holds the first copy");
  }
  return Replay(invocation, stop).run();
}

}  // namespace cutover::cli

#include "replication/snapshot/index_builder.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <poll.h>
#include <set>
#include <thread>
#include <utility>

#include "replication/base/error.h"
#include "replication/base/fault_point.h"
#include "replication/base/log.h"
#include "replication/postgres/quote.h"
#include "replication/snapshot/index_statement.h"
#include "replication/snapshot/restore.h"
#include "replication/snapshot/retry.h"

namespace replication::snapshot {
namespace {

using base::Deadline;
using base::Error;
using catalog::Table;

constexpr std::int64_t kSmallTable = std::int64_t{1} << 20;
constexpr std::size_t kBatchStatements = 40;
constexpr std::chrono::milliseconds kLook{250};
constexpr base::milliseconds kTell{500};
constexpr base::milliseconds kPredecessorEnds{30'000};
constexpr const char* kNoteRefused = "23502";  // not_null_violation, see restored_note_sql
constexpr const char* kFirstHalf = "/index";   // of a constraint: the key of its index's note

struct Build {
  RestoreItem item;
  IndexStatement statement;
  bool half_done = false;  // the index of a constraint is there, the constraint isn't
  bool two_steps() const { return !statement.build.empty(); }
};

// A table on its way: what is built for it, and what follows when the last one is there.
struct TableWork {
  const Table* table = nullptr;
  std::vector<Build> builds;
  std::size_t left = 0;
};

struct Task {
  std::vector<TableWork*> tables;    // several: small ones, everything in one transaction
  std::optional<std::size_t> build;  // of one table; none: all of it
};

std::string mark_analyzed(const Table& table) {
  return "UPDATE pgcutover.table_copy SET analyzed = true WHERE schema = " +
         postgres::quote_literal(table.schema) + " AND name = " + postgres::quote_literal(table.name) + ";";
}

std::string analyze_sql(const std::vector<TableWork*>& tables) {
  std::string names;
  std::string marks;
  for (const auto* work : tables) {
    names += (names.empty() ? "" : ", ") + work->table->qualified();
    marks += mark_analyzed(*work->table);
  }
  return "ANALYZE " + names + ";" + marks;
}

// What all threads share.
struct Shared {
  Shared(postgres::ConnInfo target_info, const postgres::FencingToken& our_token, int job_count,
         const base::Stop& outer)
      : target(std::move(target_info)),
        token(our_token),
        in_control(token.sql_condition()),
        jobs(std::max(job_count, 1)),
        stop(outer) {}

  const postgres::ConnInfo target;
  const postgres::FencingToken token;
  const std::string in_control;  // SQL
  const int jobs;
  const base::Stop& stop;
  base::Stop cancel;
  std::map<std::pair<std::string, std::string>, std::vector<Build>> wanted;
  std::set<std::string> halves_done;  // keys of constraints whose index was built by an earlier run
  std::int64_t total = 0;
  std::atomic<std::int64_t> done{0};

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<TableWork> tables;  // a deque never moves what it holds
  std::deque<Task> tasks;
  std::vector<TableWork*> small;  // waiting for company
  std::size_t small_statements = 0;
  int idle = 0;
  bool closed = false;
  std::exception_ptr failure;

  void push_small() {
    if (!small.empty()) {
      tasks.push_back({std::move(small), std::nullopt});
      small.clear();
      small_statements = 0;
    }
  }

  void add(const Table& table) {
    const std::lock_guard lock(mutex);
    auto& work = tables.emplace_back();
    work.table = &table;
    if (const auto found = wanted.find({table.schema, table.name}); found != wanted.end()) {
      work.builds = std::move(found->second);
      wanted.erase(found);
    }
    std::stable_sort(work.builds.begin(), work.builds.end(), [](const Build& a, const Build& b) {
      return a.statement.unique && !b.statement.unique;
    });
    work.left = work.builds.size();
    if (table.bytes <= kSmallTable || work.builds.empty()) {
      small.push_back(&work);
      small_statements += work.builds.size() + 1;
      if (small_statements >= kBatchStatements || table.bytes > kSmallTable) {
        push_small();
      }
    } else {
      for (std::size_t i = 0; i < work.builds.size(); ++i) {
        tasks.push_back({{&work}, i});
      }
    }
    changed.notify_all();
  }

  std::optional<Task> next() {
    std::unique_lock lock(mutex);
    ++idle;
    while (tasks.empty() && !closed && !cancel.requested()) {
      changed.wait_for(lock, kLook);
      if (stop.requested()) {
        cancel.request();
      }
    }
    --idle;
    if (tasks.empty() || cancel.requested()) {
      return std::nullopt;
    }
    auto task = std::move(tasks.front());
    tasks.pop_front();
    return task;
  }

  // Whether that was the table's last build.
  bool built(TableWork& work) {
    const std::lock_guard lock(mutex);
    return --work.left == 0;
  }

  // Parallel workers for a build that begins now: jobs that have nothing to do lend their cores, and the last
  // build in sight gets one more, for the core that will soon be free.
  int parallel_workers() {
    const std::lock_guard lock(mutex);
    const auto waiting = static_cast<int>(tasks.size());
    return std::min(jobs - 1, idle / (waiting + 1) + (waiting == 0 ? 1 : 0));
  }

  void fail() {
    const std::lock_guard lock(mutex);
    if (!failure) {
      failure = std::current_exception();  // later ones are mostly our own cancellations
    }
    cancel.request();
    changed.notify_all();
  }
};

class Worker {
 public:
  explicit Worker(Shared& shared) : shared_(shared) {}

  void run(const Task& task) {
    if (task.build) {
      auto& work = *task.tables.front();
      allow_parallel(shared_.parallel_workers());
      build(work.builds[*task.build], true);
      if (shared_.built(work)) {
        complete(work);
      }
      return;
    }
    if (!run_batch(task)) {
      for (auto* work : task.tables) {
        for (auto& one : work->builds) {
          build(one, false);
        }
        complete(*work);
      }
    }
  }

 private:
  postgres::Connection& session() {
    if (!session_ || !session_->usable()) {
      session_.emplace(open_restore_session(shared_.target, shared_.token, shared_.cancel));
      end_predecessor();
      pid_ = session_->backend_pid();
    }
    return *session_;
  }

  // The backend of a lost connection builds on, and commits: whether it did must be known before its
  // statement is run again.
  void end_predecessor() {
    const auto deadline = Deadline::in(kPredecessorEnds);
    while (pid_ != 0 &&
           session_->maybe_value("SELECT pg_terminate_backend(pid)::text FROM pg_catalog.pg_stat_activity "
                                 "WHERE pid = $1 AND usename = current_user AND application_name = "
                                 "current_setting('application_name')",
                                 postgres::Params().integer(pid_))) {
      if (deadline.expired()) {
        throw base::TimeoutError("our lost session does not end: pid " + std::to_string(pid_)).on("target");
      }
      shared_.cancel.wait(Deadline::in(kLook));
      shared_.cancel.check();
    }
    pid_ = 0;
  }

  void allow_parallel(int workers) {
    attempt("preparing an index build",
            [&] { session().exec("SET max_parallel_maintenance_workers = " + std::to_string(workers)); });
  }

  template <typename Action>
  void attempt(const std::string& doing, Action action) {
    repeated_ = false;
    with_retries(
        shared_.cancel, action,
        [&] {
          session_.reset();
          repeated_ = true;
        },
        [&] { return doing; });
  }

  // After a lost COMMIT only the note tells.
  bool noted(const std::string& key) {
    return session()
        .maybe_value("SELECT statement FROM pgcutover.restored WHERE statement = $1", postgres::Params{key})
        .has_value();
  }

  // False where it needs something that isn't there yet.
  bool run_noted(const RestoreItem& item, const std::string& sql, const std::string& key) {
    bool ran = true;
    attempt("restoring " + headline(item.item.sql), [&] {
      ran = true;
      if (repeated_ && noted(key)) {
        return;
      }
      try {
        session().exec(item.item.settings + sql + '\n' + restored_note_sql(key, shared_.in_control),
                       Deadline::never());
      } catch (Error& error) {
        if (error.connection_usable() && needs_something_else(error)) {
          base::log::debug("put off: " + headline(item.item.sql) + ": " + error.message());
          ran = false;
          return;
        }
        if (error.sqlstate() == kNoteRefused && error.message().find("\"statement\"") != std::string::npos) {
          throw base::StateError("another controller took over", "see `pgcutover status`").on("target");
        }
        error.with_hint(restore_remedy(error));
        throw;
      }
    });
    return ran;
  }

  void build(Build& one, bool in_two_steps) {
    if (in_two_steps && one.two_steps()) {
      const auto key = one.item.key + kFirstHalf;
      one.half_done = shared_.halves_done.contains(key) || run_noted(one.item, one.statement.build, key);
    } else if (shared_.halves_done.contains(one.item.key + kFirstHalf)) {
      one.half_done = true;
    } else {
      run_noted(one.item, one.item.item.sql, one.item.key);
    }
    ++shared_.done;
  }

  // Constraints on their indexes, and the statistics.
  void complete(TableWork& work) {
    base::fault_point("indexes.table-built");
    for (auto& one : work.builds) {
      if (one.half_done) {
        run_noted(one.item, one.statement.attach, one.item.key);
      }
    }
    attempt("analyzing " + work.table->display(),
            [&] { session().exec(analyze_sql({&work}), Deadline::never()); });
    base::fault_point("indexes.table-done");
  }

  // Everything of several small tables in one transaction; false where that can't be done, and nothing was.
  bool run_batch(const Task& task) {
    std::string sql;
    std::int64_t builds = 0;
    const std::string* settings = nullptr;
    for (const auto* work : task.tables) {
      for (const auto& one : work->builds) {
        if (shared_.halves_done.contains(one.item.key + kFirstHalf)) {
          return false;
        }
        if (settings == nullptr || *settings != one.item.item.settings) {
          sql += one.item.item.settings;
          settings = &one.item.item.settings;
        }
        sql += one.item.item.sql + '\n' + restored_note_sql(one.item.key, shared_.in_control);
        ++builds;
      }
    }
    sql += analyze_sql(task.tables);
    try {
      session().exec(sql, Deadline::never());
    } catch (const base::Stopped&) {
      throw;
    } catch (const Error& error) {
      base::log::debug("one by one: " + error.message());
      if (error.connection_usable()) {
        return false;
      }
      // Done or not? One by one finds out.
      session_.reset();
      for (auto* work : task.tables) {
        std::erase_if(work->builds, [&](const Build& one) {
          bool there = false;
          attempt("looking what was restored", [&] { there = noted(one.item.key); });
          return there;
        });
      }
      return false;
    }
    shared_.done += builds;
    base::fault_point("indexes.table-done");
    return true;
  }

  Shared& shared_;
  std::optional<postgres::Connection> session_;
  int pid_ = 0;  // of the last session's backend
  bool repeated_ = false;
};

}  // namespace

struct IndexBuilder::State : Shared {
  using Shared::Shared;
  base::Stop all_ended;
  std::atomic<int> alive{0};
  std::vector<std::jthread> threads;
};

IndexBuilder::IndexBuilder(const postgres::ConnInfo& target, const postgres::FencingToken& token,
                           const std::vector<ScriptItem>& post_data, int jobs, const base::Stop& stop)
    : state_(std::make_unique<State>(target, token, jobs, stop)) {
  auto connection = open_restore_session(target, token, stop);
  for (auto& item : outstanding(connection, post_data)) {
    if (auto statement = read_index_statement(item.item.sql)) {
      ++state_->total;
      auto& builds = state_->wanted[{statement->schema, statement->table}];
      builds.push_back({std::move(item), std::move(*statement)});
    }
  }
  const auto halves = connection.exec("SELECT statement FROM pgcutover.restored WHERE statement LIKE '%" +
                                      std::string(kFirstHalf) + "'");
  for (int row = 0; row < halves.rows(); ++row) {
    state_->halves_done.insert(halves.text(row, 0));
  }
  state_->alive = state_->jobs;
  for (int i = 0; i < state_->jobs; ++i) {
    state_->threads.emplace_back([&state = *state_] {
      try {
        Worker worker(state);
        while (const auto task = state.next()) {
          worker.run(*task);
        }
      } catch (...) {
        state.fail();
      }
      if (--state.alive == 0) {
        state.all_ended.request();
      }
    });
  }
}

IndexBuilder::~IndexBuilder() {
  state_->cancel.request();
  state_->changed.notify_all();
}

void IndexBuilder::table_in(const Table& table) {
  state_->add(table);
}

void IndexBuilder::finish(const std::function<void(const IndexProgress&)>& tell) {
  {
    const std::lock_guard lock(state_->mutex);
    state_->push_small();
    state_->closed = true;
    state_->changed.notify_all();
  }
  try {
    while (base::poll_fd(state_->all_ended.fd(), POLLIN, Deadline::in(kTell), state_->stop) == 0) {
      if (tell) {
        tell(progress());
      }
    }
  } catch (...) {
    state_->fail();
  }
  state_->threads.clear();  // joins
  if (state_->failure) {
    std::rethrow_exception(state_->failure);
  }
}

IndexProgress IndexBuilder::progress() const {
  return {state_->done, state_->total};
}

}  // namespace replication::snapshot

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "cutover/traffic/traffic.h"
#include "replication/base/error.h"
#include "replication/base/log.h"

namespace cutover::traffic {
namespace {

constexpr base::milliseconds kUndo{15'000};

std::string message_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const base::Error& known) {
    return known.message() + (known.hint().empty() ? "" : " (" + known.hint() + ")");
  } catch (const std::exception& other) {
    return other.what();
  }
}

// Runs `action` for every adapter, each in a thread of its own, and hands each index to `ended` as it ends.
class Parallel {
 public:
  Parallel(std::vector<std::unique_ptr<Adapter>>& adapters, const std::function<void(Adapter&)>& action)
      : errors(adapters.size()) {
    threads_.reserve(adapters.size());
    for (std::size_t index = 0; index < adapters.size(); ++index) {
      threads_.emplace_back([this, index, &adapter = *adapters[index], action] {
        std::exception_ptr error;
        try {
          action(adapter);
        } catch (...) {
          error = std::current_exception();
        }
        const std::lock_guard lock(mutex_);
        errors[index] = error;
        ended_.push_back(index);
        changed_.notify_one();
      });
    }
  }

  // The next adapter that has ended; nothing after the last. Every action has a deadline, so this wait has
  // one.
  std::optional<std::size_t> next() {
    std::unique_lock lock(mutex_);
    if (seen_ == errors.size()) {
      return std::nullopt;
    }
    changed_.wait(lock, [this] { return ended_.size() > seen_; });
    return ended_[seen_++];
  }
  void wait_all() {
    while (next()) {
    }
  }

  std::vector<std::exception_ptr> errors;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::size_t> ended_;
  std::size_t seen_ = 0;
  std::vector<std::jthread> threads_;  // last: joined before the rest goes
};

// One error that names all that failed.
void throw_failures(const std::vector<std::unique_ptr<Adapter>>& adapters,
                    const std::vector<std::exception_ptr>& errors, const std::string& what) {
  std::string text;
  std::size_t count = 0;
  for (std::size_t index = 0; index < adapters.size(); ++index) {
    if (errors[index]) {
      ++count;
      text += (text.empty() ? "" : "; ") + adapters[index]->name() + ": " + message_of(errors[index]);
    }
  }
  if (count > 0) {
    throw base::Error(std::to_string(count) + " of " + std::to_string(adapters.size()) +
                          " ways of traffic could not be " + what + ": " + text,
                      "the others were; mend these by hand where they don't answer");
  }
}

std::vector<std::unique_ptr<Adapter>> adapters_of(const plan::Plan& plan, std::int64_t epoch,
                                                  const base::Stop& stop) {
  std::vector<std::unique_ptr<Adapter>> adapters;
  for (const auto& app : plan.apps) {
    for (const auto& spec : app.pgbouncers) {
      adapters.push_back(make_pgbouncer(plan, app, spec, stop));
    }
    if (app.command) {
      adapters.push_back(make_command(app, epoch, stop));
    }
  }
  return adapters;
}

}  // namespace

std::string_view to_string(Destination destination) {
  return destination == Destination::source ? "source" : "target";
}

Destination other(Destination destination) {
  return destination == Destination::source ? Destination::target : Destination::source;
}

TrafficSet::TrafficSet(const plan::Plan& plan, Guard guard, const base::Stop& stop)
    : TrafficSet(adapters_of(plan, guard.epoch, stop), guard) {}

TrafficSet::TrafficSet(std::vector<std::unique_ptr<Adapter>> adapters, Guard guard)
    : adapters_(std::move(adapters)), guard_(std::move(guard)) {}

TrafficSet::~TrafficSet() = default;

std::vector<std::string> TrafficSet::names() const {
  std::vector<std::string> names;
  for (const auto& adapter : adapters_) {
    names.push_back(adapter->name());
  }
  return names;
}

base::Findings TrafficSet::check_all(Destination expected, base::milliseconds pause_max) {
  base::Findings findings;
  for (const auto& adapter : adapters_) {
    auto more = adapter->check(expected, pause_max);
    findings.insert(findings.end(), more.begin(), more.end());
  }
  return findings;
}

void TrafficSet::hold_all(base::Deadline deadline) {
  if (guard_.assert_epoch) {
    guard_.assert_epoch();
  }
  Parallel holds(adapters_, [deadline](Adapter& adapter) { adapter.hold(deadline); });
  std::vector<std::size_t> held;
  std::exception_ptr first;
  std::vector<std::exception_ptr> not_released(adapters_.size());
  // From the first failure on, whoever is held or becomes so is let go at once: a slow one must not stall the
  // others.
  while (const auto index = holds.next()) {
    if (const auto& error = holds.errors[*index]) {
      first = first ? first : error;
    } else {
      held.push_back(*index);
    }
    while (first && !held.empty()) {
      const auto last = held.back();
      held.pop_back();
      try {
        adapters_[last]->release(base::Deadline::in(kUndo));
      } catch (...) {
        not_released[last] = std::current_exception();
      }
    }
  }
  if (first) {
    try {
      throw_failures(adapters_, not_released, "released again");
    } catch (const base::Error& error) {
      throw base::NeedsOperator(error.message() + "; after: " + message_of(first),
                                "on the pooler's console: RESUME; then try again");
    }
    std::rethrow_exception(first);
  }
}

void TrafficSet::release_all(base::Deadline deadline) {
  Parallel releases(adapters_, [deadline](Adapter& adapter) { adapter.release(deadline); });
  releases.wait_all();
  throw_failures(adapters_, releases.errors, "released");
}

void TrafficSet::move_all(Destination destination, base::Deadline deadline) {
  if (guard_.assert_epoch) {
    guard_.assert_epoch();
  }
  Parallel moves(adapters_,
                 [destination, deadline](Adapter& adapter) { adapter.move(destination, deadline); });
  moves.wait_all();
  throw_failures(adapters_, moves.errors, "moved");
}

bool TrafficSet::any_held() {
  for (const auto& adapter : adapters_) {
    if (adapter->held()) {
      return true;
    }
  }
  return false;
}

std::optional<Destination> TrafficSet::points_to() {
  std::optional<Destination> common;
  for (const auto& adapter : adapters_) {
    const auto one = adapter->points_to();
    if (!one || (common && *common != *one)) {
      return std::nullopt;
    }
    common = one;
  }
  return common;
}

}  // namespace cutover::traffic

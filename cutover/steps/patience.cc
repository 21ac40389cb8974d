#include "cutover/steps/patience.h"

#include "replication/base/error.h"
#include "replication/base/log.h"

namespace cutover::steps {
namespace {

constexpr base::milliseconds kPause{500};
// Work that went on for so many budgets before it failed had come somewhere: what fails now is something new.
constexpr int kProgress = 3;

}  // namespace

bool Patience::attempt(const std::function<void()>& work, const std::function<void()>& let_go) {
  const auto begun = base::Clock::now();
  try {
    work();
    budget_.reset();
    return true;
  } catch (const base::Error& error) {
    if (!budget_ || base::Clock::now() - begun > kProgress * span_) {
      budget_ = base::Deadline::in(span_);
    }
    if (!error.retryable() || budget_->expired()) {
      throw;
    }
    base::log::warn(error.describe() + "; trying again");
  }
  let_go();
  stop_.wait(base::Deadline::in(kPause));
  return false;
}

}  // namespace cutover::steps

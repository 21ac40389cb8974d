// Tells how far a copy is: the first one, or a resync. One object for one copy; the copy's workers call it
// one at a time. The rate counts from the object's beginning and never what was copied before.
#pragma once

#include <string>

#include "cutover/steps/publisher.h"
#include "cutover/steps/rate_window.h"
#include "replication/snapshot/copy.h"

namespace cutover::steps {

// What the totals count: a first copy that goes on shows all tables, a resync only those it copies.
enum class Totals { all, what_is_left };

class CopyTeller {
 public:
  CopyTeller(Publisher& publisher, std::string step, Totals totals)
      : publisher_(publisher), step_(std::move(step)), totals_(totals) {
    window_.rate(0, began_);
  }
  void tell(const replication::snapshot::CopyProgress& progress);
  // Nothing is under way any more.
  void end();
  double seconds() const { return std::chrono::duration<double>(base::Clock::now() - began_).count(); }

 private:
  Publisher& publisher_;
  const std::string step_;
  const Totals totals_;
  const base::Clock::time_point began_ = base::Clock::now();
  RateWindow window_;
};

}  // namespace cutover::steps

// The guardian: a child process that settles a hand-over when its controller dies or freezes in the middle of
// it.
//
// It gets the plan (with secrets) through a pipe, connects, says "armed", and waits for one byte ("all is
// well") for the pause's budget and a little more. The end of the pipe without that byte, or the time-out,
// means that the controller is gone or frozen: the guardian takes its place (epoch), ends its sessions and
// settles. It runs in a process group of its own, so that a signal at the terminal doesn't reach it. Loss of
// the whole host is not covered by it but by `pgcutover unfence` and by the next controller.
#pragma once

#include <sys/types.h>

#include "cutover/steps/side.h"

namespace cutover::steps {

struct Context;

class Guardian {
 public:
  // Spawns it and waits until it is armed; throws where that fails, before anything was held.
  Guardian(Context& context, Side from);
  ~Guardian();  // closing the pipe without disarm() makes it act
  Guardian(const Guardian&) = delete;
  Guardian& operator=(const Guardian&) = delete;

  void disarm() noexcept;

 private:
  pid_t pid_ = -1;
  int pipe_ = -1;
};

// The child's main: reads its orders from descriptor 0, answers on 1. Returns the exit code.
int guardian_main();

}  // namespace cutover::steps

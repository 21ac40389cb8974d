// Progress for people: on a terminal one live line on stderr that is wiped and drawn again around log lines;
// without one, a log line when the text's head changes and once a minute. One Terminal at a time in a
// process; any thread may call show.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

namespace cutover::state {

class Terminal {
 public:
  // `interactive`: draw a live line (callers pass isatty(2) and that nobody asked for --json or JSON logs).
  explicit Terminal(bool interactive);
  ~Terminal();  // wipes the line
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  // `line` as progress_line makes it; `topic` is what a change of which is worth a log line ("copy").
  void show(const std::string& topic, const std::string& line);
  void clear();

  // For tests: where the bytes go (default: stderr), log lines (default: base::log::info) and the clock.
  struct Hooks {
    std::function<void(const std::string&)> write;
    std::function<void(const std::string&)> log;
    std::function<std::chrono::steady_clock::time_point()> now;
    std::function<int()> width;
  };
  Terminal(bool interactive, Hooks hooks);

  static bool stderr_is_terminal();

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with the log, which may be writing while we end
};

}  // namespace cutover::state

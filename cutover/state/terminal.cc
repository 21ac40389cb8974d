#include "cutover/state/terminal.h"

#include <mutex>
#include <optional>
#include <sys/ioctl.h>
#include <unistd.h>
#include <utility>

#include "replication/base/check.h"
#include "replication/base/log.h"
#include "replication/base/redaction.h"

namespace cutover::state {

namespace base = replication::base;

namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kLogEvery = std::chrono::seconds(60);
constexpr auto kDrawEvery = std::chrono::milliseconds(100);

void write_stderr(const std::string& text) {
  std::size_t done = 0;
  while (done < text.size()) {
    const auto written = ::write(STDERR_FILENO, text.data() + done, text.size() - done);
    if (written <= 0) {
      return;  // a closed terminal must not stop a migration
    }
    done += static_cast<std::size_t>(written);
  }
}

int terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

// Cut to the width (a wrapped line can't be wiped), never inside a UTF-8 character, without control
// characters.
std::string fit(const std::string& line, int width) {
  std::string out;
  int columns = 0;
  for (const char c : line) {
    const auto byte = static_cast<unsigned char>(c);
    const bool continues = (byte & 0xc0U) == 0x80U;
    if (!continues && ++columns >= width) {
      break;
    }
    out += byte < 0x20 || byte == 0x7f ? ' ' : c;
  }
  return out;
}

}  // namespace

struct Terminal::State {
  bool interactive = false;
  Hooks hooks;
  std::recursive_mutex mutex;  // show() logs, and the log calls back to wipe the line
  std::string line;
  std::string topic;
  bool drawn = false;
  std::optional<Clock::time_point> last;

  void wipe() {
    const std::lock_guard lock(mutex);
    if (drawn) {
      hooks.write("\r\033[K");
      drawn = false;
    }
  }
  void draw() {
    const std::lock_guard lock(mutex);
    if (!line.empty()) {
      hooks.write("\r\033[K" + fit(line, hooks.width()));
      drawn = true;
    }
  }
};

namespace {

// The log's hooks are plain functions; the one Terminal there is is found here. The shared_ptr keeps its
// state alive for a log line that is being written while it is destroyed.
std::mutex current_mutex;
std::function<void()> wipe_current;
std::function<void()> draw_current;

void before_log_line() {
  std::function<void()> wipe;
  {
    const std::lock_guard lock(current_mutex);
    wipe = wipe_current;
  }
  if (wipe) {
    wipe();
  }
}

void after_log_line() {
  std::function<void()> draw;
  {
    const std::lock_guard lock(current_mutex);
    draw = draw_current;
  }
  if (draw) {
    draw();
  }
}

}  // namespace

Terminal::Terminal(bool interactive)
    : Terminal(interactive, Hooks{.write = write_stderr,
                                  .log = [](const std::string& line) { base::log::info(line); },
                                  .now = [] { return Clock::now(); },
                                  .width = terminal_width}) {}

Terminal::Terminal(bool interactive, Hooks hooks) : state_(std::make_shared<State>()) {
  state_->interactive = interactive;
  state_->hooks = std::move(hooks);
  if (interactive) {
    const std::lock_guard lock(current_mutex);
    PGCUTOVER_CHECK(!wipe_current, "one Terminal at a time");
    wipe_current = [state = state_] { state->wipe(); };
    draw_current = [state = state_] { state->draw(); };
    base::log::set_line_hooks(before_log_line, after_log_line);
  }
}

Terminal::~Terminal() {
  clear();
  if (state_->interactive) {
    base::log::set_line_hooks(nullptr, nullptr);
    const std::lock_guard lock(current_mutex);
    wipe_current = nullptr;
    draw_current = nullptr;
  }
}

void Terminal::show(const std::string& topic, const std::string& line) {
  const std::string safe = base::redact(line);
  const std::lock_guard lock(state_->mutex);
  const auto now = state_->hooks.now();
  const bool changed = topic != state_->topic;
  state_->topic = topic;
  state_->line = safe;
  const auto every = state_->interactive ? Clock::duration(kDrawEvery) : Clock::duration(kLogEvery);
  if (!changed && state_->last && now - *state_->last < every) {
    return;
  }
  state_->last = now;
  if (state_->interactive) {
    state_->draw();
  } else {
    state_->hooks.log(safe);
  }
}

void Terminal::clear() {
  const std::lock_guard lock(state_->mutex);
  state_->wipe();
  state_->line.clear();
}

bool Terminal::stderr_is_terminal() {
  return isatty(STDERR_FILENO) == 1;
}

}  // namespace cutover::state

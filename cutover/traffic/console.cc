#include "cutover/traffic/console.h"

#include <algorithm>
#include <atomic>
#include <poll.h>
#include <thread>
#include <unistd.h>
#include <utility>

#include "replication/base/error.h"
#include "replication/base/log.h"

namespace cutover::traffic {
namespace {

constexpr base::milliseconds kUndo{15'000};  // for resuming after a failed pause
constexpr base::milliseconds kPoll{20};      // between two looks at the pooler
constexpr base::milliseconds kLook{1'000};   // for naming who is busy, before traffic is resumed
constexpr base::milliseconds kConnect{10'000};
constexpr int kBusyMax = 5;

std::string quote(const std::string& name) {
  std::string quoted = "\"";
  for (const char c : name) {
    quoted += c == '"' ? "\"\"" : std::string(1, c);
  }
  return quoted + "\"";
}

bool is_pool_mode(std::string_view text) {
  return text == "session" || text == "transaction" || text == "statement";
}

// Our results carry no column names and pgbouncer adds columns from version to version (SHOW DATABASES had 13
// in 1.18, 17 in 1.24): name, host, port and database come first and paused, disabled last in all of them;
// the pool mode is known by its words.
PoolerDatabase read_row(const postgres::Result& rows, int row) {
  PoolerDatabase result;
  result.address = {
      .host = rows.text_or(row, 1, ""), .port = rows.text_or(row, 2, ""), .dbname = rows.text_or(row, 3, "")};
  const int columns = rows.columns();
  for (int column = 5; column < columns; ++column) {
    if (const auto text = rows.text_or(row, column, ""); is_pool_mode(text)) {
      result.pool_mode = text;
    }
  }
  const auto paused = rows.text_or(row, columns - 2, "");
  const auto disabled = rows.text_or(row, columns - 1, "");
  for (const auto& text : {paused, disabled}) {
    if (text != "0" && text != "1") {
      throw base::Error("this pgbouncer's SHOW DATABASES has a form we don't know",
                        "report the pooler's version (SHOW VERSION)");
    }
  }
  result.paused = paused == "1";
  result.disabled = disabled == "1";
  return result;
}

bool has_value(const postgres::Result& rows, int row, std::string_view text) {
  for (int column = 0; column < rows.columns(); ++column) {
    if (rows.text_or(row, column, "") == text) {
      return true;
    }
  }
  return false;
}

// SHOW SERVERS: two addresses of memory (ptr, link) come right before the backend's pid; times look like
// times.
std::string describe_server(const postgres::Result& rows, int row) {
  std::string text = "user " + rows.text_or(row, 1, "?");
  std::string since;
  for (int column = 0; column + 2 < rows.columns(); ++column) {
    const auto value = rows.text_or(row, column, "");
    if (value.size() > 18 && value.starts_with("20") && value[4] == '-') {
      since = value;  // the last one is the request's
    }
    if (value.starts_with("0x") && rows.text_or(row, column + 1, "").starts_with("0x")) {
      text += ", backend pid " + rows.text_or(row, column + 2, "?");
    }
  }
  return text + (since.empty() ? "" : ", since " + since);
}

std::string unique_application() {
  static std::atomic<unsigned> counter{0};
  return "pgcutover-pause-" + std::to_string(getpid()) + "-" + std::to_string(++counter);
}

}  // namespace

// One session that sends PAUSE at most once at a time, and the thread that waits for the answer.
struct Console::Pause {
  explicit Pause(std::string name) : application(std::move(name)) {}
  Pause(const Pause&) = delete;
  Pause& operator=(const Pause&) = delete;
  ~Pause() {
    quit.request();
    if (thread.joinable()) {
      thread.join();
    }
  }

  void start(const std::string& sql) {
    done = std::make_unique<base::Stop>();
    error = nullptr;
    thread = std::thread([this, sql] {
      try {
        connection->exec(sql, base::Deadline::never());
      } catch (...) {
        error = std::current_exception();
      }
      done->request();
    });
  }
  bool wait(base::Deadline deadline, const base::Stop& stop) const {
    return base::poll_fd(done->fd(), POLLIN, deadline, stop) != 0;
  }
  void finish() {
    thread.join();
    if (error) {
      std::rethrow_exception(error);
    }
  }

  const std::string application;
  base::Stop quit;  // before the connection, which refers to it
  std::optional<postgres::Connection> connection;
  std::unique_ptr<base::Stop> done;
  std::exception_ptr error;
  std::thread thread;
};

Console::Console(const postgres::ConnInfo& admin, std::string database, std::string label,
                 const base::Stop& stop)
    : admin_(admin.get("dbname").empty() ? admin.with("dbname", "pgbouncer") : admin),
      database_(std::move(database)),
      label_(std::move(label)),
      stop_(stop) {}

Console::~Console() {
  for (auto& pause : abandoned_) {
    pause->quit.request();  // all at once: each takes its time to end
  }
}

postgres::Connection Console::connect(const base::Stop& stop, const std::string& application,
                                      base::Deadline deadline) const {
  postgres::SessionOptions options;
  options.server = label_;
  options.application_name = application;
  options.kind = postgres::SessionKind::console;
  options.connect_timeout = std::min(deadline.remaining().value_or(kConnect), kConnect);
  return postgres::Connection::open(admin_, options, stop);
}

std::unique_ptr<Console::Pause> Console::new_pause(base::Deadline deadline) const {
  auto pause = std::make_unique<Pause>(unique_application());
  pause->connection = connect(pause->quit, pause->application, deadline);
  return pause;
}

void Console::open(base::Deadline deadline) {
  if (!control_ || !control_->usable()) {
    control_.reset();
    control_ = connect(base::Stop::never(), "pgcutover", deadline);
  }
  std::erase_if(abandoned_, [](const auto& pause) { return pause->done->requested(); });
  if (!pause_ || !pause_->connection->usable()) {
    pause_.reset();
    pause_ = new_pause(deadline);
  }
}

postgres::Result Console::control(std::string_view sql, base::Deadline deadline) {
  if (!control_ || !control_->usable()) {
    control_.reset();
    control_ = connect(base::Stop::never(), "pgcutover", deadline);
  }
  return control_->exec(sql, deadline);
}

bool Console::knows(std::string_view database, base::Deadline deadline) {
  const auto rows = control("SHOW DATABASES", deadline);
  for (int row = 0; row < rows.rows(); ++row) {
    if (rows.text_or(row, 0, "") == database) {
      return true;
    }
  }
  return false;
}

std::optional<PoolerDatabase> Console::find(base::Deadline deadline) {
  const auto rows = control("SHOW DATABASES", deadline);
  for (int row = 0; row < rows.rows(); ++row) {
    if (rows.text_or(row, 0, "") == database_) {
      return read_row(rows, row);
    }
  }
  return std::nullopt;
}

PoolerDatabase Console::get(base::Deadline deadline) {
  auto found = find(deadline);
  if (!found) {
    throw base::Error(label_ + " knows no database " + database_, "see SHOW DATABASES on its console");
  }
  return *found;
}

std::string Console::config(std::string_view key, base::Deadline deadline) {
  const auto rows = control("SHOW CONFIG", deadline);
  for (int row = 0; row < rows.rows(); ++row) {
    if (rows.text_or(row, 0, "") == key) {
      return rows.text_or(row, 1, "");
    }
  }
  return {};
}

std::string Console::busy(base::Deadline deadline) {
  const auto rows = control("SHOW SERVERS", deadline);
  std::string text;
  int count = 0;
  for (int row = 0; row < rows.rows(); ++row) {
    if (rows.text_or(row, 2, "") != database_ || !has_value(rows, row, "active")) {
      continue;
    }
    if (++count <= kBusyMax) {
      text += (text.empty() ? "" : "; ") + describe_server(rows, row);
    }
  }
  return count == 0 ? ""
                    : std::to_string(count) + " busy server connection(s): " + text +
                          (count > kBusyMax ? "; ..." : "");
}

void Console::reload(base::Deadline deadline) {
  control("RELOAD", deadline);
}

void Console::pause(base::Deadline deadline) {
  open(deadline);
  std::string who;
  try {
    pause_->start("PAUSE " + quote(database_));
    if (pause_->wait(deadline, stop_)) {
      pause_->finish();
      return;
    }
    who = busy(base::Deadline::in(kLook));
  } catch (...) {
    const auto error = std::current_exception();
    resume_after_failed_pause(std::move(pause_));
    std::rethrow_exception(error);
  }
  resume_after_failed_pause(std::move(pause_));
  throw base::TimeoutError(label_ + " could not be paused in time" + (who.empty() ? "" : ": " + who),
                           "traffic flows again; end or wait for the transactions named, then try again");
}

// The order matters: RESUME at once. Then make sure that our PAUSE can't arrive after it: either it was seen
// in force, or its session is over, and what a session sent is processed before its end is.
void Console::resume_after_failed_pause(std::unique_ptr<Pause> failed) {
  const auto deadline = base::Deadline::in(kUndo);
  const std::string application = failed->application;
  bool in_force = false;
  try {
    in_force = get(deadline).paused;
  } catch (const base::Error& error) {
    base::log::warn(error.describe());  // resume() tries again until the deadline
  }
  resume(deadline);
  failed->quit.request();
  if (in_force) {
    abandoned_.push_back(std::move(failed));
    return;
  }
  failed.reset();  // joins the thread and closes the session
  while (session_listed(application, deadline)) {
    if (deadline.expired()) {
      throw base::NeedsOperator(label_ + " may still be paused by a session of ours that doesn't end",
                                "on its console: RESUME " + quote(database_));
    }
    base::Stop::never().wait(base::Deadline::in(kPoll));
  }
  resume(deadline);
}

bool Console::session_listed(const std::string& application, base::Deadline deadline) {
  const auto rows = control("SHOW CLIENTS", deadline);
  for (int row = 0; row < rows.rows(); ++row) {
    if (has_value(rows, row, application)) {
      return true;
    }
  }
  return false;
}

void Console::resume(base::Deadline deadline) {
  while (true) {
    try {
      if (!get(deadline).paused) {
        return;
      }
      control("RESUME " + quote(database_), deadline);
      if (!get(deadline).paused) {
        return;
      }
    } catch (const base::Error& error) {
      const bool not_paused = error.message().find("is not paused") != std::string::npos;
      const bool unreachable = error.exit_code() == base::ExitCode::unreachable || !error.connection_usable();
      if (!not_paused && (!unreachable || deadline.expired())) {
        throw;
      }
    }
    if (deadline.expired()) {
      throw base::NeedsOperator(label_ + " could not be resumed in time",
                                "on its console: RESUME " + quote(database_));
    }
    base::Stop::never().wait(base::Deadline::in(kPoll));
  }
}

}  // namespace cutover::traffic

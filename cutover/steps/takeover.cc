#include "cutover/steps/takeover.h"

#include <algorithm>

#include "replication/apply/progress.h"
#include "replication/base/error.h"
#include "replication/base/log.h"
#include "replication/postgres/transaction.h"

namespace cutover::steps {
namespace {

constexpr base::milliseconds kEndSessions{15'000};

std::int64_t read_epoch(postgres::Connection& connection) {
  return connection.one_row("SELECT epoch FROM pgcutover.controller WHERE id = 1").integer(0, 0);
}

void adopt(postgres::Connection& connection, std::int64_t epoch) {
  for (const char* direction : {"forward", "reverse"}) {
    if (replication::apply::read_progress(connection, direction)) {
      replication::apply::adopt_progress(connection, direction, epoch);
    }
  }
}

// Waits for transactions of a stale controller that hold the row (they are short, or were ended before).
void write_epoch(postgres::Connection& connection, std::int64_t epoch, std::string_view holder) {
  postgres::Transaction transaction(connection);
  connection.exec(
      "UPDATE pgcutover.controller SET epoch = $1, holder = $2, since = clock_timestamp() WHERE id = 1",
      postgres::Params().integer(epoch).text(holder));
  adopt(connection, epoch);
  transaction.commit_or_throw();
}

}  // namespace

int end_sessions(postgres::Connection& connection, const std::string& own_tag, const std::string& only_tag,
                 base::Deadline deadline) {
  // The tag is the last word of the name; sessions of read-only verbs ("pgcutover-cli") are nobody's
  // controller.
  const std::string which =
      "FROM pg_stat_activity WHERE usename = current_user AND datname = current_database() "
      "AND application_name LIKE 'pgcutover %' AND pid <> pg_backend_pid() AND application_name NOT LIKE '% "
      "' || $1 "
      "AND ($2 = '' OR application_name LIKE '% ' || $2)";
  int ended = 0;
  for (;;) {
    const auto rows = connection.exec("SELECT pid, pg_terminate_backend(pid), application_name " + which,
                                      {own_tag, only_tag});
    if (rows.rows() == 0) {
      return ended;
    }
    ended = std::max(ended, rows.rows());
    if (deadline.expired()) {
      throw base::TimeoutError(
          "a session of another controller does not end: pid " + rows.text(0, 0) + " (" + rows.text(0, 2) +
              ")",
          "SELECT pg_terminate_backend(" + rows.text(0, 0) + ") on the server, then try again")
          .on(connection.server());
    }
    connection.stop().wait(base::Deadline::in(base::milliseconds(20)));
    connection.stop().check();
  }
}

postgres::FencingToken take_over(Servers& servers, const std::vector<Side>& sides) {
  const auto end_others = [&] {
    for (const Side side : sides) {
      const int ended = end_sessions(servers.at(side), servers.tag(), "", base::Deadline::in(kEndSessions));
      if (ended > 0) {
        base::log::warn("ended " + std::to_string(ended) +
                        " session(s) that an earlier controller left on the " + std::string(to_string(side)));
      }
    }
  };
  end_others();
  std::int64_t epoch = 0;
  for (const Side side : sides) {
    epoch = std::max(epoch, read_epoch(servers.at(side)) + 1);
  }
  for (const Side side : sides) {
    write_epoch(servers.at(side), epoch, this_process());
  }
  // Whoever opens a session from here on finds the new epoch; who did so since the first look may not have.
  end_others();
  return postgres::FencingToken(epoch);
}

bool succeed_on(postgres::Connection& connection, std::int64_t epoch, const std::string& own_tag,
                const std::string& controller_tag) {
  if (read_epoch(connection) > epoch) {
    return false;
  }
  // Its sessions first: one of them may hold a share lock on the row that is about to be raised.
  end_sessions(connection, own_tag, controller_tag, base::Deadline::in(kEndSessions));
  postgres::Transaction transaction(connection);
  const auto raised = connection.exec(
      "UPDATE pgcutover.controller SET epoch = $1, holder = $2, since = clock_timestamp() WHERE id = 1 AND "
      "epoch = $3",
      postgres::Params()
          .integer(epoch + 1)
          .text(std::string_view("guardian on " + this_process()))
          .integer(epoch));
  if (raised.affected_rows() != 1) {
    return false;  // a successor was quicker; it settles what is open
  }
  adopt(connection, epoch + 1);
  transaction.commit_or_throw();
  return true;
}

}  // namespace cutover::steps

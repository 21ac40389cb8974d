#include "replication/snapshot/table_copier.h"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "replication/base/error.h"
#include "replication/base/fault_point.h"
#include "replication/base/log.h"
#include "replication/postgres/copy.h"
#include "replication/postgres/params.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/sqlstate.h"
#include "replication/postgres/transaction.h"
#include "replication/snapshot/place.h"

namespace replication::snapshot {
namespace {

using base::Deadline;
using base::Error;
using base::milliseconds;

constexpr milliseconds kRetryBudget{300'000};
constexpr milliseconds kBackoffFirst{200}, kBackoffMax{10'000};
constexpr milliseconds kLockMax{600'000};
// How long a COPY may show no sign of life: a scan over nothing but dead rows sends nothing either.
constexpr milliseconds kSilenceMax{1'800'000};
constexpr std::size_t kBlockBytes = std::size_t{128} << 10;

std::string column_list(const catalog::Table& table) {
  std::string list;
  for (const auto& column : table.columns) {
    if (!column.generated) {
      list += (list.empty() ? " (" : ", ") + postgres::quote_identifier(column.name);
    }
  }
  return list.empty() ? list
                      : list + ")";  // COPY has no empty list; without one it means every ordinary column
}

class Sender {
 public:
  Sender(postgres::CopyIn& in, const std::function<void(std::int64_t)>& moved) : in_(in), moved_(moved) {
    block_.reserve(kBlockBytes);
  }
  void add(std::span<const char> row) {
    ++messages_;
    bytes_ += static_cast<std::int64_t>(row.size());
    // Small rows travel together: a message each would cost the target more than the row.
    if (block_.size() + row.size() > kBlockBytes) {
      flush();
    }
    if (row.size() >= kBlockBytes) {
      in_.write(row, Deadline::in(kSilenceMax));
      return;
    }
    block_.insert(block_.end(), row.begin(), row.end());
  }
  void flush() {
    if (!block_.empty()) {
      in_.write(block_, Deadline::in(kSilenceMax));
      block_.clear();
      moved_(bytes_);
    }
  }
  std::int64_t messages() const { return messages_; }
  std::int64_t bytes() const { return bytes_; }

 private:
  postgres::CopyIn& in_;
  const std::function<void(std::int64_t)>& moved_;
  std::vector<char> block_;
  std::int64_t messages_ = 0, bytes_ = 0;
};

bool freeze_refused(const Error& error) {
  return error.connection_usable() &&
         (error.sqlstate() == postgres::sqlstate::kObjectNotInPrerequisiteState ||
          error.sqlstate() == "0A000");
}

}  // namespace

bool copies_binary(const catalog::Table& table) {
  return table.binary_safe() && !column_list(table).empty();
}

std::string copy_out_sql(const catalog::Table& table) {
  return "COPY " + table.qualified() + column_list(table) +
         (copies_binary(table) ? " TO STDOUT (FORMAT binary)" : " TO STDOUT");
}

std::string copy_in_sql(const catalog::Table& table, bool freeze) {
  std::string options = freeze ? "FREEZE true" : "";
  if (copies_binary(table)) {
    options += options.empty() ? "FORMAT binary" : ", FORMAT binary";
  }
  return "COPY " + table.qualified() + column_list(table) + " FROM STDIN" +
         (options.empty() ? "" : " (" + options + ")");
}

CopiedTable TableCopier::copy(const catalog::Table& table) {
  std::optional<Deadline> budget;
  auto backoff = kBackoffFirst;
  for (;;) {
    try {
      return attempt(table);
    } catch (const base::Stopped&) {
      source_.abandon();
      throw;
    } catch (Error& error) {
      source_.abandon();
      target_.reset();
      moved_(0);
      if (!budget) {
        budget = Deadline::in(kRetryBudget);
      }
      if (!error.retryable() || budget->expired()) {
        rethrow_at(error, "copying " + table.display());
      }
      base::log::warn("copying " + table.display() + " is tried again: " + error.describe());
    }
    if (stop_.wait(Deadline::in(backoff).sooner(*budget))) {
      throw base::Stopped();
    }
    backoff = std::min(backoff * 2, kBackoffMax);
  }
}

CopiedTable TableCopier::attempt(const catalog::Table& table) {
  base::fault_point("copy.table-begin");
  connect_target();
  CopiedTable copied;
  bool freeze = true;
  for (;;) {
    postgres::Transaction transaction(*target_);
    bool truncated = false;
    if (const auto done = prepare(table, truncated)) {
      return *done;
    }
    freeze = freeze && truncated;
    try {
      copied = transfer(table, freeze);
    } catch (const Error& error) {
      if (!freeze || !freeze_refused(error)) {
        throw;
      }
      base::log::debug(table.display() + ": " + error.message());
      source_.abandon();
      freeze = false;
      continue;
    }
    base::fault_point("copy.table-before-commit");
    // Last, because it locks a row that a successor has to wait for.
    options_.token.assert_current(*target_);
    transaction.commit_or_throw();
    break;
  }
  source_.end();
  base::fault_point("copy.table-done");
  return copied;
}

void TableCopier::connect_target() {
  if (target_ && target_->usable()) {
    return;
  }
  postgres::SessionOptions session;
  session.server = "target";
  session.application_name = "pgcutover copy";
  target_.emplace(postgres::Connection::open(options_.target, session, stop_));
  // No triggers and no foreign keys while rows come in; durable all at once at the copy's end.
  target_->exec("SET session_replication_role = replica");
  target_->exec("SET synchronous_commit = off");
}

// Empties the table, which also waits for a predecessor's transaction that may still be running. After that
// the note is certain: there, and the table is done; or not, and nobody else can write it before us.
std::optional<CopiedTable> TableCopier::prepare(const catalog::Table& table, bool& truncated) {
  const auto name = table.qualified();
  truncated = !target_
                   ->one_row(
                       "SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE contype = 'f' "
                       "AND confrelid = $1::pg_catalog.regclass AND conrelid <> confrelid)",
                       postgres::Params{name})
                   .boolean(0, 0);
  if (truncated) {
    target_->exec("TRUNCATE ONLY " + name, Deadline::in(kLockMax));
  } else {
    target_->exec("LOCK TABLE ONLY " + name + " IN ACCESS EXCLUSIVE MODE", Deadline::in(kLockMax));
  }
  const auto noted =
      target_->exec("SELECT rows, bytes FROM pgcutover.table_copy WHERE schema = $1 AND name = $2",
                    postgres::Params{table.schema, table.name});
  if (noted.rows() == 1) {
    return CopiedTable{noted.integer(0, 0), noted.integer(0, 1)};  // the caller's transaction is rolled back
  }
  if (!truncated) {
    target_->exec("DELETE FROM ONLY " + name, Deadline::never());
  }
  return std::nullopt;
}

CopiedTable TableCopier::transfer(const catalog::Table& table, bool freeze) {
  postgres::CopyIn in(*target_, copy_in_sql(table, freeze));
  const auto reading = source_.begin(table);
  Sender sender(in, moved_);
  {
    postgres::CopyOut out(*reading.connection, copy_out_sql(table));
    std::span<const char> row;
    while (out.next(row, Deadline::in(kSilenceMax))) {
      sender.add(row);
    }
  }
  sender.flush();
  const CopiedTable copied{in.finish(Deadline::in(kSilenceMax)), sender.bytes()};
  // The server sends a message for each row, and the binary trailer as one of its own.
  const auto sent = sender.messages() - (copies_binary(table) ? 1 : 0);
  if (copied.rows != sent) {
    throw Error("the target stored " + std::to_string(copied.rows) + " of " + std::to_string(sent) + " rows",
                "look for triggers and rules on the target's table that are enabled ALWAYS or for REPLICA")
        .on("target");
  }
  note(table, reading, copied);
  return copied;
}

void TableCopier::note(const catalog::Table& table, const TableSource::Reading& reading,
                       const CopiedTable& copied) {
  postgres::Params params{table.schema, table.name};
  params.integer(copied.rows).integer(copied.bytes);
  const bool filtered = !reading.snapshot.empty();
  params.text(filtered ? std::optional(reading.snapshot) : std::nullopt);
  params.text(filtered ? std::optional(reading.marker) : std::nullopt);
  params.boolean(!filtered);
  target_->exec(
      "INSERT INTO pgcutover.table_copy (schema, name, rows, bytes, snapshot, marker, filter_passed) "
      "VALUES ($1, $2, $3, $4, $5, $6, $7)",
      params);
}

}  // namespace replication::snapshot

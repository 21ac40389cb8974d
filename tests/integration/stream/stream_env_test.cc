#include "tests/integration/stream/stream_env.h"

#include <algorithm>
#include <atomic>

#include "replication/base/error.h"
#include "replication/pgoutput/message.h"
#include "replication/stream/marker.h"
#include "replication/stream/publication.h"
#include "replication/stream/slot.h"

namespace stream_test {

using namespace replication;

harness::Cluster& server() {
  static harness::Cluster cluster({.name = "source",
                                   .conf = {"max_replication_slots = 40", "max_wal_senders = 40",
                                            "max_prepared_transactions = 10", "wal_sender_timeout = 2s"}});
  return cluster;
}

Database::Database() {
  static std::atomic<int> number{0};
  name_ = "db" + std::to_string(++number);
  server().sql("postgres", "CREATE DATABASE " + name_);
  exec("CREATE SCHEMA \"Odd \"\"Schema\"\"\"");
  exec(std::string("CREATE TABLE ") + kTable + " (\"Id\" text PRIMARY KEY, note text)");
  exec(stream::marker_schema_sql());
  exec(stream::marker_schema_sql());
}

postgres::ConnInfo Database::conninfo() const {
  return postgres::ConnInfo::parse(server().conninfo(name_), "test");
}
postgres::Connection Database::sql(const base::Stop& stop, const std::string& application) const {
  postgres::SessionOptions options;
  options.server = "source";
  options.application_name = application;
  return postgres::Connection::open(conninfo(), options, stop);
}
postgres::Connection Database::walsender(const base::Stop& stop) const {
  postgres::SessionOptions options;
  options.server = "source";
  options.kind = postgres::SessionKind::replication;
  return postgres::Connection::open(conninfo(), options, stop);
}
void Database::exec(const std::string& text) const {
  server().sql(name_, text);
}
std::vector<catalog::Table> Database::tables() const {
  auto connection = sql();
  return catalog::load(connection).published(connection.server_major());
}

Lsn publish_with_slot(Database& database, const std::string& slot) {
  auto sql = database.sql();
  stream::ensure_publication(sql, "pub \"1\"", database.tables());
  auto walsender = database.walsender();
  return stream::create_slot(walsender, sql, slot, false, soon(), nullptr).consistent_point;
}

void Consumer::commit(Lsn end) {
  if (end <= applied) {
    ++duplicates;
  } else {
    applied = end;
    ++transactions;
    inserted.insert(inserted.end(), pending_.begin(), pending_.end());
    markers_.insert(pending_markers_.begin(), pending_markers_.end());
  }
  pending_.clear();
  pending_markers_.clear();
  open_ = false;
}

void Consumer::take(const stream::Chunk& chunk) {
  if (chunk.reset) {
    ++resets;
    torn += open_ ? 1 : 0;
    open_ = false;
    pending_.clear();
    pending_markers_.clear();
  }
  std::vector<pgoutput::ColumnValue> values;
  for (std::size_t i = 0; i < chunk.messages(); ++i) {
    const auto message = pgoutput::decode(chunk.message(i));
    if (std::holds_alternative<pgoutput::Begin>(message)) {
      open_ = true;
    } else if (const auto* end = std::get_if<pgoutput::Commit>(&message)) {
      commit(end->end_lsn);
    } else if (const auto* relation = std::get_if<pgoutput::Relation>(&message)) {
      ++relations;
      if (relation->schema == stream::kMarkerSchema && relation->name == stream::kMarkerTable) {
        marker_relations_.insert(relation->relation);
      }
    } else if (const auto* insert = std::get_if<pgoutput::Insert>(&message)) {
      insert->new_row.read(values);
      pending_.emplace_back(values.at(0).bytes);
    } else if (const auto* update = std::get_if<pgoutput::Update>(&message)) {
      update->new_row.read(values);
      if (marker_relations_.contains(update->relation)) {
        pending_markers_.emplace(values.at(1).bytes);
      }
    }
  }
  if (chunk.idle_until.valid() && !open_) {
    idle = chunk.idle_until;
  }
}

bool Consumer::take_until_marker(const std::string& token, Deadline deadline) {
  while (!markers_.contains(token)) {
    const auto chunk = queue_.pop(deadline);
    if (!chunk) {
      return false;
    }
    take(**chunk);
  }
  return true;
}

bool Consumer::take_until_idle(Lsn at_least, Deadline deadline) {
  while (idle < at_least) {
    const auto chunk = queue_.pop(deadline);
    if (!chunk) {
      return false;
    }
    take(**chunk);
  }
  return true;
}

stream::ReceiverOptions receiver_options(const Database& database, const std::string& slot) {
  stream::ReceiverOptions options;
  options.server = database.conninfo();
  options.slot = slot;
  options.publication = "pub \"1\"";
  options.status_interval = milliseconds{50};
  return options;
}

std::string failure_text(const stream::Receiver& receiver) {
  try {
    if (const auto failure = receiver.failure()) {
      std::rethrow_exception(failure);
    }
  } catch (const base::Error& error) {
    return error.describe();
  }
  return {};
}

}  // namespace stream_test

#include "replication/snapshot/stream_objects.h"

#include <map>

#include "replication/base/error.h"
#include "replication/base/log.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/transaction.h"
#include "replication/snapshot/restore.h"
#include "replication/snapshot/roles.h"

namespace replication::snapshot {
namespace {

using postgres::Connection;
using postgres::quote_identifier;

std::string list(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) {
    text += (text.empty() ? "" : ", ") + name;
  }
  return text;
}

std::string undo_of(const StreamObjectName& object) {
  const auto name = quote_identifier(object.name);
  return object.subscription ? "ALTER SUBSCRIPTION " + name + " DISABLE; ALTER SUBSCRIPTION " + name +
                                   " SET (slot_name = NONE); DROP SUBSCRIPTION " + name
                             : "DROP PUBLICATION " + name;
}

bool exists(Connection& target, const StreamObjectName& object) {
  return target.one_value(
             object.subscription
                 ? "SELECT EXISTS (SELECT FROM pg_catalog.pg_subscription WHERE subname = $1 AND "
                   "subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = "
                   "pg_catalog.current_database()))"
                 : "SELECT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = $1)",
             {object.name}) == "t";
}

void make(Connection& target, const StreamObjectName& object, const std::string& sql,
          const postgres::FencingToken& token) {
  if (object.subscription) {
    keep_transactions_out_of_the_log(target);
  }
  postgres::Transaction transaction(target);
  if (object.subscription) {
    keep_statements_out_of_the_log(target);
  }
  target.exec(sql);
  if (object.subscription) {  // can't be enabled before it is given a slot
    target.exec("ALTER SUBSCRIPTION " + quote_identifier(object.name) + " SET (slot_name = NONE)");
  }
  target.exec("INSERT INTO pgcutover.undo (sql) VALUES ($1)", {undo_of(object)});
  token.assert_current(target);
  transaction.commit_or_throw();
}

}  // namespace

void register_subscription_secrets(Connection& source) {
  if (source.one_value("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user") != "t") {
    return;  // pg_dump leaves them out then
  }
  const auto rows = source.exec(
      "SELECT subconninfo FROM pg_catalog.pg_subscription WHERE subdbid = "
      "(SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())");
  for (int row = 0; row < rows.rows(); ++row) {
    postgres::ConnInfo::parse(rows.view(row, 0), "a subscription's connection string");  // registers it
  }
}

std::string StreamObjectsMade::summary() const {
  std::string text;
  if (!publications.empty()) {
    text += "publications made: " + list(publications);
  }
  if (!subscriptions.empty()) {
    text += (text.empty() ? "" : "; ") +
            ("subscriptions made, disabled and without a slot: " + list(subscriptions)) +
            " (hand each over as docs/content.md#subscriptions says, never by ENABLE alone)";
  }
  if (!not_made.empty()) {
    text += (text.empty() ? "" : "; ") + ("not made: " + list(not_made));
  }
  return text;
}

StreamObjectsMade restore_stream_objects(const postgres::ConnInfo& info, const postgres::FencingToken& token,
                                         const std::vector<ScriptItem>& items, const base::Stop& stop) {
  StreamObjectsMade made;
  std::vector<StreamObjectName> order;
  std::map<StreamObjectName, std::string> statements;
  auto target = open_restore_session(info, token, stop);
  for (const auto& item : items) {
    if (const auto object = stream_object_name(item.sql)) {
      auto& sql = statements[*object];
      if (sql.empty()) {
        order.push_back(*object);
        sql = item.settings;
      }
      sql += for_server(item.sql, target.server_major()) + '\n';
    }
  }
  if (order.empty()) {
    return made;
  }
  const bool super =
      target.one_value("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user") == "t";
  for (const auto& object : order) {
    const auto what = (object.subscription ? "subscription " : "publication ") + object.name;
    auto& names = object.subscription ? made.subscriptions : made.publications;
    if (exists(target, object)) {
      const bool ours = target.one_value("SELECT EXISTS (SELECT FROM pgcutover.undo WHERE sql = $1)",
                                         {undo_of(object)}) == "t";
      if (ours) {  // made before we were interrupted
        names.push_back(object.name);
      } else {
        made.not_made.push_back(what + ": the target has one of that name");
      }
      continue;
    }
    if (object.subscription && !super) {
      made.not_made.push_back(
          what + ": only a superuser of the target can keep its connection string out of the server's log");
      continue;
    }
    try {
      make(target, object, statements.at(object), token);
      names.push_back(object.name);
    } catch (const base::Error& error) {
      if (!error.connection_usable() || error.sqlstate().empty()) {
        throw;
      }
      made.not_made.push_back(what + ": " + error.message());
    }
  }
  return made;
}

}  // namespace replication::snapshot

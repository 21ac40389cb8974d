// Opening a session: what every session of the tool pins, and the connection itself.
#include <libpq-fe.h>
#include <map>
#include <poll.h>

#include "replication/base/error.h"
#include "replication/base/redaction.h"
#include "replication/postgres/connection_state.h"

namespace replication::postgres {
namespace {

// Pinned for every session: no setting of the database or the role may change our text, time-outs or rights.
// These exist on every supported version, so they can go into the startup packet, where even a hostile
// statement_timeout can't hit the statement that would take it away.
constexpr std::pair<const char*, const char*> kPinned[] = {
    {"default_transaction_read_only", "off"},
    {"default_transaction_isolation", "read committed"},
    {"default_transaction_deferrable", "off"},
    {"idle_in_transaction_session_timeout", "0"},
    {"statement_timeout", "0"},
    {"lock_timeout", "0"},
    {"xmloption", "content"},
    {"bytea_output", "hex"},
    {"DateStyle", "ISO,YMD"},
    {"IntervalStyle", "postgres"},
    {"extra_float_digits", "3"},
    {"TimeZone", "UTC"},
    {"lc_monetary", "C"},
    {"search_path", "pg_catalog"},
    {"row_security", "off"},
    {"quote_all_identifiers", "off"},
    {"standard_conforming_strings", "on"},
    {"array_nulls", "on"},
    {"client_min_messages", "notice"},
    {"synchronous_commit", "on"},
    {"jit", "off"},
};

// What only newer servers know: in the startup packet it would be refused by the others.
std::vector<std::pair<std::string, std::string>> pinned_by_version(int version) {
  std::vector<std::pair<std::string, std::string>> settings;
  if (version >= 140000) {
    settings.emplace_back("idle_session_timeout", "0");
  }
  if (version >= 170000) {
    settings.emplace_back("transaction_timeout", "0");
  }
  return settings;
}

std::string startup_options(const ConnInfo& info, const SessionOptions& options) {
  std::string text = info.get("options");
  const auto add = [&text](std::string_view name, std::string_view value) {
    text += text.empty() ? "-c " : " -c ";
    text += std::string(name) + "=";
    for (const char c : value) {  // the startup packet splits at spaces that are not escaped
      if (c == ' ' || c == '\\') {
        text += '\\';
      }
      text += c;
    }
  };
  for (const auto& [name, value] : kPinned) {
    add(name, value);
  }
  for (const auto& [name, value] : options.settings) {
    add(name, value);
  }
  return text;
}

std::map<std::string, std::string> connect_keywords(const ConnInfo& info, const SessionOptions& options) {
  auto keywords = info.keywords();
  keywords.emplace("fallback_application_name", options.application_name);
  if (options.kind != SessionKind::console) {
    keywords["options"] = startup_options(info, options);
    keywords["client_encoding"] = "UTF8";
    keywords.emplace("keepalives_idle", "30");
    keywords.emplace("keepalives_interval", "10");
    keywords.emplace("keepalives_count", "4");
  }
  if (options.kind == SessionKind::replication) {
    keywords["replication"] = "database";
  }
  return keywords;
}

void receive_notice(void* argument, const PGresult* result) {
  auto& notices = *static_cast<std::vector<std::pair<std::string, std::string>>*>(argument);
  if (notices.size() < kNoticesMax) {
    const char* code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char* message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    notices.emplace_back(code == nullptr ? "" : code, message == nullptr ? "" : message);
  }
}

}  // namespace

Connection Connection::open(const ConnInfo& info, const SessionOptions& options, const base::Stop& stop) {
  Connection connection = open_once(info, options, stop);
  if (options.kind == SessionKind::console) {
    return connection;
  }
  const auto newer = pinned_by_version(connection.server_version());
  // Its texts are bytes of no known encoding, which it wouldn't take back as UTF-8 where they are none.
  const std::string encoding =
      connection.server_encoding() == "SQL_ASCII" ? "SET client_encoding = SQL_ASCII; " : "";
  std::string sql = encoding;
  for (const auto& [name, value] : newer) {
    sql += "SET " + name + " = " + value + "; ";
  }
  try {
    if (!sql.empty()) {
      connection.exec(sql);
    }
    return connection;
  } catch (const base::Error& error) {
    if (error.connection_usable()) {
      throw;
    }
  }
  // One of those time-outs, set for the database or the role, was quicker than we. By now we know that the
  // server takes them in the startup packet.
  SessionOptions with_newer(options);
  with_newer.settings.insert(with_newer.settings.begin(), newer.begin(), newer.end());
  auto again = open_once(info, with_newer, stop);
  if (!encoding.empty()) {
    again.exec(encoding);
  }
  return again;
}

Connection Connection::open_once(const ConnInfo& info, const SessionOptions& options,
                                 const base::Stop& stop) {
  const auto keywords = connect_keywords(info, options);
  std::vector<const char*> names;
  std::vector<const char*> values;
  for (const auto& [name, value] : keywords) {
    names.push_back(name.c_str());
    values.push_back(value.c_str());
  }
  names.push_back(nullptr);
  values.push_back(nullptr);

  auto state = std::make_unique<State>();
  state->stop = &stop;
  state->server = options.server;
  state->statement_timeout = options.statement_timeout;
  state->kind = options.kind;
  state->application_settings = info.application_settings();
  state->conn = PQconnectStartParams(names.data(), values.data(), 0);
  PGconn* conn = state->conn;
  const auto fail = [&](const std::string& why) {
    const bool pooler = why.find("unsupported startup parameter") != std::string::npos;
    throw base::UnreachableError("can't connect to " + options.server + ": " + why,
                                 pooler ? "a pooler answers there: give the server's own address"
                                        : "check that the server runs, and host, port, user and password")
        .on(options.server)
        .at(info.describe());
  };
  if (conn == nullptr) {
    throw base::Error("out of memory while connecting");
  }
  // Before the first byte arrives: libpq prints what comes earlier (a collation warning) on stderr, past the
  // log.
  PQsetNoticeReceiver(conn, receive_notice, &state->notices);
  const auto deadline = base::Deadline::in(options.connect_timeout);
  auto status = PQstatus(conn) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING;
  while (status != PGRES_POLLING_OK) {
    if (status == PGRES_POLLING_FAILED) {
      fail(base::redact(one_line(PQerrorMessage(conn))));
    }
    const short events = status == PGRES_POLLING_READING ? POLLIN : POLLOUT;
    if (base::poll_fd(PQsocket(conn), events, deadline, stop) == 0) {
      fail("no answer within " + std::to_string(options.connect_timeout.count()) + " ms");
    }
    status = PQconnectPoll(conn);
  }
  PQsetnonblocking(conn, 1);
  Connection connection(std::move(state));
  return connection;
}

}  // namespace replication::postgres

// Facts about a server and a database, for checks, plans and status.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "replication/base/lsn.h"
#include "replication/postgres/connection.h"

namespace replication::catalog {

struct ServerFacts {
  int version = 0;  // 150018
  std::string system_identifier;
  std::uint32_t timeline = 0;
  std::string database;
  std::int64_t database_bytes = 0;
  bool in_recovery = false;
  std::string user;
  bool superuser = false;
  bool replication = false;    // REPLICATION attribute or superuser
  bool owns_database = false;  // or is a member of the owner
  std::string encoding, collate, ctype;
  std::string locale_provider;  // "libc", "icu", "builtin"
  std::string locale;           // of the provider, where it isn't libc
};
ServerFacts server_facts(postgres::Connection& connection);

std::string setting(postgres::Connection& connection, std::string_view name);  // "" where unknown

// What a new session of an application begins with: the database's own value (ALTER DATABASE SET), else the
// server's. Settings of our role say nothing about applications: what they hide is missing here, unless our
// role may read the server's configuration files.
struct DefaultSetting {
  std::string name, value;
  bool of_database = false;
};
// `connection` has to be one without pinned settings (SessionKind::console).
std::vector<DefaultSetting> default_settings(postgres::Connection& connection,
                                             const std::vector<std::string>& names);

struct Session {
  int pid = 0;
  std::string user, application_name, client, state, backend_type;
  bool superuser = false;
  double transaction_seconds = 0;  // age of its open transaction
  std::string query;               // first 80 characters
};
// Client sessions of this database other than our own role's.
std::vector<Session> foreign_sessions(postgres::Connection& connection);

struct PreparedTransaction {
  std::string gid, owner, database;
  double age_seconds = 0;
};
std::vector<PreparedTransaction> prepared_transactions(postgres::Connection& connection);

base::Lsn insert_lsn(postgres::Connection& connection);  // pg_current_wal_insert_lsn()
base::Lsn flush_lsn(postgres::Connection& connection);   // pg_current_wal_flush_lsn()

}  // namespace replication::catalog

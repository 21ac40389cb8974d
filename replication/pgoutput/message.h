// The logical replication messages of pgoutput, protocol version 1, as views into bytes that somebody else
// owns. Follows PostgreSQL's "Logical Replication Message Formats" chapter and
// src/backend/replication/logical/proto.c.
//
// Pure: no I/O, no state. A message is decoded without allocation except Relation and Truncate, which hold
// vectors. Stream (S E c A) and two-phase (b P K r p) messages are never asked for; they are protocol errors.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <variant>
#include <vector>

#include "replication/base/lsn.h"

namespace replication::pgoutput {

// The first byte of the two messages that frame a transaction, for whoever only has to know where one ends.
inline constexpr char kBeginTag = 'B';
inline constexpr char kCommitTag = 'C';

enum class ColumnKind : char {
  null = 'n',
  unchanged_toast = 'u',  // not sent: the stored value did not change
  text = 't',
  binary = 'b',
};

struct ColumnValue {
  ColumnKind kind = ColumnKind::null;
  std::string_view bytes;  // text and binary only
};

// The columns of a row image. Its structure was checked when the message was decoded; walking it again can't
// fail.
class Tuple {
 public:
  Tuple() = default;
  Tuple(std::uint16_t columns, std::span<const char> bytes) : columns_(columns), bytes_(bytes) {}
  std::uint16_t columns() const { return columns_; }
  std::span<const char> bytes() const { return bytes_; }
  // Replaces the content of `into` by the columns.
  void read(std::vector<ColumnValue>& into) const;

 private:
  std::uint16_t columns_ = 0;
  std::span<const char> bytes_;
};

struct Begin {
  base::Lsn final_lsn;              // where the commit record starts
  std::int64_t commit_time_us = 0;  // since 2000-01-01 UTC
  base::Xid xid = 0;                // always the top-level transaction
};
struct Commit {
  base::Lsn commit_lsn;
  base::Lsn end_lsn;  // the only position that progress may be made of
  std::int64_t commit_time_us = 0;
};
struct Origin {
  base::Lsn origin_lsn;
  std::string_view name;
};
struct RelationColumn {
  bool key = false;  // part of the replica identity; all of them under FULL
  std::string_view name;
  base::Oid type = 0;  // the source's
  std::int32_t typmod = -1;
};
enum class ReplicaIdentity : char { default_ = 'd', nothing = 'n', full = 'f', index = 'i' };
struct Relation {
  base::Oid relation = 0;
  std::string_view schema;  // "pg_catalog" where the message holds an empty one
  std::string_view name;
  ReplicaIdentity identity = ReplicaIdentity::default_;
  std::vector<RelationColumn> columns;
};
struct Type {
  base::Oid type = 0;
  std::string_view schema, name;
};
struct Insert {
  base::Oid relation = 0;
  Tuple new_row;
};
enum class OldRow { none, key, full };
struct Update {
  base::Oid relation = 0;
  OldRow old_kind = OldRow::none;
  Tuple old_row;  // key: columns outside the identity are null and mean nothing
  Tuple new_row;
};
struct Delete {
  base::Oid relation = 0;
  OldRow old_kind = OldRow::key;  // never none
  Tuple old_row;
};
struct Truncate {
  bool cascade = false;
  bool restart_identity = false;
  std::vector<base::Oid> relations;
};
struct LogicalMessage {  // pg_logical_emit_message()
  bool transactional = false;
  base::Lsn lsn;
  std::string_view prefix, content;
};

using Message =
    std::variant<Begin, Commit, Origin, Relation, Type, Insert, Update, Delete, Truncate, LogicalMessage>;

// Decodes one whole message. Throws base::DecodeError with the offset for anything else than exactly one
// message.
Message decode(std::span<const char> bytes);

}  // namespace replication::pgoutput

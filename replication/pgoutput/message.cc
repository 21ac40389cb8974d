#include "replication/pgoutput/message.h"

#include <string>

#include "replication/base/byte_reader.h"

namespace replication::pgoutput {
namespace {

using base::ByteReader;
using base::DecodeError;

// MaxTupleAttributeNumber: no relation or result row can have more columns.
constexpr std::uint16_t kColumnsMax = 1664;
constexpr std::size_t kRelationColumnBytesMin = 1 + 1 + 4 + 4;

std::string printable(std::uint8_t byte) {
  if (byte >= 0x20 && byte < 0x7F) {
    return std::string("'") + static_cast<char>(byte) + "'";
  }
  return "byte " + std::to_string(byte);
}

[[noreturn]] void refuse(const std::string& what, const ByteReader& reader, std::size_t length) {
  throw DecodeError(what, reader.offset() - length);
}

// A byte in which only the bits of `known` may be set: an unknown flag would change the meaning of what
// follows.
std::uint8_t flags(ByteReader& reader, std::uint8_t known, const char* of) {
  const auto value = reader.u8();
  if ((value & static_cast<std::uint8_t>(~known)) != 0) {
    refuse("unknown flags " + std::to_string(value) + " in " + of, reader, 1);
  }
  return value;
}

base::Lsn set_lsn(ByteReader& reader, const char* name) {
  const base::Lsn lsn{reader.u64()};
  if (!lsn.valid()) {
    refuse(std::string(name) + " is not set", reader, 8);
  }
  return lsn;
}

// Namespaces are sent empty for pg_catalog (logicalrep_write_namespace).
std::string_view schema_name(ByteReader& reader) {
  const auto name = reader.c_string();
  return name.empty() ? std::string_view("pg_catalog") : name;
}

// Checks the structure once, so that Tuple::read has nothing left to check. This is the hot loop of decoding.
Tuple read_tuple(ByteReader& reader, std::span<const char> whole) {
  const auto columns = reader.u16();
  if (columns > kColumnsMax) {
    refuse("row of " + std::to_string(columns) + " columns, the most is " + std::to_string(kColumnsMax),
           reader, 2);
  }
  const auto begin = reader.offset();
  for (std::uint16_t column = 0; column < columns; ++column) {
    const auto kind = reader.u8();
    if (kind == 'n' || kind == 'u') {
      continue;
    }
    if (kind != 't' && kind != 'b') {
      refuse("unknown column kind " + printable(kind) + " of column " + std::to_string(column + 1), reader,
             1);
    }
    const auto length = reader.i32();
    if (length < 0) {
      refuse("negative length " + std::to_string(length) + " of column " + std::to_string(column + 1), reader,
             4);
    }
    reader.bytes(static_cast<std::size_t>(length));
  }
  return {columns, whole.subspan(begin, reader.offset() - begin)};
}

Begin read_begin(ByteReader& reader) {
  Begin begin;
  begin.final_lsn = set_lsn(reader, "final LSN of begin");
  begin.commit_time_us = reader.i64();
  begin.xid = reader.u32();
  return begin;
}

Commit read_commit(ByteReader& reader) {
  Commit commit;
  flags(reader, 0, "commit");
  commit.commit_lsn = set_lsn(reader, "commit LSN");
  commit.end_lsn = set_lsn(reader, "end LSN of commit");
  commit.commit_time_us = reader.i64();
  return commit;
}

Origin read_origin(ByteReader& reader) {
  Origin origin;
  origin.origin_lsn = base::Lsn{reader.u64()};
  origin.name = reader.c_string();
  return origin;
}

Relation read_relation(ByteReader& reader) {
  Relation relation;
  relation.relation = reader.u32();
  relation.schema = schema_name(reader);
  relation.name = reader.c_string();
  const auto identity = reader.u8();
  if (identity != 'd' && identity != 'n' && identity != 'f' && identity != 'i') {
    refuse("unknown replica identity " + printable(identity), reader, 1);
  }
  relation.identity = static_cast<ReplicaIdentity>(identity);
  const auto columns = reader.u16();
  if (columns > kColumnsMax || columns * kRelationColumnBytesMin > reader.remaining()) {
    refuse("relation of " + std::to_string(columns) + " columns in " + std::to_string(reader.remaining()) +
               " bytes",
           reader, 2);
  }
  relation.columns.reserve(columns);
  for (std::uint16_t i = 0; i < columns; ++i) {
    RelationColumn column;
    column.key = flags(reader, 1, "a relation's column") != 0;
    column.name = reader.c_string();
    column.type = reader.u32();
    column.typmod = reader.i32();
    relation.columns.push_back(column);
  }
  return relation;
}

Type read_type(ByteReader& reader) {
  Type type;
  type.type = reader.u32();
  type.schema = schema_name(reader);
  type.name = reader.c_string();
  return type;
}

void expect_new_row(ByteReader& reader, std::uint8_t tag) {
  if (tag != 'N') {
    refuse("row tag 'N' expected, got " + printable(tag), reader, 1);
  }
}

OldRow old_row_kind(std::uint8_t tag) {
  return tag == 'K' ? OldRow::key : tag == 'O' ? OldRow::full : OldRow::none;
}

Insert read_insert(ByteReader& reader, std::span<const char> whole) {
  Insert insert;
  insert.relation = reader.u32();
  expect_new_row(reader, reader.u8());
  insert.new_row = read_tuple(reader, whole);
  return insert;
}

Update read_update(ByteReader& reader, std::span<const char> whole) {
  Update update;
  update.relation = reader.u32();
  auto tag = reader.u8();
  update.old_kind = old_row_kind(tag);
  if (update.old_kind != OldRow::none) {
    update.old_row = read_tuple(reader, whole);
    tag = reader.u8();
  }
  expect_new_row(reader, tag);
  update.new_row = read_tuple(reader, whole);
  return update;
}

Delete read_delete(ByteReader& reader, std::span<const char> whole) {
  Delete del;
  del.relation = reader.u32();
  const auto tag = reader.u8();
  del.old_kind = old_row_kind(tag);
  if (del.old_kind == OldRow::none) {
    refuse("row tag 'K' or 'O' expected, got " + printable(tag), reader, 1);
  }
  del.old_row = read_tuple(reader, whole);
  return del;
}

Truncate read_truncate(ByteReader& reader) {
  Truncate truncate;
  const auto count = reader.i32();
  if (count <= 0) {
    refuse("truncate of " + std::to_string(count) + " relations", reader, 4);
  }
  const auto options = flags(reader, 3, "truncate");
  truncate.cascade = (options & 1U) != 0;
  truncate.restart_identity = (options & 2U) != 0;
  const auto relations = static_cast<std::size_t>(count);
  if (relations > reader.remaining() / sizeof(base::Oid)) {
    refuse("truncate of " + std::to_string(count) + " relations in " + std::to_string(reader.remaining()) +
               " bytes",
           reader, 5);
  }
  truncate.relations.reserve(relations);
  for (std::size_t i = 0; i < relations; ++i) {
    truncate.relations.push_back(reader.u32());
  }
  return truncate;
}

LogicalMessage read_logical_message(ByteReader& reader) {
  LogicalMessage message;
  message.transactional = flags(reader, 1, "a logical message") != 0;
  message.lsn = base::Lsn{reader.u64()};
  message.prefix = reader.c_string();
  const auto length = reader.i32();
  if (length < 0) {
    refuse("negative length " + std::to_string(length) + " of a logical message", reader, 4);
  }
  message.content = reader.bytes(static_cast<std::size_t>(length));
  return message;
}

// Messages that only answer options we never ask for: seeing one means that the stream isn't the one we
// think.
const char* never_asked_for(std::uint8_t tag) {
  switch (tag) {
    case 'S':
      return "stream start";
    case 'E':
      return "stream stop";
    case 'c':
      return "stream commit";
    case 'A':
      return "stream abort";
    case 'b':
      return "begin prepare";
    case 'P':
      return "prepare";
    case 'K':
      return "commit prepared";
    case 'r':
      return "rollback prepared";
    case 'p':
      return "stream prepare";
    default:
      return nullptr;
  }
}

Message read_message(ByteReader& reader, std::span<const char> bytes) {
  const auto tag = reader.u8();
  switch (tag) {
    case 'U':
      return read_update(reader, bytes);
    case 'I':
      return read_insert(reader, bytes);
    case 'D':
      return read_delete(reader, bytes);
    case kBeginTag:
      return read_begin(reader);
    case kCommitTag:
      return read_commit(reader);
    case 'R':
      return read_relation(reader);
    case 'O':
      return read_origin(reader);
    case 'Y':
      return read_type(reader);
    case 'T':
      return read_truncate(reader);
    case 'M':
      return read_logical_message(reader);
    default:
      break;
  }
  if (const char* name = never_asked_for(tag); name != nullptr) {
    refuse(std::string("protocol error: ") + name + " message " + printable(tag) + " was never asked for",
           reader, 1);
  }
  refuse("protocol error: unknown message " + printable(tag), reader, 1);
}

// After the check at decoding: lengths are known to be inside.
std::size_t trusted_length(const char* at) {
  const auto byte = [at](int i) { return static_cast<std::size_t>(static_cast<unsigned char>(at[i])); };
  return (byte(0) << 24) | (byte(1) << 16) | (byte(2) << 8) | byte(3);
}

}  // namespace

Message decode(std::span<const char> bytes) {
  ByteReader reader(bytes);
  auto message = read_message(reader, bytes);
  reader.expect_end("the message");
  return message;
}

void Tuple::read(std::vector<ColumnValue>& into) const {
  into.resize(columns_);
  const char* at = bytes_.data();
  for (auto& value : into) {
    value.kind = static_cast<ColumnKind>(*at++);
    value.bytes = {};
    if (value.kind == ColumnKind::text || value.kind == ColumnKind::binary) {
      const auto length = trusted_length(at);
      value.bytes = {at + 4, length};
      at += 4 + length;
    }
  }
}

}  // namespace replication::pgoutput

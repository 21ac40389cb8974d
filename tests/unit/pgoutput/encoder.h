// The opposite of pgoutput::decode(), for tests only: writes messages as
// src/backend/replication/logical/proto.c does.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "replication/pgoutput/message.h"

namespace tests {

class Encoder {
 public:
  Encoder& u8(std::uint8_t value) { return put(value, 1); }
  Encoder& tag(char value) { return u8(static_cast<std::uint8_t>(value)); }
  Encoder& u16(std::uint16_t value) { return put(value, 2); }
  Encoder& u32(std::uint32_t value) { return put(value, 4); }
  Encoder& u64(std::uint64_t value) { return put(value, 8); }
  Encoder& c_string(std::string_view text) {
    bytes_ += text;
    bytes_ += '\0';
    return *this;
  }
  Encoder& raw(std::string_view bytes) {
    bytes_ += bytes;
    return *this;
  }
  Encoder& schema(std::string_view name) { return c_string(name == "pg_catalog" ? "" : name); }
  Encoder& value(const replication::pgoutput::ColumnValue& value) {
    using replication::pgoutput::ColumnKind;
    tag(static_cast<char>(value.kind));
    if (value.kind == ColumnKind::text || value.kind == ColumnKind::binary) {
      u32(static_cast<std::uint32_t>(value.bytes.size())).raw(value.bytes);
    }
    return *this;
  }
  Encoder& row(const std::vector<replication::pgoutput::ColumnValue>& values) {
    u16(static_cast<std::uint16_t>(values.size()));
    for (const auto& one : values) {
      value(one);
    }
    return *this;
  }
  Encoder& row(const replication::pgoutput::Tuple& tuple) {
    std::vector<replication::pgoutput::ColumnValue> values;
    tuple.read(values);
    return row(values);
  }
  const std::string& bytes() const { return bytes_; }

 private:
  Encoder& put(std::uint64_t value, int count) {
    for (int shift = (count - 1) * 8; shift >= 0; shift -= 8) {
      bytes_ += static_cast<char>((value >> shift) & 0xFFU);
    }
    return *this;
  }
  std::string bytes_;
};

// One overload a message, for std::visit.
struct Encode {
  std::string operator()(const replication::pgoutput::Begin& m) const {
    return Encoder()
        .tag('B')
        .u64(m.final_lsn.value)
        .u64(static_cast<std::uint64_t>(m.commit_time_us))
        .u32(m.xid)
        .bytes();
  }
  std::string operator()(const replication::pgoutput::Commit& m) const {
    return Encoder()
        .tag('C')
        .u8(0)
        .u64(m.commit_lsn.value)
        .u64(m.end_lsn.value)
        .u64(static_cast<std::uint64_t>(m.commit_time_us))
        .bytes();
  }
  std::string operator()(const replication::pgoutput::Origin& m) const {
    return Encoder().tag('O').u64(m.origin_lsn.value).c_string(m.name).bytes();
  }
  std::string operator()(const replication::pgoutput::Relation& m) const {
    Encoder out;
    out.tag('R').u32(m.relation).schema(m.schema).c_string(m.name).tag(static_cast<char>(m.identity));
    out.u16(static_cast<std::uint16_t>(m.columns.size()));
    for (const auto& column : m.columns) {
      out.u8(column.key ? 1 : 0).c_string(column.name).u32(column.type);
      out.u32(static_cast<std::uint32_t>(column.typmod));
    }
    return out.bytes();
  }
  std::string operator()(const replication::pgoutput::Type& m) const {
    return Encoder().tag('Y').u32(m.type).schema(m.schema).c_string(m.name).bytes();
  }
  std::string operator()(const replication::pgoutput::Insert& m) const {
    return Encoder().tag('I').u32(m.relation).tag('N').row(m.new_row).bytes();
  }
  std::string operator()(const replication::pgoutput::Update& m) const {
    Encoder out;
    out.tag('U').u32(m.relation);
    if (m.old_kind != replication::pgoutput::OldRow::none) {
      out.tag(old_tag(m.old_kind)).row(m.old_row);
    }
    return out.tag('N').row(m.new_row).bytes();
  }
  std::string operator()(const replication::pgoutput::Delete& m) const {
    return Encoder().tag('D').u32(m.relation).tag(old_tag(m.old_kind)).row(m.old_row).bytes();
  }
  std::string operator()(const replication::pgoutput::Truncate& m) const {
    Encoder out;
    out.tag('T').u32(static_cast<std::uint32_t>(m.relations.size()));
    out.u8(static_cast<std::uint8_t>((m.cascade ? 1 : 0) | (m.restart_identity ? 2 : 0)));
    for (const auto relation : m.relations) {
      out.u32(relation);
    }
    return out.bytes();
  }
  std::string operator()(const replication::pgoutput::LogicalMessage& m) const {
    return Encoder()
        .tag('M')
        .u8(m.transactional ? 1 : 0)
        .u64(m.lsn.value)
        .c_string(m.prefix)
        .u32(static_cast<std::uint32_t>(m.content.size()))
        .raw(m.content)
        .bytes();
  }
  static char old_tag(replication::pgoutput::OldRow kind) {
    return kind == replication::pgoutput::OldRow::key ? 'K' : 'O';
  }
};

inline std::string encode(const replication::pgoutput::Message& message) {
  return std::visit(Encode{}, message);
}

}  // namespace tests

#include "replication/pgoutput/message.h"

#include <doctest/doctest.h>
#include <random>
#include <string>
#include <vector>

#include "replication/base/error.h"
#include "tests/unit/pgoutput/encoder.h"

namespace {

using namespace replication;
using namespace replication::pgoutput;
using base::Lsn;
using tests::Encoder;

Message decode_text(const std::string& bytes) {
  return decode(std::span<const char>(bytes.data(), bytes.size()));
}

std::vector<ColumnValue> read(const Tuple& tuple) {
  std::vector<ColumnValue> values;
  tuple.read(values);
  return values;
}

const std::vector<ColumnValue> kRow{{ColumnKind::text, "17"},
                                    {ColumnKind::null, {}},
                                    {ColumnKind::unchanged_toast, {}},
                                    {ColumnKind::binary, std::string_view("\0\0\0\1", 4)},
                                    {ColumnKind::text, ""}};

std::string row_bytes() {
  return Encoder().row(kRow).bytes();
}

// One of every kind, with the name of its message.
std::vector<std::pair<std::string, std::string>> samples() {
  return {
      {"begin", Encoder().tag('B').u64(0x16B374D848).u64(700'000'000).u32(4711).bytes()},
      {"commit", Encoder().tag('C').u8(0).u64(10).u64(20).u64(30).bytes()},
      {"origin", Encoder().tag('O').u64(9).c_string("elsewhere").bytes()},
      {"relation", Encoder()
                       .tag('R')
                       .u32(16'400)
                       .c_string("a\"b")
                       .c_string("Order")
                       .tag('d')
                       .u16(2)
                       .u8(1)
                       .c_string("id")
                       .u32(23)
                       .u32(0xFFFFFFFF)
                       .u8(0)
                       .c_string("note")
                       .u32(25)
                       .u32(36)
                       .bytes()},
      {"type", Encoder().tag('Y').u32(16'500).c_string("public").c_string("mood").bytes()},
      {"insert", Encoder().tag('I').u32(16'400).tag('N').raw(row_bytes()).bytes()},
      {"update", Encoder().tag('U').u32(16'400).tag('N').raw(row_bytes()).bytes()},
      {"update with old key",
       Encoder().tag('U').u32(16'400).tag('K').raw(row_bytes()).tag('N').raw(row_bytes()).bytes()},
      {"update with old row",
       Encoder().tag('U').u32(16'400).tag('O').raw(row_bytes()).tag('N').raw(row_bytes()).bytes()},
      {"delete by key", Encoder().tag('D').u32(16'400).tag('K').raw(row_bytes()).bytes()},
      {"delete by row", Encoder().tag('D').u32(16'400).tag('O').raw(row_bytes()).bytes()},
      {"truncate", Encoder().tag('T').u32(2).u8(3).u32(16'400).u32(16'401).bytes()},
      {"logical message", Encoder().tag('M').u8(1).u64(77).c_string("prefix").u32(3).raw("abc").bytes()},
  };
}

// The text of the DecodeError, or "" where the bytes were accepted.
std::string refusal(const std::string& bytes) {
  try {
    decode_text(bytes);
    return {};
  } catch (const base::DecodeError& error) {
    CHECK(error.where().starts_with("offset "));
    return error.message() + " at " + error.where();
  }
}

}  // namespace

TEST_CASE("begin carries the commit record's position, the time and the top-level xid") {
  const auto begin = std::get<Begin>(decode_text(samples()[0].second));
  CHECK(begin.final_lsn == Lsn{0x16B374D848});
  CHECK(begin.commit_time_us == 700'000'000);
  CHECK(begin.xid == 4711);
}

TEST_CASE("commit carries both positions") {
  const auto commit = std::get<Commit>(decode_text(samples()[1].second));
  CHECK(commit.commit_lsn == Lsn{10});
  CHECK(commit.end_lsn == Lsn{20});
  CHECK(commit.commit_time_us == 30);
}

TEST_CASE("a position that is not set is refused, as PostgreSQL's own subscriber does") {
  CHECK(refusal(Encoder().tag('B').u64(0).u64(1).u32(1).bytes()) ==
        "final LSN of begin is not set at offset 1");
  CHECK(refusal(Encoder().tag('C').u8(0).u64(0).u64(1).u64(1).bytes()) ==
        "commit LSN is not set at offset 2");
  CHECK(refusal(Encoder().tag('C').u8(0).u64(1).u64(0).u64(1).bytes()) ==
        "end LSN of commit is not set at offset 10");
}

TEST_CASE("a relation lists its columns with key flag, type and modifier") {
  const auto bytes = samples()[3].second;
  const auto relation = std::get<Relation>(decode_text(bytes));
  CHECK(relation.relation == 16'400);
  CHECK(relation.schema == "a\"b");
  CHECK(relation.name == "Order");
  CHECK(relation.identity == ReplicaIdentity::default_);
  REQUIRE(relation.columns.size() == 2);
  CHECK(relation.columns[0].key);
  CHECK(relation.columns[0].name == "id");
  CHECK(relation.columns[0].type == 23);
  CHECK(relation.columns[0].typmod == -1);
  CHECK_FALSE(relation.columns[1].key);
  CHECK(relation.columns[1].typmod == 36);
}

TEST_CASE("an empty schema is pg_catalog") {
  const auto relation = Encoder().tag('R').u32(1).c_string("").c_string("t").tag('n').u16(0).bytes();
  CHECK(std::get<Relation>(decode_text(relation)).schema == "pg_catalog");
  const auto type = Encoder().tag('Y').u32(1).c_string("").c_string("t").bytes();
  CHECK(std::get<Type>(decode_text(type)).schema == "pg_catalog");
}

TEST_CASE("a row tells null, unchanged, text, binary and empty apart") {
  const auto bytes = samples()[5].second;
  const auto insert = std::get<Insert>(decode_text(bytes));
  CHECK(insert.relation == 16'400);
  CHECK(insert.new_row.columns() == 5);
  const auto values = read(insert.new_row);
  REQUIRE(values.size() == kRow.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    CHECK(values[i].kind == kRow[i].kind);
    CHECK(values[i].bytes == kRow[i].bytes);
  }
}

TEST_CASE("reading a row replaces what the vector held before") {
  const auto bytes = samples()[5].second;
  const auto insert = std::get<Insert>(decode_text(bytes));
  std::vector<ColumnValue> values(9, ColumnValue{ColumnKind::text, "left over"});
  insert.new_row.read(values);
  REQUIRE(values.size() == 5);
  CHECK(values[1].bytes.empty());
  Tuple().read(values);
  CHECK(values.empty());
}

TEST_CASE("update and delete say which old row they carry") {
  const auto all = samples();
  CHECK(std::get<Update>(decode_text(all[6].second)).old_kind == OldRow::none);
  CHECK(std::get<Update>(decode_text(all[7].second)).old_kind == OldRow::key);
  CHECK(std::get<Update>(decode_text(all[8].second)).old_kind == OldRow::full);
  CHECK(std::get<Delete>(decode_text(all[9].second)).old_kind == OldRow::key);
  CHECK(std::get<Delete>(decode_text(all[10].second)).old_kind == OldRow::full);
  CHECK(read(std::get<Update>(decode_text(all[7].second)).old_row).size() == 5);
}

TEST_CASE("truncate lists all its tables and its options") {
  const auto truncate = std::get<Truncate>(decode_text(samples()[11].second));
  CHECK(truncate.cascade);
  CHECK(truncate.restart_identity);
  CHECK(truncate.relations == std::vector<base::Oid>{16'400, 16'401});
}

TEST_CASE("a logical message carries prefix and content") {
  const auto bytes = samples()[12].second;
  const auto message = std::get<LogicalMessage>(decode_text(bytes));
  CHECK(message.transactional);
  CHECK(message.lsn == Lsn{77});
  CHECK(message.prefix == "prefix");
  CHECK(message.content == "abc");
}

TEST_CASE("every message cut at any length is refused, and nothing is read past its end") {
  for (const auto& sample : samples()) {
    const auto& name = sample.first;
    const auto& bytes = sample.second;
    CAPTURE(name);
    REQUIRE(refusal(bytes).empty());
    for (std::size_t length = 0; length < bytes.size(); ++length) {
      CAPTURE(length);
      // A block of its own size: the sanitizer sees a read past the end.
      const std::vector<char> cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length));
      CHECK_THROWS_AS(decode(cut), base::DecodeError);
    }
  }
}

TEST_CASE("a byte too many is refused") {
  for (const auto& sample : samples()) {
    const auto& name = sample.first;
    const auto& bytes = sample.second;
    CAPTURE(name);
    CHECK(refusal(bytes + "x") ==
          "1 bytes left over after the message at offset " + std::to_string(bytes.size()));
  }
}

TEST_CASE("messages that were never asked for are protocol errors by name") {
  const std::vector<std::pair<char, std::string>> never{
      {'S', "stream start"},    {'E', "stream stop"},       {'c', "stream commit"},
      {'A', "stream abort"},    {'b', "begin prepare"},     {'P', "prepare"},
      {'K', "commit prepared"}, {'r', "rollback prepared"}, {'p', "stream prepare"}};
  for (const auto& [tag, name] : never) {
    CHECK(refusal(Encoder().tag(tag).u64(1).bytes()) ==
          "protocol error: " + name + " message '" + tag + "' was never asked for at offset 0");
  }
  CHECK(refusal("z") == "protocol error: unknown message 'z' at offset 0");
  CHECK(refusal(std::string(1, '\0')) == "protocol error: unknown message byte 0 at offset 0");
}

TEST_CASE("counts that can't be true are refused before anything is allocated") {
  CHECK(refusal(Encoder().tag('T').u32(0x7FFFFFFF).u8(0).u32(1).bytes()) ==
        "truncate of 2147483647 relations in 4 bytes at offset 1");
  CHECK(refusal(Encoder().tag('T').u32(0x80000000).u8(0).bytes()) ==
        "truncate of -2147483648 relations at offset 1");
  CHECK(refusal(Encoder().tag('T').u32(0).u8(0).bytes()) == "truncate of 0 relations at offset 1");
  const auto relation = Encoder().tag('R').u32(1).c_string("s").c_string("t").tag('d');
  CHECK(refusal(Encoder(relation).u16(1600).raw("0123456789").bytes()) ==
        "relation of 1600 columns in 10 bytes at offset 10");
  CHECK(refusal(Encoder(relation).u16(0xFFFF).raw(std::string(700'000, 'x')).bytes())
            .starts_with("relation of 65535 columns"));
  CHECK(refusal(Encoder().tag('I').u32(1).tag('N').u16(0xFFFF).raw(std::string(0xFFFF, 'n')).bytes()) ==
        "row of 65535 columns, the most is 1664 at offset 6");
}

TEST_CASE("values of impossible length or kind are refused") {
  const auto row = Encoder().tag('I').u32(1).tag('N').u16(1);
  CHECK(refusal(Encoder(row).tag('t').u32(0xFFFFFFFF).bytes()) ==
        "negative length -1 of column 1 at offset 9");
  CHECK(refusal(Encoder(row).tag('t').u32(0x7FFFFFFF).raw("abc").bytes()) ==
        "truncated: bytes of 2147483647 bytes wanted, 3 left at offset 13");
  CHECK(refusal(Encoder(row).tag('x').u32(0).bytes()) == "unknown column kind 'x' of column 1 at offset 8");
  CHECK(refusal(Encoder().tag('M').u8(0).u64(1).c_string("").u32(0x80000000).bytes()) ==
        "negative length -2147483648 of a logical message at offset 11");
}

TEST_CASE("unknown flags and tags are refused, since they would change the meaning of the rest") {
  CHECK(refusal(Encoder().tag('C').u8(1).u64(1).u64(2).u64(3).bytes()) ==
        "unknown flags 1 in commit at offset 1");
  CHECK(refusal(Encoder().tag('T').u32(1).u8(4).u32(1).bytes()) == "unknown flags 4 in truncate at offset 5");
  CHECK(refusal(Encoder().tag('M').u8(2).u64(1).c_string("").u32(0).bytes()) ==
        "unknown flags 2 in a logical message at offset 1");
  CHECK(refusal(Encoder().tag('I').u32(1).tag('K').u16(0).bytes()) ==
        "row tag 'N' expected, got 'K' at offset 5");
  CHECK(refusal(Encoder().tag('D').u32(1).tag('N').u16(0).bytes()) ==
        "row tag 'K' or 'O' expected, got 'N' at offset 5");
  CHECK(refusal(Encoder().tag('U').u32(1).tag('K').u16(0).tag('K').u16(0).bytes()) ==
        "row tag 'N' expected, got 'K' at offset 8");
  CHECK(refusal(Encoder().tag('R').u32(1).c_string("s").c_string("t").tag('x').u16(0).bytes()) ==
        "unknown replica identity 'x' at offset 9");
  CHECK(refusal(Encoder()
                    .tag('R')
                    .u32(1)
                    .c_string("s")
                    .c_string("t")
                    .tag('d')
                    .u16(1)
                    .u8(2)
                    .c_string("c")
                    .u32(1)
                    .u32(1)
                    .bytes()) == "unknown flags 2 in a relation's column at offset 12");
}

namespace {

// Random messages, whose strings live in `pool` for as long as the message is looked at.
class RandomMessages {
 public:
  explicit RandomMessages(std::uint32_t seed) : random_(seed) {}

  std::string next() {
    const auto oid = number();
    switch (below(10)) {
      case 0:
        return Encoder().tag('B').u64(number() + 1ULL).u64(number()).u32(number()).bytes();
      case 1:
        return Encoder().tag('C').u8(0).u64(number() + 1ULL).u64(number() + 1ULL).u64(number()).bytes();
      case 2:
        return Encoder().tag('O').u64(number()).c_string(name()).bytes();
      case 3:
        return relation(oid);
      case 4:
        return Encoder().tag('Y').u32(oid).c_string(name()).c_string(name()).bytes();
      case 5:
        return Encoder().tag('I').u32(oid).tag('N').raw(row()).bytes();
      case 6:
        return Encoder().tag('D').u32(oid).tag(below(2) == 0 ? 'K' : 'O').raw(row()).bytes();
      case 7:
        return truncate();
      case 8:
        return Encoder().tag('M').u8(1).u64(number()).c_string(name()).u32(4).raw("\1\2\3\4").bytes();
      default:
        return update(oid);
    }
  }

 private:
  std::uint32_t number() { return static_cast<std::uint32_t>(random_()); }
  std::uint32_t below(std::uint32_t limit) { return number() % limit; }
  std::string name() { return std::string(below(70), static_cast<char>('a' + below(26))); }
  std::string row() {
    Encoder out;
    const auto columns = below(9);
    out.u16(static_cast<std::uint16_t>(columns));
    for (std::uint32_t i = 0; i < columns; ++i) {
      const auto kind = "nutb"[below(4)];
      out.tag(kind);
      if (kind == 't' || kind == 'b') {
        const std::string value(below(40), static_cast<char>(below(256)));
        out.u32(static_cast<std::uint32_t>(value.size())).raw(value);
      }
    }
    return out.bytes();
  }
  std::string relation(std::uint32_t oid) {
    Encoder out;
    const auto columns = below(20);
    out.tag('R').u32(oid).c_string(name()).c_string(name()).tag("dnfi"[below(4)]);
    out.u16(static_cast<std::uint16_t>(columns));
    for (std::uint32_t i = 0; i < columns; ++i) {
      out.u8(static_cast<std::uint8_t>(below(2))).c_string(name()).u32(number()).u32(number());
    }
    return out.bytes();
  }
  std::string update(std::uint32_t oid) {
    Encoder out;
    out.tag('U').u32(oid);
    if (const auto old = below(3); old != 0) {
      out.tag(old == 1 ? 'K' : 'O').raw(row());
    }
    return out.tag('N').raw(row()).bytes();
  }
  std::string truncate() {
    Encoder out;
    const auto count = 1 + below(5);
    out.tag('T').u32(count).u8(static_cast<std::uint8_t>(below(4)));
    for (std::uint32_t i = 0; i < count; ++i) {
      out.u32(number());
    }
    return out.bytes();
  }
  std::mt19937 random_;
};

}  // namespace

TEST_CASE("what is decoded and encoded again is what was sent, for random messages") {
  const std::uint32_t seed = 20'261'121;
  CAPTURE(seed);
  RandomMessages messages(seed);
  std::vector<int> seen(std::variant_size_v<Message>);
  for (int i = 0; i < 20'000; ++i) {
    const auto bytes = messages.next();
    const auto message = decode_text(bytes);
    ++seen[message.index()];
    REQUIRE(tests::encode(message) == bytes);
  }
  for (const int count : seen) {
    CHECK(count > 0);
  }
}

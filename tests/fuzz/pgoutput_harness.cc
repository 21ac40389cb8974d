#include "tests/fuzz/pgoutput_harness.h"

#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "replication/base/error.h"
#include "replication/pgoutput/message.h"
#include "replication/pgoutput/relation_cache.h"
#include "tests/unit/pgoutput/encoder.h"

namespace tests {
namespace {

using namespace replication::pgoutput;

void require(bool condition, const char* what) {
  if (!condition) {
    throw std::logic_error(what);
  }
}

bool inside(std::string_view part, std::span<const char> whole) {
  const std::less_equal<const char*> not_after;
  return part.empty() || (not_after(whole.data(), part.data()) &&
                          not_after(part.data() + part.size(), whole.data() + whole.size()));
}

void check_row(const Tuple& row, std::span<const char> bytes) {
  std::vector<ColumnValue> values(3);
  row.read(values);
  require(values.size() == row.columns(), "a row has as many values as columns");
  for (const auto& value : values) {
    require(inside(value.bytes, bytes), "a value lies inside the message");
  }
}

// The name is sent empty for pg_catalog, so that one spelled out doesn't come back as it was.
bool spelled_out(const Message& message) {
  const auto* relation = std::get_if<Relation>(&message);
  const auto* type = std::get_if<Type>(&message);
  return (relation != nullptr && relation->schema == "pg_catalog") ||
         (type != nullptr && type->schema == "pg_catalog");
}

}  // namespace

bool fuzz_pgoutput(std::span<const char> bytes) {
  Message message;
  try {
    message = decode(bytes);
  } catch (const replication::base::DecodeError& error) {
    require(error.where().starts_with("offset "), "a refusal names its place");
    return false;
  }
  if (const auto* insert = std::get_if<Insert>(&message)) {
    check_row(insert->new_row, bytes);
  } else if (const auto* update = std::get_if<Update>(&message)) {
    check_row(update->old_row, bytes);
    check_row(update->new_row, bytes);
  } else if (const auto* del = std::get_if<Delete>(&message)) {
    require(del->old_kind != OldRow::none, "a delete has an old row");
    check_row(del->old_row, bytes);
  } else if (const auto* relation = std::get_if<Relation>(&message)) {
    RelationCache cache;
    require(cache.update(*relation).columns.size() == relation->columns.size(),
            "the cache keeps all columns");
  }
  if (!spelled_out(message)) {
    require(encode(message) == std::string(bytes.begin(), bytes.end()), "what is decoded is all there was");
  }
  return true;
}

}  // namespace tests

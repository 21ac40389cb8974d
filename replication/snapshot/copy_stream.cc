#include "replication/snapshot/copy_stream.h"

#include <span>
#include <vector>

#include "replication/base/error.h"
#include "replication/postgres/copy.h"
#include "replication/postgres/quote.h"

namespace replication::snapshot {
namespace {

using base::Deadline;
using base::Error;

// How long a COPY may show no sign of life: a scan over nothing but dead rows sends nothing either.
constexpr base::milliseconds kSilenceMax{1'800'000};
constexpr std::size_t kBlockBytes = std::size_t{128} << 10;

std::string columns(const catalog::Table& table) {
  std::string list;
  for (const auto& column : table.columns) {
    if (!column.generated) {
      list += (list.empty() ? "" : ", ") + postgres::quote_identifier(column.name);
    }
  }
  return list;
}

// COPY has no empty list; without one it means every ordinary column.
std::string column_list(const catalog::Table& table) {
  const auto list = columns(table);
  return list.empty() ? "" : " (" + list + ")";
}

// Small rows travel together: a message each would cost the target more than the row.
class Sender {
 public:
  Sender(postgres::CopyIn& in, CopyShared& shared, const CopyStream::Moved& moved, const base::Stop& stop)
      : in_(in), shared_(shared), moved_(moved), stop_(stop) {
    block_.reserve(kBlockBytes);
  }
  void add(std::span<const char> row) {
    ++waiting_rows_;
    if (block_.size() + row.size() > kBlockBytes) {
      flush();
    }
    if (row.size() >= kBlockBytes) {
      send(row);
      return;
    }
    block_.insert(block_.end(), row.begin(), row.end());
  }
  void flush() {
    if (!block_.empty()) {
      send(block_);
      block_.clear();
    }
  }
  std::int64_t rows() const { return rows_ + waiting_rows_; }
  std::int64_t bytes() const { return bytes_; }

 private:
  void send(std::span<const char> data) {
    const auto size = static_cast<std::int64_t>(data.size());
    if (shared_.pace != nullptr) {
      shared_.pace->send(size, stop_);
    }
    in_.write(data, Deadline::in(kSilenceMax));
    bytes_ += size;
    rows_ += waiting_rows_;
    moved_(waiting_rows_, size);
    waiting_rows_ = 0;
  }

  postgres::CopyIn& in_;
  CopyShared& shared_;
  const CopyStream::Moved& moved_;
  const base::Stop& stop_;
  std::vector<char> block_;
  std::int64_t rows_ = 0, waiting_rows_ = 0, bytes_ = 0;
};

}  // namespace

bool copies_binary(const catalog::Table& table) {
  return table.binary_safe() && !columns(table).empty();
}

std::string copy_out_sql(const catalog::Table& table) {
  return "COPY " + table.qualified() + column_list(table) +
         (copies_binary(table) ? " TO STDOUT (FORMAT binary)" : " TO STDOUT");
}

std::string copy_range_out_sql(const catalog::Table& table, const BlockRange& range) {
  std::string sql = "COPY (SELECT " + columns(table) + " FROM ONLY " + table.qualified() +
                    " WHERE ctid >= '(" + std::to_string(range.first) + ",0)'::pg_catalog.tid";
  if (range.end) {
    sql += " AND ctid < '(" + std::to_string(*range.end) + ",0)'::pg_catalog.tid";
  }
  return sql + (copies_binary(table) ? ") TO STDOUT (FORMAT binary)" : ") TO STDOUT");
}

std::string copy_in_sql(const catalog::Table& table, bool freeze) {
  std::string options = freeze ? "FREEZE true" : "";
  if (copies_binary(table)) {
    options += options.empty() ? "FORMAT binary" : ", FORMAT binary";
  }
  return "COPY " + table.qualified() + column_list(table) + " FROM STDIN" +
         (options.empty() ? "" : " (" + options + ")");
}

CopyStream::~CopyStream() {
  if (large_) {
    shared_.large_rows.give_back();
  }
}

CopiedTable CopyStream::run(postgres::Connection& source, std::string_view out_sql,
                            postgres::Connection& target, std::string_view in_sql, bool binary) {
  postgres::CopyIn in(target, in_sql);
  Sender sender(in, shared_, moved_, stop_);
  {
    postgres::CopyOut out(source, out_sql);
    std::span<const char> row;
    while (out.next(row, Deadline::in(kSilenceMax))) {
      if (!large_ && static_cast<std::int64_t>(row.size()) > kLargeRowBytes) {
        shared_.large_rows.take(stop_);
        large_ = true;
      }
      sender.add(row);
    }
  }
  sender.flush();
  const CopiedTable copied{in.finish(Deadline::in(kSilenceMax)), sender.bytes()};
  // The server sends a message for each row, and the binary trailer as one of its own.
  const auto sent = sender.rows() - (binary ? 1 : 0);
  if (copied.rows != sent) {
    throw Error("the target stored " + std::to_string(copied.rows) + " of " + std::to_string(sent) + " rows",
                "look for triggers and rules on the target's table that are enabled ALWAYS or for REPLICA")
        .on("target");
  }
  return copied;
}

}  // namespace replication::snapshot

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
  if (list.empty() && !table.left_out.empty()) {
    throw Error("every column of " + table.display() + " is left out",
                "leave the table out (--exclude), or one column less");
  }
  return list.empty() ? "" : " (" + list + ")";
}

// Gathers what comes into blocks: a message for each small row would cost the target more than the row, and
// one for a large row would be a second copy of it.
class Sender {
 public:
  Sender(postgres::CopyIn& in, CopyShared& shared, const CopyStream::Moved& moved, const base::Stop& stop)
      : in_(in), shared_(shared), moved_(moved), stop_(stop), block_(kBlockBytes) {}
  // Where the next bytes go; never empty.
  std::span<char> room() { return std::span(block_).subspan(filled_); }
  void filled(std::size_t bytes) {
    rows_ += bytes < room().size() ? 1 : 0;  // else it may go on
    filled_ += bytes;
    if (filled_ == block_.size()) {
      send();
    }
  }
  void finish(std::int64_t rows) {
    rows_ = rows;
    send();
  }
  std::int64_t bytes() const { return bytes_; }

 private:
  void send() {
    const auto size = static_cast<std::int64_t>(filled_);
    if (shared_.pace != nullptr) {
      shared_.pace->send(size, stop_);
    }
    in_.write(std::span(block_).first(filled_), Deadline::in(kSilenceMax));
    filled_ = 0;
    bytes_ += size;
    moved_(rows_ - rows_told_, size);
    rows_told_ = rows_;
  }

  postgres::CopyIn& in_;
  CopyShared& shared_;
  const CopyStream::Moved& moved_;
  const base::Stop& stop_;
  std::vector<char> block_;
  std::size_t filled_ = 0;
  std::int64_t rows_ = 0, rows_told_ = 0, bytes_ = 0;
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

CopiedTable CopyStream::run(postgres::Connection& source, std::string_view out_sql,
                            postgres::Connection& target, std::string_view in_sql) {
  postgres::CopyIn in(target, in_sql);
  Sender sender(in, shared_, moved_, stop_);
  std::int64_t sent = 0;
  {
    postgres::CopyOut out(source, out_sql);
    out.before_more_of_row(
        [this](std::size_t bytes) { memory_.grow(static_cast<std::int64_t>(bytes), stop_); });
    while (const auto bytes = out.read(sender.room(), Deadline::in(kSilenceMax))) {
      sender.filled(bytes);
    }
    sent = out.rows();
  }
  sender.finish(sent);
  const CopiedTable copied{in.finish(Deadline::in(kSilenceMax)), sender.bytes()};
  if (copied.rows != sent) {
    throw Error("the target stored " + std::to_string(copied.rows) + " of " + std::to_string(sent) + " rows",
                "look for triggers and rules on the target's table that are enabled ALWAYS or for REPLICA")
        .on("target");
  }
  return copied;
}

}  // namespace replication::snapshot

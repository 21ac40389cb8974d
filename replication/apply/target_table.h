// What apply knows of one published table: the target's columns and key, and how the source's columns map to
// them.
//
// Pure data, made by TargetTables (target_tables.h). Immutable after loading: a relation that changes its
// shape gets another TargetTable, so that changes which were collected under the old shape stay right.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "replication/base/lsn.h"
#include "replication/pgoutput/message.h"

namespace replication::apply {

// A row image in the source's column order.
using Row = std::span<const pgoutput::ColumnValue>;
// One flag for each of the target's columns: left alone, since its value was not sent.
using Mask = std::vector<bool>;

// How a changed row is found on the target.
enum class Matching {
  key,           // by a unique, immediate index: changes can be compacted and sent as sets
  first_of_key,  // by a deferrable key, one by one: within a transaction two rows may have it for a moment.
                 // The server takes such a key for no replica identity, so the source sends whole old rows
                 // (FULL), and the image tells the two apart
  whole_row,     // no key: one of the rows with this very image, one by one
  none,          // never: the source publishes no updates and deletes of it
};

struct TargetColumn {
  std::string name;
  base::Oid type = 0;
  std::int32_t typmod = -1;
  std::string type_name;   // format_type()
  char identity = '\0';    // 'a' ALWAYS, 'd' BY DEFAULT
  bool generated = false;  // never written
  int source = -1;         // index of the source's column; -1 = the target has it alone, or it is left out
  // Rows travel with this type instead: a domain's base, or what the source has where the target's is wider.
  // The statement then casts, as an assignment. 0 = `type`.
  base::Oid sent_as = 0;
  std::string sent_as_name = {};
  bool domain = false;   // `sent_as` is its base
  bool portable = true;  // its binary form is the same on every server: catalog/types.h

  bool written() const { return source >= 0 && !generated; }
  // A value that the other side doesn't send, and that no change from there may touch.
  bool own() const { return source < 0 && !generated; }
  base::Oid sent_type() const { return sent_as == 0 ? type : sent_as; }
  bool operator==(const TargetColumn&) const = default;
};

struct KeyColumn {
  std::size_t source = 0, target = 0;  // indexes of the column on either side
  std::string equals;                  // its index's equality operator: OPERATOR("pg_catalog".=)

  bool operator==(const KeyColumn&) const = default;
};

struct TargetTable {
  std::uint64_t id = 0;  // unique in the process: names prepared statements
  base::Oid oid = 0, row_type = 0, array_type = 0;
  std::string schema, name;
  std::string qualified;      // quoted
  std::string display;        // for people
  std::string row_type_name;  // quoted; empty: the table's own, `qualified`
  bool partitioned = false;
  Matching matching = Matching::none;
  pgoutput::ReplicaIdentity identity = pgoutput::ReplicaIdentity::default_;
  std::vector<TargetColumn> columns;  // live ones in the order of the row type
  std::vector<KeyColumn> key;
  bool identity_always = false;  // a written column is GENERATED ALWAYS AS IDENTITY
  bool text_only = false;        // a written column's binary form isn't the same on every server

  bool is_key(std::size_t target) const;
  bool has_own_columns() const;
  // By the same columns of the source and in the same way.
  bool found_like(const TargetTable& other) const;
  // All but the id.
  bool same_shape(const TargetTable& other) const;
  // Rows are found by the old row's image, not by its key alone.
  bool old_rows_are_whole() const {
    return matching == Matching::whole_row ||
           (matching == Matching::first_of_key && identity == pgoutput::ReplicaIdentity::full);
  }
};

// What of a row is sent.
enum class RowPart {
  all,
  key,  // the other columns as NULL
};

// The key's values as bytes that differ exactly when the values' stored bytes do and whose (length, bytes)
// order follows the index's for fixed-length types. `scratch` holds them where the key has several columns.
std::string_view key_bytes(const TargetTable& table, Row row, std::string& scratch);
// The key for people: "id=17, region='eu'". Binary values of other types than integers and texts come as hex.
std::string describe_key(const TargetTable& table, Row row);

}  // namespace replication::apply

// What a database contains, as one REPEATABLE READ look at its catalogs.
//
// Pure data after loading. All catalog SQL lives in this room; PostgreSQL 12 to 18. Ordinary and partitioned
// tables outside pg_catalog, information_schema, pg_toast, temp schemas, our own schema and extension-owned
// tables.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "replication/base/lsn.h"
#include "replication/postgres/connection.h"

namespace replication::catalog {

struct Column {
  std::string name = {};
  int number = 0;  // attnum
  base::Oid type = 0;
  int type_modifier = -1;      // atttypmod
  std::string type_name = {};  // format_type(): "character varying(20)"
  bool not_null = false;
  char identity = '\0';      // 'a' ALWAYS, 'd' BY DEFAULT
  bool generated = false;    // stored or virtual: never written, never streamed before 18
  bool stored = true;        // false: generated and virtual, computed whenever it is read
  bool binary_safe = false;  // on the allow-list of types whose binary form is the same on every server
  bool has_equality = true;  // the type has a default btree or hash operator class
  // Of its row in pg_attribute, where the filter leaves columns out: under another name it may have been left
  // out meanwhile, and nothing else tells once it has its name back.
  std::string version = {};
  // Of what the type is made of: enum labels, a composite's columns, and so on down to base types. 0 for
  // these.
  std::uint64_t type_digest = 0;

  bool operator==(const Column&) const = default;
};

enum class TableKind { ordinary, partitioned };

struct Table {
  base::Oid oid = 0;
  std::string schema, name;
  TableKind kind = TableKind::ordinary;
  bool partition = false;  // a leaf or an inner node of a partitioned table
  base::Oid root = 0;      // topmost partitioned table where `partition`, else 0
  std::string root_name;   // its display name
  bool unlogged = false;
  char replica_identity = 'd';   // d, n, f, i
  std::vector<Column> columns;   // live ones that the filter doesn't leave out, by attnum
  std::vector<Column> left_out;  // live ones that it does: neither copied, streamed nor compared
  // Columns of the replica identity index or, under 'd' and 'f', of the primary key. Empty where PostgreSQL
  // takes none for the identity: no index, a DEFERRABLE primary key, REPLICA IDENTITY NOTHING.
  std::vector<std::string> key;
  bool has_secondary_unique = false;  // a unique or exclusion index other than that of `key`
  bool has_deferrable_unique = false;
  std::int64_t bytes = 0;    // heap and toast; 0 for partitioned
  double rows_estimate = 0;  // reltuples, -1 never analyzed
  std::int64_t updates = 0;  // n_tup_upd + n_tup_del of the statistics: is the table ever changed in place?
  base::Oid filenode = 0;    // pg_class.relfilenode as this snapshot sees it
  base::Oid row_type = 0;    // pg_class.reltype

  std::string qualified() const;  // quoted: "public"."orders"
  std::string display() const;    // for people: public.orders
  // By what filters know it: a partition goes where its root goes.
  std::string filter_name() const { return root_name.empty() ? display() : root_name; }
  bool keyless() const { return key.empty(); }
  bool stores_rows() const { return kind == TableKind::ordinary; }
  bool binary_safe() const;     // every non-generated column is
  bool streams_binary() const;  // also those left out, which the server sends all the same
};

struct ColumnFilter {                // shell patterns on "schema.table.column"
  std::vector<std::string> exclude;  // empty = nothing is left out
  bool leaves_out(std::string_view filter_name, std::string_view column) const;
};

struct TableFilter {                 // shell patterns on "schema.table"; exclude wins
  std::vector<std::string> include;  // empty = everything
  std::vector<std::string> exclude;
  ColumnFilter columns = {};
  bool matches(std::string_view display_name) const;
};
// The pattern that matches exactly this name.
std::string literal_pattern(std::string_view display_name);

struct ForeignKey {
  std::string table;  // quoted, qualified
  bool table_partitioned = false;
  std::string name = {};
  std::string references = {};  // the other table; quoted, qualified
  std::string definition;       // pg_get_constraintdef(): FOREIGN KEY (...) REFERENCES ...
  bool validated = true;
  bool to_extension = false;  // the other table is an extension's: there without being moved
};

struct Catalog {
  std::vector<Table> tables;             // by schema and name
  std::vector<ForeignKey> foreign_keys;  // top-level ones (conparentid = 0)
  std::vector<std::string> matviews;     // populated ones; quoted, qualified, in dependency order
  std::vector<std::pair<std::string, std::string>> extensions;  // name, version
  std::int64_t large_objects = 0;
  // Hash over everything a stream depends on: tables, columns, types, identities, partitions. Compared
  // between two looks at the same server only.
  std::string fingerprint;

  const Table* find(std::string_view schema, std::string_view name) const;
  const Table* find(base::Oid oid) const;
  // What goes into a publication: plain tables, partitions that store rows and, from 13 on, the roots.
  std::vector<Table> published(int server_major) const;
};

Catalog load(postgres::Connection& connection, const TableFilter& filter = {});
// Table::filter_name() of one table as this server has it; its own where there is no such table.
std::string filter_name(postgres::Connection& connection, std::string_view schema, std::string_view name);

}  // namespace replication::catalog

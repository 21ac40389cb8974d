// A source and a target with what the tool's earlier steps leave there.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "replication/base/stop.h"
#include "replication/catalog/catalog.h"
#include "replication/snapshot/copy.h"
#include "replication/snapshot/schema.h"
#include "tests/harness/cluster.h"

namespace snapshot_test {

using namespace replication;

struct Pair {
  harness::Cluster source{{.name = "source"}}, target{{.name = "target"}};
  base::Stop stop;

  Pair() {
    for (auto* cluster : {&source, &target}) {
      cluster->sql("postgres", "CREATE DATABASE shop TEMPLATE template0");
      cluster->sql("shop", postgres::FencingToken::schema_sql());
    }
    target.sql("shop", snapshot::copy_schema_sql());
    source.sql("shop",
               "CREATE TABLE pgcutover.marker (id integer PRIMARY KEY, token text NOT NULL, written_us "
               "bigint NOT NULL);"
               "INSERT INTO pgcutover.marker VALUES (1, '', 0), (2, '', 0)");
    source.sql("shop", "CREATE SCHEMA app; CREATE SCHEMA \"we\"\"ird\"");
  }

  postgres::ConnInfo source_info() const {
    return postgres::ConnInfo::parse(source.conninfo("shop"), "source");
  }
  postgres::ConnInfo target_info() const {
    return postgres::ConnInfo::parse(target.conninfo("shop"), "target");
  }
  catalog::Catalog catalog() const {
    auto connection = source.connect("shop");
    return catalog::load(connection);
  }
  snapshot::SchemaTools tools() const { return snapshot::SchemaTools::locate("", source.major(), stop); }

  void restore_schema() const {
    const snapshot::SchemaArchive archive(tools(), source_info(), "", {}, stop);
    archive.restore_pre_data(target_info(), {});
  }

  std::string next_xid() const {
    return *source.value(
        "shop", source.major() >= 13 ? "SELECT pg_current_xact_id()::text" : "SELECT txid_current()");
  }
  snapshot::CopyOptions copy_options() const {
    snapshot::CopyOptions options;
    options.source = source_info();
    options.target = target_info();
    options.slot_xid = next_xid();
    return options;
  }

  // Every row of a table as text, for comparing the two sides.
  static std::string content(const harness::Cluster& cluster, const std::string& table) {
    return cluster
        .value("shop",
               "SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, '|' ORDER BY t::text "
               "COLLATE \"C\")), '') FROM ONLY " +
                   table + " t")
        .value();
  }
  void check_same(const std::string& table, int rows) const {
    INFO(table);
    const auto there = content(source, table);
    CHECK(there.starts_with(std::to_string(rows) + " "));
    CHECK(content(target, table) == there);
  }
};

// The slot's exported snapshot, as far as the copy is concerned.
struct HeldSnapshot {
  postgres::Connection session;
  std::string name;
  explicit HeldSnapshot(const harness::Cluster& cluster) : session(cluster.connect("shop")) {
    session.exec("BEGIN ISOLATION LEVEL REPEATABLE READ");
    name = session.one_value("SELECT pg_export_snapshot()");
  }
};

}  // namespace snapshot_test

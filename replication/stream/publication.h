// Publications: made, checked, dropped. Every function is idempotent: asked twice, the second call changes
// nothing.
//
// Rules: the publication is committed before its slot is created, since a slot reads publications as of the
// WAL it decodes; tables are listed one by one, partitions and (from 13 on) their roots, never FOR ALL
// TABLES, never a schema, so that a table made later can't slip in unseen. publish_via_partition_root stays
// off. Errors: StateError where a publication of this name is another one than asked for.
#pragma once

#include <string>
#include <vector>

#include "replication/catalog/catalog.h"
#include "replication/postgres/connection.h"

namespace replication::stream {

// Creates the publication for these tables plus pgcutover.marker (see marker.h), or checks that the existing
// one publishes exactly them, whole and for all four kinds of change (leaves with their root or by
// themselves); a difference is a StateError that names it. Not inside a transaction: it is committed on
// return.
void ensure_publication(postgres::Connection& connection, const std::string& name,
                        const std::vector<catalog::Table>& tables);
// Sorted, quoted and qualified; empty where there is no such publication.
std::vector<std::string> published_tables(postgres::Connection& connection, const std::string& name);
// Puts these tables in whole, those that are in it already anew, and sets what kinds of change are published
// where that isn't all. In a transaction of the caller's, which is to be short and patient: each table is
// locked against writers until its end. Servers without the fixes of May 2025 lose changes of a table that is
// added beneath a running transaction (the cached "not published" outlives it).
void put_tables(postgres::Connection& connection, const std::string& name,
                const std::vector<catalog::Table>& tables);
void drop_publication(postgres::Connection& connection, const std::string& name);

}  // namespace replication::stream

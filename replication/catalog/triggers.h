// Which triggers people made.
#pragma once

namespace replication::catalog {

// A condition on pg_trigger AS t. Before 15 the triggers that partitions have from their parent are marked as
// internal ones; what makes them different from those of foreign keys is the parent's trigger that they
// depend on, and no referenced table. As psql's describe.c tells them apart.
inline constexpr const char* kUserTrigger =
    "(NOT t.tgisinternal OR (t.tgconstrrelid = 0 AND EXISTS (SELECT FROM pg_catalog.pg_depend AS parent "
    "WHERE parent.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass AND parent.objid = t.oid "
    "AND parent.refclassid = 'pg_catalog.pg_trigger'::pg_catalog.regclass)))";

}  // namespace replication::catalog

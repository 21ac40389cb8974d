// Pieces of SQL about sequences and columns, for this room only.
#pragma once

#include <string>

namespace sequences {

// Two common table expressions: `uses` (sequence, relation, number), the columns a sequence feeds: owned
// ('a') and identity ('i') ones depend the sequence on the column, a default with nextval('...'::regclass)
// depends on the sequence; `bases` (type, base): domains followed to their base type.
inline std::string uses_sql() {
  return R"(
WITH RECURSIVE uses AS (
  SELECT d.objid AS sequence, d.refobjid AS relation, d.refobjsubid AS number
    FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_sequence s ON s.seqrelid = d.objid
   WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
     AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
     AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
  UNION
  SELECT d.refobjid, f.adrelid, f.adnum
    FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_sequence s ON s.seqrelid = d.refobjid
    JOIN pg_catalog.pg_attrdef f ON f.oid = d.objid
   WHERE d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass
     AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
), bases AS (
  SELECT oid AS type, oid AS base FROM pg_catalog.pg_type WHERE typtype <> 'd'
  UNION
  SELECT t.oid, t.typbasetype FROM pg_catalog.pg_type t WHERE t.typtype = 'd'
  UNION
  SELECT b.type, t.typbasetype FROM bases b JOIN pg_catalog.pg_type t ON t.oid = b.base AND t.typtype = 'd'
))";
}

}  // namespace sequences

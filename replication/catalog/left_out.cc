#include "replication/catalog/left_out.h"

#include <set>

#include "replication/postgres/quote.h"

namespace replication::catalog {

std::string Relation::qualified() const {
  return postgres::quote_qualified(schema, name);
}

std::string Relation::display() const {
  return schema + "." + name;
}

std::vector<Relation> left_out(postgres::Connection& connection, const TableFilter& filter) {
  std::vector<Relation> gone;
  if (filter.include.empty() && filter.exclude.empty()) {
    return gone;
  }
  const auto rows = connection.exec(R"(
    SELECT c.oid, n.nspname, c.relname, coalesce(rn.nspname || '.' || r.relname, n.nspname || '.' || c.relname)
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_catalog.pg_class r ON c.relispartition AND r.oid = pg_catalog.pg_partition_root(c.oid)
      LEFT JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
       AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgcutover') AND n.nspname !~ '^pg_(toast|temp_)'
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                          AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e')
     ORDER BY 2, 3)");
  for (int i = 0; i < rows.rows(); ++i) {
    if (!filter.matches(rows.text(i, 3))) {
      gone.push_back({rows.oid(i, 0), rows.text(i, 1), rows.text(i, 2)});
    }
  }
  return gone;
}

std::vector<Need> needs_of(postgres::Connection& connection, const std::vector<Relation>& gone) {
  std::vector<std::string> oids;
  for (const auto& relation : gone) {
    oids.push_back(std::to_string(relation.oid));
  }
  if (oids.empty()) {
    return {};
  }
  // A rule stands for its view; a constraint or a policy for itself; a column's type or default for its
  // table. What belongs to a relation that is left out goes with it.
  const auto rows = connection.exec(R"(
    WITH gone AS (SELECT unnest($1::pg_catalog.oid[]) AS oid
    ), referred AS (
      SELECT 'pg_catalog.pg_class'::pg_catalog.regclass AS class, oid, oid AS relation FROM gone
      UNION ALL
      SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, t.oid, gone.oid FROM gone JOIN pg_catalog.pg_class c USING (oid)
        JOIN pg_catalog.pg_type t ON t.oid = c.reltype OR t.typelem = c.reltype AND t.typtype = 'b'
    ), users AS (
      SELECT DISTINCT coalesce(w.ev_class, k.conrelid, p.polrelid, a.adrelid, g.tgrelid,
                               CASE WHEN d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass THEN d.objid END) AS owner,
             CASE WHEN w.oid IS NOT NULL AND w.rulename = '_RETURN' THEN 'pg_catalog.pg_class'::pg_catalog.regclass
                  ELSE d.classid::pg_catalog.regclass END AS class,
             CASE WHEN w.oid IS NOT NULL AND w.rulename = '_RETURN' THEN w.ev_class ELSE d.objid END AS oid,
             referred.relation, coalesce(k.contype = 'f', false) AS foreign_key, coalesce(k.conparentid, 0) AS parent
        FROM referred JOIN pg_catalog.pg_depend d
          ON d.refclassid = referred.class AND d.refobjid = referred.oid AND d.deptype IN ('n', 'a')
        LEFT JOIN pg_catalog.pg_rewrite w ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND w.oid = d.objid
        LEFT JOIN pg_catalog.pg_constraint k
          ON d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND k.oid = d.objid AND k.conrelid <> 0
        LEFT JOIN pg_catalog.pg_policy p ON d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND p.oid = d.objid
        LEFT JOIN pg_catalog.pg_attrdef a ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND a.oid = d.objid
        LEFT JOIN pg_catalog.pg_trigger g ON d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass AND g.oid = d.objid
    )
    SELECT o.type, o.identity, n.nspname || '.' || r.relname, users.foreign_key
      FROM users JOIN pg_catalog.pg_class r ON r.oid = users.relation
      JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace,
      LATERAL pg_catalog.pg_identify_object(users.class, users.oid, 0) o
     WHERE (users.owner IS NULL OR users.owner NOT IN (SELECT oid FROM gone)) AND users.parent = 0
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger i WHERE users.class =
                         'pg_catalog.pg_trigger'::pg_catalog.regclass AND i.oid = users.oid AND i.tgisinternal)
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_type t WHERE users.class = 'pg_catalog.pg_type'::pg_catalog.regclass
                          AND t.oid = users.oid AND (t.typrelid <> 0 OR t.typelem <> 0))
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE users.class = 'pg_catalog.pg_class'::pg_catalog.regclass
                          AND c.oid = users.oid AND c.relkind IN ('i', 'I', 't', 'S'))
       AND users.class NOT IN ('pg_catalog.pg_publication_rel'::pg_catalog.regclass,
                               'pg_catalog.pg_statistic_ext'::pg_catalog.regclass)
     ORDER BY 4, 1, 2)",
                                    postgres::Params{postgres::array_literal(oids)});
  std::vector<Need> needs;
  for (int i = 0; i < rows.rows(); ++i) {
    needs.push_back({rows.text(i, 0) + " " + rows.text(i, 1), rows.text(i, 2), rows.boolean(i, 3)});
  }
  return needs;
}

std::vector<std::string> columns_left_out(const Catalog& catalog) {
  std::set<std::string> names;
  for (const auto& table : catalog.tables) {
    for (const auto& column : table.left_out) {
      names.insert(table.filter_name() + "." + column.name);
    }
  }
  return {names.begin(), names.end()};
}

std::vector<ColumnNeed> column_needs(postgres::Connection& connection, const Catalog& catalog) {
  std::vector<std::string> oids, numbers;
  for (const auto& table : catalog.tables) {
    for (const auto& column : table.left_out) {
      oids.push_back(std::to_string(table.oid));
      numbers.push_back(std::to_string(column.number));
    }
  }
  if (oids.empty()) {
    return {};
  }
  // Indexes and constraints of partitions that came from their parents are told of these. Up to 14 a
  // generated column depends on its columns by itself, from 15 on by its expression.
  const auto rows =
      connection.exec(R"(
    SELECT n.nspname || '.' || c.relname, a.attname, needs.why
      FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.oid[]), pg_catalog.unnest($2::pg_catalog.int2[])) wanted(relid, number)
      JOIN pg_catalog.pg_class c ON c.oid = wanted.relid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_catalog.pg_attribute a ON a.attrelid = wanted.relid AND a.attnum = wanted.number
      JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
     CROSS JOIN LATERAL (
       SELECT 'is NOT NULL without a default'
        WHERE (a.attnotnull OR t.typtype = 'd' AND t.typnotnull) AND NOT a.atthasdef AND t.typdefault IS NULL
          AND a.attidentity = '' AND NOT EXISTS (
                SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary
                                                    AND a.attnum = ANY (i.indkey::pg_catalog.int2[]))
       UNION ALL
       SELECT 'is an identity column: both sides would hand out the same ids' WHERE a.attidentity <> ''
       UNION ALL
       SELECT 'has its default from sequence ' || s.relname || ': both sides would hand out the same ids'
         FROM pg_catalog.pg_attrdef f JOIN pg_catalog.pg_depend d
           ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = f.oid
          AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
         JOIN pg_catalog.pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
        WHERE f.adrelid = a.attrelid AND f.adnum = a.attnum
       UNION ALL
       SELECT CASE WHEN i.indisprimary THEN 'is in the primary key' WHEN i.indisreplident THEN 'is in the replica identity'
                   WHEN i.indisexclusion THEN 'is in the exclusion constraint ' || x.relname
                   ELSE 'is in the unique index ' || x.relname END
         FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
        WHERE i.indrelid = a.attrelid AND (i.indisunique OR i.indisexclusion) AND NOT x.relispartition
          AND (a.attnum = ANY (i.indkey::pg_catalog.int2[]) OR EXISTS (
                 SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = i.indexrelid
                    AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = a.attrelid
                    AND d.refobjsubid = a.attnum))
       UNION ALL
       SELECT 'is in the partition key'
        WHERE c.relkind = 'p' AND EXISTS (
              SELECT FROM pg_catalog.pg_depend d
               WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = a.attrelid
                 AND d.objsubid = a.attnum AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                 AND d.refobjid = a.attrelid AND d.refobjsubid = 0 AND d.deptype = 'i')
       UNION ALL
       SELECT 'is what generated column ' || g.attname || ' is computed from'
         FROM pg_catalog.pg_attribute g
        WHERE g.attrelid = a.attrelid AND g.attgenerated <> '' AND g.attnum <> a.attnum AND EXISTS (
              SELECT FROM pg_catalog.pg_depend d LEFT JOIN pg_catalog.pg_attrdef f
                  ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND f.oid = d.objid
               WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = a.attrelid
                 AND d.refobjsubid = a.attnum
                 AND (f.adrelid = a.attrelid AND f.adnum = g.attnum
                      OR d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = a.attrelid
                         AND d.objsubid = g.attnum))
       UNION ALL
       SELECT CASE k.contype WHEN 'f' THEN 'is in the foreign key ' ELSE 'is in the CHECK constraint ' END || k.conname
         FROM pg_catalog.pg_constraint k
        WHERE k.conrelid = a.attrelid AND k.contype IN ('f', 'c') AND k.conparentid = 0
          AND (k.contype = 'f' OR k.coninhcount = 0) AND a.attnum = ANY (k.conkey)
     ) needs(why)
     ORDER BY 1, 2, needs.why LIKE 'is NOT NULL%', 3)",
                      postgres::Params{postgres::array_literal(oids), postgres::array_literal(numbers)});
  std::vector<ColumnNeed> needs;
  for (int i = 0; i < rows.rows(); ++i) {
    needs.push_back({rows.text(i, 0), rows.text(i, 1), rows.text(i, 2)});
  }
  return needs;
}

}  // namespace replication::catalog

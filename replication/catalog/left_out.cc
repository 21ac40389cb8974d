#include "replication/catalog/left_out.h"

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

}  // namespace replication::catalog

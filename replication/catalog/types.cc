#include "replication/catalog/types.h"

#include <algorithm>
#include <array>
#include <utility>

namespace replication::catalog {
namespace {

// Built-in types by their fixed OIDs (pg_type.dat). Left out on purpose: oid and reg* (their values are OIDs
// of one server), money (its scale is a setting), xml (its encoding travels inside), everything composite or
// of extensions.
constexpr std::array kBinarySafe = std::to_array<base::Oid>({
    16,                          // bool
    17,                          // bytea
    18,   19,                    // "char", name
    20,   21,   23,              // int8, int2, int4
    25,   1042, 1043,            // text, bpchar, varchar
    114,  3802,                  // json, jsonb
    600,  601,  602,  603, 604,  // point, lseg, path, box, polygon
    628,  718,                   // line, circle
    650,  869,                   // cidr, inet
    700,  701,  1700,            // float4, float8, numeric
    774,  829,                   // macaddr8, macaddr
    1082, 1083, 1266,            // date, time, timetz
    1114, 1184, 1186,            // timestamp, timestamptz, interval
    1560, 1562,                  // bit, varbit
    2950,                        // uuid
});

// A composite may hold an array of itself through a table's row type; deeper than this is taken as "no".
constexpr int kDepthMax = 32;

}  // namespace

bool portable_binary(char kind, base::Oid type, base::Oid element) {
  return kind == 'e' || std::ranges::find(kBinarySafe, element != 0 ? element : type) != kBinarySafe.end();
}

void Types::add(Type type) {
  types_.insert_or_assign(type.oid, std::move(type));
}

const Type* Types::find(base::Oid type) const {
  const auto found = types_.find(type);
  return found == types_.end() ? nullptr : &found->second;
}

bool Types::binary_safe(base::Oid type) const {
  const Type* t = find(type);
  for (int depth = 0; t != nullptr && t->kind == 'd' && depth < kDepthMax; ++depth)
    t = find(t->base_type);
  if (t == nullptr || t->kind == 'd')
    return false;
  return portable_binary(t->kind, t->oid, t->element);
}

bool Types::has_equality(base::Oid type) const {
  return has_equality(type, 0);
}

bool Types::has_equality(base::Oid type, int depth) const {
  const Type* t = find(type);
  if (t == nullptr || depth > kDepthMax)
    return false;
  if (t->operator_class)
    return true;
  switch (t->kind) {
    case 'd':
      return has_equality(t->base_type, depth + 1);
    case 'e':
    case 'r':
    case 'm':
      return true;  // anyenum, anyrange (whose subtype needs a btree class anyway), anymultirange
    case 'c':
      // record_eq looks every column's operator up at run time and fails where one has none.
      return std::ranges::all_of(t->attributes, [&](base::Oid a) { return has_equality(a, depth + 1); });
    default:
      return t->element != 0 && has_equality(t->element, depth + 1);
  }
}

Types load_types(postgres::Connection& connection, const std::string& tables_cte) {
  // typlen = -1 with typelem is a true array; fixed-length ones with typelem (name, point) are not.
  // int2vector and oidvector are the exceptions, caught by the array type's own back reference.
  // A range depends on its subtype, a multirange on its range (13 and earlier have none); those of built-in
  // types aren't noted, and never change.
  const std::string of_range = R"(
    SELECT d.refobjid FROM pg_catalog.pg_depend d
     WHERE t.typtype IN ('r', 'm') AND d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid = t.oid
       AND d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass)";
  const std::string sql = "WITH RECURSIVE " + tables_cte + R"(, used AS (
      SELECT DISTINCT a.atttypid AS oid
        FROM tables JOIN pg_catalog.pg_attribute a ON a.attrelid = tables.oid
       WHERE a.attnum > 0 AND NOT a.attisdropped
      UNION
      SELECT part.oid FROM used JOIN pg_catalog.pg_type t ON t.oid = used.oid
        CROSS JOIN LATERAL (
          SELECT t.typbasetype AS oid WHERE t.typtype = 'd'
          UNION ALL SELECT e.oid FROM pg_catalog.pg_type e WHERE e.oid = t.typelem AND e.typarray = t.oid
          UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
                     WHERE a.attrelid = t.typrelid AND t.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped
          UNION ALL )" + of_range +
                          R"(
        ) part
    ), comparable AS (
      SELECT opcintype AS oid FROM pg_catalog.pg_opclass
       WHERE opcdefault AND opcmethod IN (SELECT oid FROM pg_catalog.pg_am WHERE amname IN ('btree', 'hash'))
    )
    SELECT t.oid, n.nspname || '.' || t.typname, t.typtype, t.typbasetype,
           coalesce((SELECT e.oid FROM pg_catalog.pg_type e WHERE e.oid = t.typelem AND e.typarray = t.oid), 0),
           t.oid IN (SELECT oid FROM comparable)
             OR EXISTS (SELECT FROM pg_catalog.pg_cast k WHERE k.castsource = t.oid AND k.castmethod = 'b'
                           AND k.castcontext = 'i' AND k.casttarget IN (SELECT oid FROM comparable)),
           coalesce((SELECT pg_catalog.string_agg(part.oid::text, ' ' ORDER BY part.place, part.oid) FROM (
                       SELECT a.atttypid, a.attnum FROM pg_catalog.pg_attribute a
                        WHERE a.attrelid = t.typrelid AND t.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped
                       UNION ALL SELECT r.refobjid, 0 FROM ()" +
                          of_range + R"() r) part(oid, place)), ''),
           CASE t.typtype
             WHEN 'e' THEN (SELECT pg_catalog.string_agg(pg_catalog.quote_literal(enumlabel), ',' ORDER BY enumsortorder)
                              FROM pg_catalog.pg_enum WHERE enumtypid = t.oid)
             WHEN 'c' THEN (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname) || ' ' || a.attnum || ' ' || a.atttypid || ' ' || a.atttypmod,
                                              ',' ORDER BY a.attnum)
                              FROM pg_catalog.pg_attribute a
                             WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped)
             WHEN 'd' THEN t.typnotnull::text || ' ' || t.typtypmod::text
           END
      FROM used JOIN pg_catalog.pg_type t ON t.oid = used.oid
      JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace)";
  const postgres::Result rows = connection.exec(sql);
  Types types;
  for (int i = 0; i < rows.rows(); ++i) {
    Type type;
    type.oid = rows.oid(i, 0);
    type.name = rows.text(i, 1);
    type.kind = rows.view(i, 2).at(0);
    type.base_type = rows.oid(i, 3);
    type.element = rows.oid(i, 4);
    type.operator_class = rows.boolean(i, 5);
    const std::string attributes = rows.text(i, 6);
    for (std::size_t at = 0; at < attributes.size();) {
      const std::size_t end = std::min(attributes.find(' ', at), attributes.size());
      type.attributes.push_back(static_cast<base::Oid>(std::stoul(attributes.substr(at, end - at))));
      at = end + 1;
    }
    type.detail = rows.text_or(i, 7, "");
    types.add(std::move(type));
  }
  return types;
}

}  // namespace replication::catalog

// The types that columns use: what their binary form depends on, whether two values can be compared.
//
// Pure data after loading; internal to this room. Binary forms follow the typsend functions of PostgreSQL's
// src/backend/utils/adt; default operator classes follow GetDefaultOpClass (commands/indexcmds.c).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "replication/base/lsn.h"
#include "replication/postgres/connection.h"

namespace replication::catalog {

struct Type {
  base::Oid oid = 0;
  std::string name = {};    // "schema.name": for the fingerprint
  char kind = 'b';          // pg_type.typtype: b base, c composite, d domain, e enum, r range, m multirange
  base::Oid base_type = 0;  // of a domain
  base::Oid element = 0;    // of a true array
  bool operator_class = false;  // it, or a type it is binary-coercible to, has a default btree or hash one
  std::vector<base::Oid> attributes = {};  // types of a composite's columns; of a range, what it is made of
  std::string detail = {};  // enum labels, composite columns, domain's NOT NULL: for the fingerprint
};

class Types {
 public:
  void add(Type type);
  // The value's binary form is the same on every server: a built-in type of the allow-list, an array of such
  // (the header holds the element's OID, which is fixed for built-in types only), an enum (sent as its
  // label), or a domain over one of these (it has its base type's send function).
  bool binary_safe(base::Oid type) const;
  bool has_equality(base::Oid type) const;
  const std::map<base::Oid, Type>& all() const { return types_; }

 private:
  const Type* find(base::Oid type) const;
  bool has_equality(base::Oid type, int depth) const;
  std::map<base::Oid, Type> types_;
};

// The rule behind it, for a type that is no domain: pg_type.typtype, its OID, and its element's where it is a
// true array (else 0).
bool portable_binary(char kind, base::Oid type, base::Oid element);

// The types behind the columns selected by `tables_cte` (a CTE named `tables` with one column `oid`), with
// those they are made of.
Types load_types(postgres::Connection& connection, const std::string& tables_cte);

}  // namespace replication::catalog

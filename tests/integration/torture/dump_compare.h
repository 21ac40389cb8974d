// Two databases compared from outside: what pg_dump says of each, and the rows by SQL of our own. Nothing of
// the product is used, so that a mistake there can't hide itself.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/harness/cluster.h"

namespace torture {

// The entries of a plain dump of the schema, by their header ("customer; Type: TABLE; Schema: app; Owner:
// x"). What depends on nothing is taken out; with `any_version` also what another version writes down
// differently.
using Dump = std::map<std::string, std::string>;
// Roles by another name, to be replaced in the text of a dump, wherever it stands: {old: new}.
using Renamed = std::map<std::string, std::string>;
Dump dump_schema(const harness::Cluster& cluster, const std::string& database, bool any_version,
                 const Renamed& roles = {});

// "missing: HEADER", "extra: HEADER", "HEADER\n  source: LINE\n  target: LINE" for every entry that isn't
// equal.
std::vector<std::string> differences(const Dump& source, const Dump& target);

// Every table and materialized view with its number of rows and a hash over them; large objects with content,
// owner, rights and comment; roles with attributes, verifiers, memberships, settings and comments; what a
// dump doesn't show.
Dump contents(const harness::Cluster& cluster, const std::string& database, const Renamed& roles = {});

std::string joined(const std::vector<std::string>& lines);

}  // namespace torture

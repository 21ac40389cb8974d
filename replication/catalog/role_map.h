// The names that roles of one server have on the other, where they differ.
//
// One to one, and applied at once: with {a: b, b: c} the a of here is the b of there, never its c. Two roles
// that became one could not be told apart again: not the owners of large objects on the way back, nor whom a
// policy or a right was meant for. So a name that another role is mapped to is nobody's by itself.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace replication::catalog {

class RoleMap {
 public:
  RoleMap() = default;
  // Throws UsageError where two roles would become one, or a name can't be a role's.
  explicit RoleMap(std::map<std::string, std::string> names);

  bool empty() const { return names_.empty(); }
  const std::map<std::string, std::string>& names() const { return names_; }
  // The name there; nothing for a role whose name is another one's there.
  std::optional<std::string> find(const std::string& name) const;
  // The same; throws an Error that names both.
  std::string at(const std::string& name) const;
  RoleMap inverse() const;

  // For SQL, two text[] values of one length: names that are others there, and what they are; '' for nobody.
  std::pair<std::string, std::string> arrays() const;
  // As a text[] value of pairs, for a record of ours; and back from its elements.
  std::string flat() const;
  static RoleMap from_flat(const std::vector<std::string>& names);

  // "app is app_prod, \"old one\" is new"
  std::string text() const;
  bool operator==(const RoleMap&) const = default;

 private:
  std::map<std::string, std::string> names_;  // to another name each
  std::map<std::string, std::string> back_;
};

}  // namespace replication::catalog

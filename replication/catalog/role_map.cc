#include "replication/catalog/role_map.h"

#include "replication/base/error.h"
#include "replication/postgres/quote.h"

namespace replication::catalog {
namespace {

constexpr std::size_t kNameBytesMax = 63;  // NAMEDATALEN - 1: PostgreSQL cuts off what is longer

void require_name(const std::string& name) {
  if (name.empty() || name.size() > kNameBytesMax) {
    throw base::UsageError(name.empty() ? "a role's name is empty" : "no role can be called '" + name + "'",
                           "give a name of 1 to 63 bytes");
  }
  if (name == "public" || name == "PUBLIC" || name == "none") {
    throw base::UsageError("'" + name + "' is no role: it means everybody or nobody, here and there",
                           "leave it out");
  }
}

}  // namespace

RoleMap::RoleMap(std::map<std::string, std::string> names) : names_(std::move(names)) {
  for (const auto& [here, there] : names_) {
    require_name(here);
    require_name(there);
    if (const auto [twin, fresh] = back_.emplace(there, here); !fresh) {
      throw base::UsageError("the roles " + twin->second + " and " + here + " would both be " + there,
                             "map one of them, and let the other keep a name of its own: what belongs to "
                             "either couldn't be told "
                             "apart on the way back. After `finish`: REASSIGN OWNED BY ... TO ...");
    }
  }
  for (auto* one : {&names_, &back_}) {  // said twice is as good as not said
    std::erase_if(*one, [](const auto& pair) { return pair.first == pair.second; });
  }
}

std::optional<std::string> RoleMap::find(const std::string& name) const {
  if (const auto found = names_.find(name); found != names_.end()) {
    return found->second;
  }
  return back_.contains(name) ? std::nullopt : std::optional(name);
}

std::string RoleMap::at(const std::string& name) const {
  auto found = find(name);
  if (!found) {
    throw base::Error("role " + name + " can't be brought to the other side: its name is that of " +
                          back_.at(name) + " there",
                      "map " + name + " to another name too: roles: {map: {...}}");
  }
  return *std::move(found);
}

RoleMap RoleMap::inverse() const {
  return RoleMap(back_);
}

std::pair<std::string, std::string> RoleMap::arrays() const {
  std::vector<std::string> here, there;
  for (const auto& [name, other] : names_) {
    here.push_back(name);
    there.push_back(other);
  }
  for (const auto& [name, unused] : back_) {
    if (!names_.contains(name)) {
      here.push_back(name);
      there.emplace_back();
    }
  }
  return {postgres::array_literal(here), postgres::array_literal(there)};
}

std::string RoleMap::flat() const {
  std::vector<std::string> all;
  for (const auto& [here, there] : names_) {
    all.push_back(here);
    all.push_back(there);
  }
  return postgres::array_literal(all);
}

RoleMap RoleMap::from_flat(const std::vector<std::string>& names) {
  std::map<std::string, std::string> pairs;
  for (std::size_t i = 0; i + 1 < names.size(); i += 2) {
    pairs.emplace(names[i], names[i + 1]);
  }
  return RoleMap(std::move(pairs));
}

std::string RoleMap::text() const {
  std::string text;
  for (const auto& [here, there] : names_) {
    text += (text.empty() ? "" : ", ") + postgres::quote_identifier(here) + " is " +
            postgres::quote_identifier(there);
  }
  return text;
}

}  // namespace replication::catalog

#include "replication/snapshot/large_objects.h"

#include <algorithm>
#include <future>
#include <span>
#include <tuple>
#include <utility>

#include "replication/base/error.h"
#include "replication/base/log.h"
#include "replication/catalog/roles.h"
#include "replication/postgres/params.h"
#include "replication/postgres/quote.h"
#include "replication/postgres/transaction.h"

namespace replication::snapshot {
namespace {

using postgres::Connection;
using postgres::Params;
using postgres::Transaction;

constexpr std::int64_t kSliceBytes = 256 * 1024;  // 512 KiB as hex on the wire
constexpr std::size_t kObjectsPerLook = 500;
constexpr std::size_t kObjectsPerCommit = 100;
constexpr std::int64_t kNewBytes = std::int64_t{1} << 20;
constexpr std::int64_t kBytesPerCommit = std::int64_t{16} << 20;
constexpr base::Oid kOidMax = 0xFFFF'FFFF;
constexpr const char* kSnapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

struct Object {
  base::Oid oid = 0;
  std::string owner, rights;  // rights: grants to others than the owner, as one comparable text
  std::optional<std::string> comment;
  std::int64_t first_bytes = 0;  // of the first slice; a full one means that there may be more
  std::string first_hash;
  bool may_be_long() const { return first_bytes == kSliceBytes; }
};

// What a statement is told about names: the roles that the target has, and which name of this side is another
// one there.
struct Names {
  explicit Names(const std::vector<std::string>& known, const catalog::RoleMap& map)
      : roles(postgres::array_literal(known)) {
    std::tie(here, there) = map.arrays();
  }
  std::string roles, here, there;  // text[] values
};

// SQL: the target's name of a role, empty for one that it can't have; $a and $b are the map's arrays.
std::string name_there(const std::string& role, int a, int b) {
  const auto parameter = [](int number) { return "$" + std::to_string(number) + "::text[]"; };
  return "coalesce((SELECT m.there FROM unnest(" + parameter(a) + ", " + parameter(b) +
         ") m(here, there) WHERE m.here = " + role + "), " + role + ")";
}

// `which`: a condition on oid, and how many. With the target's names; grants to roles that it hasn't don't
// count.
std::vector<Object> look_at(Connection& connection, const std::string& which, const Names& names,
                            base::Deadline deadline) {
  Params params;
  params.integer(kSliceBytes).text(std::string_view(names.roles));
  params.text(std::string_view(names.here)).text(std::string_view(names.there));
  const auto rows = connection.exec(
      "SELECT oid, " + name_there("pg_catalog.pg_get_userbyid(lomowner)::text", 3, 4) +
          ", octet_length(d), encode(sha256(d), 'hex'), "
          "coalesce((SELECT string_agg(g.what || ' ' || g.who, ', ' ORDER BY g.what COLLATE \"C\", g.who "
          "COLLATE \"C\") FROM (SELECT a.privilege_type || CASE WHEN a.is_grantable THEN '*' ELSE '' END AS "
          "what, CASE a.grantee WHEN 0 THEN '-' ELSE " +
          name_there("r.rolname::text", 3, 4) +
          " END AS who FROM aclexplode(lomacl) a LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee"
          "  WHERE a.grantee <> lomowner) g WHERE g.who = '-' OR g.who = ANY ($2::text[])), ''), "
          "pg_catalog.obj_description(oid, 'pg_largeobject') "
          "FROM (SELECT oid, lomowner, lomacl, lo_get(oid, 0, $1::int) AS d FROM "
          "pg_catalog.pg_largeobject_metadata WHERE " +
          which + ") o ORDER BY oid",
      params, deadline);
  std::vector<Object> objects;
  for (int row = 0; row < rows.rows(); ++row) {
    objects.push_back({rows.oid(row, 0), rows.text(row, 1), rows.text(row, 4), rows.optional_text(row, 5),
                       rows.integer(row, 2), rows.text(row, 3)});
  }
  return objects;
}

// Hash of the slice at `offset`; empty behind the end.
std::string slice_hash(Connection& connection, base::Oid oid, std::int64_t offset, base::Deadline deadline) {
  Params params;
  params.integer(oid).integer(offset).integer(kSliceBytes);
  const auto row = connection.exec(
      "SELECT octet_length(d), encode(sha256(d), 'hex') FROM (SELECT lo_get($1::bigint::oid, $2::bigint, "
      "$3::int) AS d) s",
      params, deadline);
  return row.integer(0, 0) == 0 ? "" : row.text(0, 1);
}

bool same_content(Connection& source, Connection& target, const Object& a, const Object& b,
                  base::Deadline deadline) {
  if (a.first_hash != b.first_hash) {
    return false;
  }
  for (std::int64_t offset = kSliceBytes; a.may_be_long(); offset += kSliceBytes) {
    const auto hash = slice_hash(source, a.oid, offset, deadline);
    if (hash != slice_hash(target, a.oid, offset, deadline)) {
      return false;
    }
    if (hash.empty()) {
      break;
    }
  }
  return true;
}

std::int64_t copy_content(Connection& source, Connection& target, base::Oid oid, bool exists,
                          base::Deadline deadline) {
  if (exists) {
    target.exec("SELECT lo_unlink($1::bigint::oid)", Params().integer(oid), deadline);
  }
  target.exec("SELECT lo_create($1::bigint::oid)", Params().integer(oid), deadline);
  for (std::int64_t offset = 0;; offset += kSliceBytes) {
    Params read;
    read.integer(oid).integer(offset).integer(kSliceBytes);
    const auto slice = source.exec("SELECT lo_get($1::bigint::oid, $2::bigint, $3::int)", read, deadline);
    const auto hex = slice.view(0, 0);  // \x and two digits a byte
    const auto bytes = (static_cast<std::int64_t>(hex.size()) - 2) / 2;
    if (bytes > 0) {
      Params write;
      write.integer(oid).integer(offset).typed_text_view(hex, 17);  // bytea
      target.exec("SELECT lo_put($1::bigint::oid, $2::bigint, $3)", write, deadline);
    }
    if (bytes < kSliceBytes) {
      return offset + bytes;
    }
  }
}

// (privilege, the target's name of who has it, quoted, with the right to grant it)
postgres::Result grants(Connection& connection, base::Oid oid, const Names& names, base::Deadline deadline) {
  return connection.exec(
      "SELECT g.privilege_type, CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(g.who) END, "
      "g.is_grantable "
      "FROM (SELECT a.*, " +
          name_there("r.rolname::text", 3, 4) +
          " AS who FROM pg_catalog.pg_largeobject_metadata m CROSS JOIN aclexplode(m.lomacl) a "
          "LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee "
          "WHERE m.oid = $1::bigint::oid AND a.grantee <> m.lomowner) g WHERE g.grantee = 0 OR g.who = ANY "
          "($2::text[])",
      Params()
          .integer(oid)
          .text(std::string_view(names.roles))
          .text(std::string_view(names.here))
          .text(std::string_view(names.there)),
      deadline);
}

void copy_rights_and_comment(Connection& source, Connection& target, const Object& object,
                             const Names& of_source, const Names& of_target, bool owner_known,
                             base::Deadline deadline) {
  const auto name = "LARGE OBJECT " + std::to_string(object.oid);
  const auto before = grants(target, object.oid, of_target, deadline);
  for (int row = 0; row < before.rows(); ++row) {
    target.exec("REVOKE ALL ON " + name + " FROM " + before.text(row, 1), deadline);
  }
  const auto wanted = grants(source, object.oid, of_source, deadline);
  for (int row = 0; row < wanted.rows(); ++row) {
    target.exec("GRANT " + wanted.text(row, 0) + " ON " + name + " TO " + wanted.text(row, 1) +
                    (wanted.boolean(row, 2) ? " WITH GRANT OPTION" : ""),
                deadline);
  }
  if (owner_known) {
    target.exec("ALTER " + name + " OWNER TO " + postgres::quote_identifier(object.owner), deadline);
  }
  target.exec("COMMENT ON " + name + " IS " +
                  (object.comment ? postgres::quote_literal(*object.comment) : std::string("NULL")),
              deadline);
}

std::vector<std::string> known_roles(Connection& target) {
  const auto names = catalog::role_names(target);
  return {names.begin(), names.end()};
}

class Refresh {
 public:
  Refresh(Connection& source, Connection& target, const catalog::RoleMap& map, base::Deadline deadline,
          bool write)
      : source_(source),
        target_(target),
        deadline_(deadline),
        write_(write),
        roles_(known_roles(target)),
        of_source_(roles_, map),
        of_target_(roles_, {}) {}

  std::vector<base::Oid> all() {
    base::Oid after = 0;
    for (bool more = true; more;) {
      const auto behind = "oid > " + literal(after);
      const auto ours = look_at(source_, behind + " ORDER BY oid LIMIT " + std::to_string(kObjectsPerLook),
                                of_source_, deadline_);
      more = ours.size() == kObjectsPerLook;
      const auto last = more ? ours.back().oid : kOidMax;
      merge(ours, look_at(target_, behind + " AND oid <= " + literal(last), of_target_, deadline_));
      after = last;
    }
    commit();
    return std::move(touched_);
  }

  std::vector<base::Oid> in_buckets(const std::vector<base::Oid>& buckets) {
    auto objects = objects_in(source_, buckets);
    const auto theirs = objects_in(target_, buckets);
    objects.insert(objects.end(), theirs.begin(), theirs.end());
    std::ranges::sort(objects);
    const auto doubles = std::ranges::unique(objects);
    objects.erase(doubles.begin(), doubles.end());
    for (std::size_t at = 0; at < objects.size(); at += kObjectsPerLook) {
      const auto count = std::min(kObjectsPerLook, objects.size() - at);
      const auto which = "oid = ANY (" + array({objects.data() + at, count}) + "::oid[])";
      const auto ours = look_at(source_, which, of_source_, deadline_);
      merge(ours, look_at(target_, which, of_target_, deadline_));
    }
    commit();
    return std::move(touched_);
  }

 private:
  static std::string literal(base::Oid oid) { return "'" + std::to_string(oid) + "'::oid"; }
  static std::string array(std::span<const base::Oid> oids) {
    std::string text;
    for (const auto oid : oids) {
      text += (text.empty() ? "'{" : ",") + std::to_string(oid);
    }
    return text.empty() ? "'{}'" : text + "}'";
  }
  std::vector<base::Oid> objects_in(Connection& connection, const std::vector<base::Oid>& buckets) const {
    const auto rows =
        connection.exec("SELECT oid FROM pg_catalog.pg_largeobject_metadata WHERE oid::bigint % " +
                            std::to_string(LargeObjectVersions::kBuckets) + " IN (SELECT unnest(" +
                            array(buckets) + "::bigint[]))",
                        deadline_);
    std::vector<base::Oid> objects;
    for (int row = 0; row < rows.rows(); ++row) {
      objects.push_back(rows.oid(row, 0));
    }
    return objects;
  }

  void merge(const std::vector<Object>& ours, const std::vector<Object>& theirs) {
    auto their = theirs.begin();
    for (const auto& our : ours) {
      for (; their != theirs.end() && their->oid < our.oid; ++their) {
        remove(their->oid);
      }
      const bool exists = their != theirs.end() && their->oid == our.oid;
      settle(our, exists ? &*their++ : nullptr);
    }
    for (; their != theirs.end(); ++their) {
      remove(their->oid);
    }
  }

  void settle(const Object& our, const Object* their) {
    const bool owner_known = std::find(roles_.begin(), roles_.end(), our.owner) != roles_.end();
    const bool content = their == nullptr || !same_content(source_, target_, our, *their, deadline_);
    const bool rights = content || our.rights != their->rights || our.comment != their->comment ||
                        (owner_known && our.owner != their->owner);
    if (!rights) {
      return;
    }
    touched_.push_back(our.oid);
    if (!write_) {
      return;
    }
    if (!owner_known) {
      base::log::warn(
          "large object " + std::to_string(our.oid) + ": its owner " +
          (our.owner.empty() ? "has a name that is another role's there" : our.owner + " isn't there") +
          ", ours keeps it");
    }
    if (their == nullptr && !our.may_be_long()) {
      new_.push_back(our);
      new_bytes_ += our.first_bytes;
      if (new_.size() >= kObjectsPerCommit || new_bytes_ >= kNewBytes) {
        make_new();
      }
      return;
    }
    begin();
    if (content) {
      bytes_ += copy_content(source_, target_, our.oid, their != nullptr, deadline_);
    }
    copy_rights_and_comment(source_, target_, our, of_source_, of_target_, owner_known, deadline_);
    count();
  }
  // Small ones that the target lacks, in a few statements for all of them.
  void make_new() {
    const auto objects = std::exchange(new_, {});
    new_bytes_ = 0;
    if (objects.empty()) {
      return;
    }
    begin();
    std::vector<base::Oid> oids;
    for (const auto& object : objects) {
      oids.push_back(object.oid);
    }
    const auto list = array(oids) + "::oid[]";
    const auto rows = source_.exec("SELECT oid, lo_get(oid) FROM unnest(" + list + ") oid", deadline_);
    std::vector<std::string> numbers, contents;
    for (int row = 0; row < rows.rows(); ++row) {
      numbers.push_back(rows.text(row, 0));
      contents.push_back(rows.text(row, 1));
      bytes_ += (static_cast<std::int64_t>(contents.back().size()) - 2) / 2;
    }
    target_.exec(
        "SELECT count(lo_from_bytea(made.oid, made.bytes)) FROM unnest($1::oid[], $2::bytea[]) made(oid, "
        "bytes)",
        Params{postgres::array_literal(numbers), postgres::array_literal(contents)}, deadline_);
    // From default privileges, from 18 on.
    const auto granted = target_.exec(
        "SELECT oid FROM pg_catalog.pg_largeobject_metadata WHERE lomacl IS NOT NULL AND oid = ANY (" + list +
            ")",
        deadline_);
    std::set<base::Oid> with_rights;
    for (int row = 0; row < granted.rows(); ++row) {
      with_rights.insert(granted.oid(row, 0));
    }
    std::string owners;
    for (const auto& object : objects) {
      const bool known = std::ranges::find(roles_, object.owner) != roles_.end();
      if (!object.rights.empty() || object.comment || with_rights.contains(object.oid)) {
        copy_rights_and_comment(source_, target_, object, of_source_, of_target_, known, deadline_);
      } else if (known && object.owner != target_.user()) {
        owners += "ALTER LARGE OBJECT " + std::to_string(object.oid) + " OWNER TO " +
                  postgres::quote_identifier(object.owner) + ";";
      }
      ++uncommitted_;
    }
    if (!owners.empty()) {
      target_.exec(owners, deadline_);
    }
    if (uncommitted_ >= kObjectsPerCommit || bytes_ >= kBytesPerCommit) {
      commit();
    }
  }
  void remove(base::Oid oid) {
    touched_.push_back(oid);
    if (!write_) {
      return;
    }
    begin();
    target_.exec("SELECT lo_unlink($1::bigint::oid)", Params().integer(oid), deadline_);
    count();
  }

  void begin() {
    if (!transaction_) {
      transaction_.emplace(target_);
    }
  }
  void count() {
    if (++uncommitted_ >= kObjectsPerCommit || bytes_ >= kBytesPerCommit) {
      commit();
    }
  }
  void commit() {
    make_new();
    if (transaction_) {
      transaction_->commit_or_throw();  // done twice is as good as once: compared again next time
      transaction_.reset();
    }
    uncommitted_ = 0;
    bytes_ = 0;
  }

  Connection& source_;
  Connection& target_;
  const base::Deadline deadline_;
  const bool write_;
  // Rights of roles that the target doesn't have can't be given there.
  const std::vector<std::string> roles_;
  const Names of_source_, of_target_;
  std::optional<Transaction> transaction_;
  std::vector<base::Oid> touched_;
  std::int64_t bytes_ = 0;
  std::size_t uncommitted_ = 0;
  std::vector<Object> new_;  // that are made together
  std::int64_t new_bytes_ = 0;
};

bool can_see_versions(Connection& connection) {
  return connection.one_value("SELECT has_table_privilege('pg_catalog.pg_largeobject', 'SELECT')") == "t";
}

// An UPDATE in place keeps a version and changes its row: PostgreSQL does that in pg_class and pg_database
// only. The sums are of 32 bits each, so that they can't overflow and need no numeric.
LargeObjectVersions versions_of(Connection& connection, base::Deadline deadline) {
  LargeObjectVersions versions;
  versions.place = connection.one_value(
      "SELECT pg_postmaster_start_time() || ' ' || md5(string_agg(oid || ' ' || rolname, ',' ORDER BY oid)) "
      "FROM pg_catalog.pg_roles");
  const auto part = [](const std::string& oid, const std::string& table, int number) {
    return "SELECT " + oid + "::bigint % " + std::to_string(LargeObjectVersions::kBuckets) +
           " AS bucket, hashtextextended(ctid::text, xmin::text::bigint + (" + std::to_string(number) +
           "::bigint << 32)) AS hash FROM pg_catalog." + table;
  };
  const auto rows = connection.exec(
      "SELECT bucket, count(*), sum((hash >> 32)::int), sum((hash & 2147483647)::int) FROM (" +
          part("loid", "pg_largeobject", 0) + " UNION ALL " + part("oid", "pg_largeobject_metadata", 1) +
          " UNION ALL " + part("objoid", "pg_description", 2) +
          " WHERE classoid = 'pg_catalog.pg_largeobject'::regclass) version GROUP BY bucket",
      deadline);
  versions.buckets.resize(LargeObjectVersions::kBuckets);
  for (int row = 0; row < rows.rows(); ++row) {
    versions.buckets[static_cast<std::size_t>(rows.integer(row, 0))] = {
        rows.integer(row, 1), rows.integer(row, 2), rows.integer(row, 3)};
  }
  return versions;
}

}  // namespace

// Nothing: all of them.
std::optional<std::vector<base::Oid>> LargeObjects::buckets_to_compare(
    const LargeObjectVersions& source, const LargeObjectVersions& target) const {
  if (!source_ || source_->place != source.place || target_->place != target.place) {
    return std::nullopt;
  }
  std::vector<base::Oid> buckets;
  for (base::Oid bucket = 0; bucket < LargeObjectVersions::kBuckets; ++bucket) {
    if (source.buckets[bucket] != source_->buckets[bucket] ||
        target.buckets[bucket] != target_->buckets[bucket] || different_.contains(bucket)) {
      buckets.push_back(bucket);
    }
  }
  return buckets;
}

std::vector<base::Oid> LargeObjects::look(Connection& source, Connection& target, base::Deadline deadline,
                                          bool write) {
  if (!can_see_versions(source) || !can_see_versions(target)) {
    source_.reset();
    const Transaction snapshot(source, kSnapshot);
    return Refresh(source, target, roles_, deadline, write).all();
  }
  // Both before anything is compared, the source's in the snapshot that is: who changes an object later on
  // makes a version that isn't in them.
  const Transaction snapshot(source, kSnapshot);
  auto there = std::async(std::launch::async, [&] { return versions_of(target, deadline); });
  auto here = versions_of(source, deadline);
  auto theirs = there.get();
  const auto buckets = buckets_to_compare(here, theirs);
  Refresh refresh(source, target, roles_, deadline, write);
  auto touched = buckets ? refresh.in_buckets(*buckets) : refresh.all();
  // What was written here has versions that `theirs` doesn't have: it is compared once more.
  different_.clear();
  for (const auto oid : touched) {
    if (!write) {
      different_.insert(LargeObjectVersions::bucket(oid));
    }
  }
  source_ = std::move(here);
  target_ = std::move(theirs);
  return touched;
}

std::vector<base::Oid> LargeObjects::refresh(Connection& source, Connection& target,
                                             base::Deadline deadline) {
  return look(source, target, deadline, true);
}

std::vector<base::Oid> LargeObjects::changed(Connection& source, Connection& target,
                                             base::Deadline deadline) {
  return look(source, target, deadline, false);
}

}  // namespace replication::snapshot

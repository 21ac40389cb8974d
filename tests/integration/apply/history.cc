#include "tests/integration/apply/history.h"

namespace apply_stage {

const std::vector<std::string>& History::tables() {
  static const std::vector<std::string> names{"keyed", "keyed_full", "indexed", "keyless", "only_inserts"};
  return names;
}

// `u` changes hands between rows; `big` is stored out of line, uncompressed, so that an update that leaves it
// alone doesn't send it.
std::string History::create_tables() {
  std::string sql;
  for (const std::string table : {"keyed", "keyed_full"}) {
    sql += "CREATE TABLE " + table +
           " (id int PRIMARY KEY, u int UNIQUE, n numeric, big text, small text, CHECK (n > -1000));"
           "ALTER TABLE " +
           table + " ALTER big SET STORAGE EXTERNAL;";
  }
  sql +=
      "ALTER TABLE keyed_full REPLICA IDENTITY FULL;"
      "CREATE TABLE indexed (big text, k text NOT NULL, id int PRIMARY KEY, l numeric NOT NULL);"
      "ALTER TABLE indexed ALTER big SET STORAGE EXTERNAL;"
      "CREATE UNIQUE INDEX indexed_kl ON indexed (k, l);"
      "ALTER TABLE indexed REPLICA IDENTITY USING INDEX indexed_kl;"
      "CREATE TABLE keyless (a int, big text, j json); ALTER TABLE keyless REPLICA IDENTITY FULL;"
      "ALTER TABLE keyless ALTER big SET STORAGE EXTERNAL;"
      "CREATE TABLE only_inserts (a int, b text); ALTER TABLE only_inserts REPLICA IDENTITY NOTHING;";
  return sql;
}

std::string History::text() {
  switch (pick(5)) {
    case 0:
      return "NULL";
    case 1:
      return "''";
    case 2:
      return "repeat('" + std::string(1, static_cast<char>('a' + pick(20))) + "', 3000)";
    default:
      return "'t" + number(50) + "'";
  }
}

// With a key that changes: without it the value has to be kept on the target, which sets can't do.
std::string History::new_big() {
  return !swaps_ || pick(2) == 0 ? ", big = " + text() : "";
}

std::string History::on_keyed(const std::string& table) {
  const auto a = id(), b = id();
  const auto update = "UPDATE " + table + " SET ";
  const int kind = pick(10);
  switch (!swaps_ && (kind == 3 || kind == 4 || kind == 8) ? 0 : kind) {
    case 0:
    case 1:
      return "INSERT INTO " + table + " VALUES (" + a + ", " + unique() + ", " + number(100) + ", " + text() +
             ", " + text() + ")";
    case 2:
      return "DELETE FROM " + table + " WHERE id = " + a;
    case 3:  // a unique value goes from one row to another and back
      return "UPDATE " + table + " SET u = -1 WHERE id = " + a + "; UPDATE " + table +
             " SET u = (SELECT 21 + " + a + ") WHERE id = " + b + "; " + update + "u = 21 + " + b +
             " WHERE id = " + a;
    case 4:  // two rows swap their keys
      return update + "id = -1 WHERE id = " + a + "; " + update + "id = " + a + " WHERE id = " + b + "; " +
             update + "id = " + b + " WHERE id = -1";
    case 5:  // a new key, with and without the big value
      return update + "id = " + b + new_big() + " WHERE id = " + a;
    case 6:
      return update + "big = " + text() + " WHERE id = " + a;
    case 7:
      return update + "n = n + 1, small = " + text() + " WHERE id % 3 = " + number(3);
    case 8:  // everybody's unique value moves by one
      return update + "u = -u WHERE u > 0; " + update + "u = 1 - u WHERE u < 0";
    default:
      return update + "n = " + number(1000) + ".50 WHERE id = " + a;
  }
}

std::string History::on_indexed() {
  const auto key = "k = 'k" + number(4) + "' AND l = " + number(4) + ".0";
  switch (pick(5)) {
    case 0:
    case 1:
      return "INSERT INTO indexed VALUES (" + text() + ", 'k" + number(4) + "', " + number(30) + ", " +
             number(4) + ")";
    case 2:
      return "DELETE FROM indexed WHERE " + key;
    case 3:
      return "UPDATE indexed SET l = " + number(4) + ".00" + new_big() + " WHERE " + key;
    default:
      return "UPDATE indexed SET id = " + (swaps_ ? number(30) : "id") + new_big() + " WHERE " + key;
  }
}

std::string History::on_keyless() {
  const auto one = "ctid = (SELECT min(ctid) FROM keyless WHERE a = " + number(4) + ")";
  switch (pick(4)) {
    case 0:
    case 1:
      return "INSERT INTO keyless SELECT " + number(4) + ", " + text() + ", '{\"a\" : " + number(2) +
             "}' FROM generate_series(1, " + std::to_string(1 + pick(3)) + ")";
    case 2:
      return "DELETE FROM keyless WHERE " + one;
    default:
      return "UPDATE keyless SET a = " + number(4) + (pick(2) == 0 ? ", big = " + text() : "") + " WHERE " +
             one;
  }
}

std::string History::operation() {
  switch (pick(12)) {
    case 0:
    case 1:
    case 2:
    case 3:
      return on_keyed("keyed");
    case 4:
    case 5:
    case 6:
      return on_keyed("keyed_full");
    case 7:
    case 8:
      return on_indexed();
    case 9:
    case 10:
      return on_keyless();
    default:
      break;
  }
  if (pick(4) > 0) {
    return "INSERT INTO only_inserts VALUES (" + number(9) + ", " + text() + ")";
  }
  const auto& names = tables();
  const auto& first = names[static_cast<std::size_t>(pick(static_cast<int>(names.size())))];
  return "TRUNCATE " + first + (pick(2) == 0 ? ", only_inserts" : "");
}

std::string History::transaction() {
  std::string sql = "DO $do$ BEGIN ";
  for (int left = 1 + pick(6); left > 0; --left) {
    sql += "BEGIN " + operation() + "; " + (pick(6) == 0 ? "RAISE EXCEPTION 'undone'; " : "") +
           "EXCEPTION WHEN unique_violation OR raise_exception THEN NULL; END; ";
  }
  return sql + "END $do$";
}

}  // namespace apply_stage

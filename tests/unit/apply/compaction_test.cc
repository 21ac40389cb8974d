#include "replication/apply/compaction.h"

#include <cstdlib>
#include <doctest/doctest.h>
#include <map>
#include <random>

#include "tests/unit/apply/fixtures.h"

using namespace replication::apply;
using apply_fixtures::Rows;
using replication::pgoutput::ColumnKind;

namespace {

using Values = std::vector<std::optional<std::string>>;
using Model = std::map<std::string, Values>;  // by key
const std::string kUnsent(Rows::kUnsent);

// A table of (key, a, b) in memory, and a batch that collects what is done to it.
class World {
 public:
  explicit World(TargetTable table = apply_fixtures::table({"k", "a", "b"}, 1)) : table_(std::move(table)) {
    batch.transactions.push_back({{100}, {200}, 7});
  }
  void insert(const Values& row) { add(Change::Kind::insert, {}, row, false); }
  void update(const Values& row) { add(Change::Kind::update, row, row, false); }
  void move(const std::string& old_key, const Values& row) {
    add(Change::Kind::update, {old_key, std::nullopt, std::nullopt}, row, true);
  }
  void remove(const std::string& key) {
    add(Change::Kind::remove, {key, std::nullopt, std::nullopt}, {}, false);
  }
  void truncate() {
    Change change;
    change.kind = Change::Kind::truncate;
    change.truncate = static_cast<std::uint32_t>(batch.truncates.size());
    batch.truncates.push_back({{&table_}, false});
    batch.changes.push_back(change);
  }
  const TargetTable& table() const { return table_; }
  Batch batch;

 private:
  void add(Change::Kind kind, const Values& old_row, const Values& new_row, bool moves) {
    Change change;
    change.kind = kind;
    change.moves_key = moves;
    change.table = &table_;
    change.old_row = rows_.add(old_row);
    change.new_row = rows_.add(new_row);
    batch.changes.push_back(change);
  }
  TargetTable table_;
  Rows rows_;
};

std::string key_of(Row row) {
  return std::string(row[0].bytes);
}

Values values_of(Row row, const Values& before) {
  Values values;
  for (std::size_t i = 0; i < row.size(); ++i) {
    switch (row[i].kind) {
      case ColumnKind::null:
        values.emplace_back();
        break;
      case ColumnKind::unchanged_toast:
        REQUIRE(i < before.size());
        values.push_back(before[i]);
        break;
      default:
        values.emplace_back(std::string(row[i].bytes));
    }
  }
  return values;
}

// As a server would run the statements: each must hit exactly the rows it was given, none twice.
void run(const Compacted& compacted, Model& model) {
  for (const auto& segment : compacted.segments) {
    for (const auto& net : segment.net) {
      for (const Row row : net.deletes) {
        REQUIRE(model.erase(key_of(row)) == 1);
      }
      for (const auto& group : net.updates) {
        for (const Row row : group.rows) {
          REQUIRE(model.count(key_of(row)) == 1);
          CHECK(unchanged_columns(*net.table, row) == group.unchanged);
          model[key_of(row)] = values_of(row, model[key_of(row)]);
        }
      }
      for (const Row row : net.inserts) {
        REQUIRE(model.emplace(key_of(row), values_of(row, {})).second);
      }
    }
    if (segment.truncate != nullptr) {
      model.clear();
    }
  }
}

// Each change is a row that is sent or was folded: the ledger's equation.
void check_counts(const World& world, const Compacted& compacted) {
  std::int64_t rows = 0;
  std::int64_t folded = 0;
  std::int64_t moved = 0;
  for (const auto& segment : compacted.segments) {
    for (const auto& net : segment.net) {
      rows += static_cast<std::int64_t>(net.rows());
      folded += net.folded;
      moved += net.moved;
    }
    rows += segment.truncate != nullptr ? 1 : 0;
  }
  CHECK(static_cast<std::int64_t>(world.batch.changes.size()) == rows - moved + folded);
}

std::size_t net_rows(World& world) {
  const auto compacted = compact(world.batch);
  REQUIRE(compacted.compactable);
  check_counts(world, compacted);
  return compacted.net_rows;
}

// Random histories that a source could produce: only rows that exist are changed, keys stay unique.
class History {
 public:
  History(World& world, Model model, std::uint64_t seed)
      : world_(world), model_(std::move(model)), random_(seed) {}

  void step() {
    const std::string key = std::to_string(random_() % 12);
    const auto found = model_.find(key);
    if (found == model_.end()) {
      Values row{key, value(), value()};
      world_.insert(row);
      model_[key] = row;
      return;
    }
    switch (random_() % 8) {
      case 0:
      case 1:
        world_.remove(key);
        model_.erase(found);
        break;
      case 2:
      case 3:
        move(key);
        break;
      case 4:
        if (random_() % 20 == 0) {
          world_.truncate();
          model_.clear();
        }
        break;
      default: {
        Values row{key, value(), random_() % 2 == 0 ? kUnsent : value()};
        world_.update(row);
        found->second = with_unsent(row, found->second);
      }
    }
  }
  const Model& model() const { return model_; }

 private:
  std::optional<std::string> value() {
    return random_() % 6 == 0 ? std::nullopt : std::optional("v" + std::to_string(++values_));
  }
  static Values with_unsent(Values row, const Values& before) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (row[i] == kUnsent) {
        row[i] = before[i];
      }
    }
    return row;
  }
  void move(const std::string& key) {
    const std::string other = std::to_string(random_() % 12);
    if (model_.count(other) != 0) {
      return;
    }
    Values row{other, value(), random_() % 4 == 0 ? kUnsent : value()};
    world_.move(key, row);
    model_[other] = with_unsent(row, model_[key]);
    model_.erase(key);
  }

  World& world_;
  Model model_;
  std::mt19937_64 random_;
  int values_ = 0;
};

}  // namespace

TEST_CASE("the changes of a row become one") {
  World world;
  SUBCASE("insert, update -> insert of the last image") {
    world.insert({"1", "a", "b"});
    world.update({"1", "c", "d"});
    CHECK(net_rows(world) == 1);
  }
  SUBCASE("insert, delete -> nothing") {
    world.insert({"1", "a", "b"});
    world.remove("1");
    CHECK(net_rows(world) == 0);
  }
  SUBCASE("update, update, delete -> delete") {
    world.update({"1", "a", "b"});
    world.update({"1", "c", "d"});
    world.remove("1");
    CHECK(net_rows(world) == 1);
  }
  SUBCASE("delete, insert, update -> delete and insert") {
    world.remove("1");
    world.insert({"1", "c", "d"});
    world.update({"1", "e", "f"});
    CHECK(net_rows(world) == 2);
  }
}

TEST_CASE("a value that was not sent is taken from the batch or left alone") {
  World world;
  world.insert({"1", "a", "big"});
  world.update({"1", "c", kUnsent});
  world.update({"2", "x", kUnsent});
  world.update({"2", "y", kUnsent});
  world.update({"3", "x", "set"});
  world.update({"3", "y", kUnsent});
  Model model{{"2", {"2", "old", "kept"}}, {"3", {"3", "old", "lost"}}};
  const auto compacted = compact(world.batch);
  REQUIRE(compacted.compactable);
  run(compacted, model);
  CHECK(model == Model{{"1", {"1", "c", "big"}}, {"2", {"2", "y", "kept"}}, {"3", {"3", "y", "set"}}});
}

TEST_CASE("keys change places") {
  World world;
  world.move("1", {"9", "a", "1"});
  world.move("2", {"1", "b", "2"});
  world.move("9", {"2", "a", kUnsent});
  Model model{{"1", {"1", "a", "1"}}, {"2", {"2", "b", "2"}}};
  const auto compacted = compact(world.batch);
  REQUIRE(compacted.compactable);
  CHECK(compacted.net_rows == 4);
  check_counts(world, compacted);
  CHECK(compacted.segments.at(0).net.at(0).moved == 2);
  CHECK(compacted.segments.at(0).net.at(0).folded == 1);
  run(compacted, model);
  CHECK(model == Model{{"1", {"1", "b", "2"}}, {"2", {"2", "a", "1"}}});
}

TEST_CASE("what contradicts the model is not compacted") {
  World world;
  SUBCASE("an insert over a row that exists") {
    world.update({"1", "a", "b"});
    world.insert({"1", "c", "d"});
  }
  SUBCASE("an update of a row that was deleted") {
    world.remove("1");
    world.update({"1", "c", "d"});
  }
  SUBCASE("two deletes") {
    world.remove("1");
    world.remove("1");
  }
  SUBCASE("a moved row whose unsent value isn't in the batch") {
    world.move("1", {"2", "a", kUnsent});
  }
  CHECK_FALSE(compact(world.batch).compactable);
}

TEST_CASE("a row whose key moves keeps what only the target has: it isn't made anew") {
  auto table = apply_fixtures::table({"k", "a", "b", "own"}, 1);
  table.columns[3].source = -1;
  SUBCASE("one that was there before") {
    World world(table);
    world.move("1", {"2", "a", "b"});
    CHECK_FALSE(compact(world.batch).compactable);
  }
  SUBCASE("one that the batch changed") {
    World world(table);
    world.update({"1", "a", "b"});
    world.move("1", {"2", "a", "b"});
    CHECK_FALSE(compact(world.batch).compactable);
  }
  SUBCASE("one that the batch inserted has nothing to keep") {
    World world(table);
    world.insert({"1", "a", "b"});
    world.move("1", {"2", "a", "c"});
    CHECK(compact(world.batch).compactable);
  }
}

TEST_CASE("rows are sent in the order of their keys") {
  World world;
  for (const auto* key : {"10", "9", "100", "1"}) {
    world.insert({key, "a", "b"});
  }
  const auto compacted = compact(world.batch);
  std::vector<std::string> keys;
  for (const Row row : compacted.segments.at(0).net.at(0).inserts) {
    keys.push_back(key_of(row));
  }
  CHECK(keys == std::vector<std::string>{"1", "9", "10", "100"});
}

TEST_CASE("keys of several columns can't be confused") {
  World world(apply_fixtures::table({"k", "l", "b"}, 2));
  world.insert({"a", "bc", "1"});
  world.insert({"ab", "c", "2"});
  CHECK(net_rows(world) == 2);
}

TEST_CASE("changes of a table without a key stay in order") {
  World world(apply_fixtures::table({"k", "a", "b"}, 0, Matching::whole_row));
  world.insert({"1", "a", "b"});
  world.insert({"1", "a", "b"});
  world.remove("1");
  const auto compacted = compact(world.batch);
  REQUIRE(compacted.segments.size() == 1);
  CHECK(compacted.segments[0].net.empty());
  REQUIRE(compacted.segments[0].ordered.size() == 1);
  CHECK(compacted.segments[0].ordered[0].changes.size() == 3);
  CHECK(compacted.segments[0].ordered[0].changes[2]->kind == Change::Kind::remove);
}

TEST_CASE("random histories compacted give what they give row by row") {
  const char* given = std::getenv("PGCUTOVER_TEST_SEED");
  const std::uint64_t first = given != nullptr ? std::strtoull(given, nullptr, 10) : 1;
  const std::uint64_t last = given != nullptr ? first : 3'000;
  std::size_t compactable = 0, saved = 0;
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    CAPTURE(seed);
    World world;
    Model target;
    for (int key = 0; key < 8; ++key) {
      target[std::to_string(key)] = {std::to_string(key), "a" + std::to_string(key),
                                     "b" + std::to_string(key)};
    }
    History history(world, target, seed);
    for (int i = 0; i < 40; ++i) {
      history.step();
    }
    const auto compacted = compact(world.batch);
    if (!compacted.compactable) {
      continue;  // a moved row with an unsent value: row mode's work
    }
    ++compactable;
    check_counts(world, compacted);
    saved += world.batch.changes.size() - std::min(world.batch.changes.size(), compacted.net_rows);
    run(compacted, target);
    REQUIRE(target == history.model());
  }
  if (given == nullptr) {
    CHECK(compactable > 300);  // the test must have tested something
    CHECK(saved > 5'000);
  }
}

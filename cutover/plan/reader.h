// One table of keys reads a YAML map into plain variables, writes them back, documents them and finds the
// nearest key for a misspelt one. A Field is bound to the variable it fills, so a table is made for one
// object and thrown away.
//
// This header shows yaml-cpp and is for this room's .cc files only.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>
#include <yaml-cpp/yaml.h>

#include "cutover/plan/plan.h"

namespace cutover::plan {

// A value and the place of its key, which is the better place to name where the value is empty.
struct Item {
  YAML::Node value;
  YAML::Mark key_mark;
  std::string path;  // "apps[2].traffic"
};

struct Source {
  std::string file;
  [[noreturn]] void fail(const YAML::Mark& mark, const std::string& message,
                         const std::string& hint = {}) const;
  [[noreturn]] void fail(const Item& item, const std::string& message, const std::string& hint = {}) const;
};

enum class Secrets { hidden, shown };

struct Field {
  std::string_view key;
  std::string_view type;     // for people: "text", "list of text", "duration"
  std::string_view meaning;  // for people; empty for keys of the format that this version refuses
  std::function<void(const Source&, const Item&)> read;
  // Writes the value; null for refused keys.
  std::function<void(YAML::Emitter&, Secrets)> write;
  std::function<bool()> empty;  // true where there is nothing to write
  std::string fallback;         // the default, for people
  std::vector<Field> children;  // of a map, or of each map of a list
};
using Fields = std::vector<Field>;

void read_map(const Source& source, const Item& item, const Fields& fields);
void write_map(YAML::Emitter& out, Secrets secrets, const Fields& fields);

// The kinds of values there are. The variable must outlive the Field.
Field text(std::string_view key, std::string& value, std::string_view meaning);
Field texts(std::string_view key, std::vector<std::string>& value, std::string_view meaning);
// A map whose keys are names of somebody's choice, each with a text.
Field names(std::string_view key, std::map<std::string, std::string>& value, std::string_view meaning);
Field flag(std::string_view key, bool& value, std::string_view meaning);
Field integer(std::string_view key, std::int64_t& value, std::int64_t min, std::int64_t max,
              std::string_view meaning);
Field integer(std::string_view key, int& value, int min, int max, std::string_view meaning);
Field duration(std::string_view key, base::milliseconds& value, base::milliseconds min,
               base::milliseconds max, std::string_view meaning);
// A connection string, alone or as {url: ...}.
Field connection(std::string_view key, postgres::ConnInfo& value, std::string_view meaning);
Field map(std::string_view key, Fields children, std::string_view meaning);
// The same, or its first child's value alone where nothing else is to be said.
Field word_or_map(std::string_view key, Fields children, std::string_view meaning);
// A key of the format that this version can't do yet.
Field later(std::string_view key);

// One of a few words.
Field choice(std::string_view key, std::vector<std::pair<std::string, int>> words, std::function<int()> get,
             std::function<void(int)> set, std::string_view meaning);
template <typename T>
Field choice(std::string_view key, T& value, std::vector<std::pair<std::string, T>> words,
             std::string_view meaning) {
  std::vector<std::pair<std::string, int>> numbers;
  for (const auto& [word, meant] : words) {
    numbers.emplace_back(word, static_cast<int>(meant));
  }
  return choice(
      key, std::move(numbers), [&value] { return static_cast<int>(value); },
      [&value](int number) { value = static_cast<T>(number); }, meaning);
}

// A list of maps: each is read with the table that `fields_of` makes for it.
void read_list(const Source& source, const Item& item, const std::function<void(const Item&)>& each);
template <typename T>
Field list(std::string_view key, std::vector<T>& value, Fields (*fields_of)(T&), std::string_view meaning) {
  Field field;
  field.key = key;
  field.type = "list";
  field.meaning = meaning;
  field.read = [&value, fields_of](const Source& source, const Item& item) {
    value.clear();
    read_list(source, item, [&](const Item& element) {
      T one;
      read_map(source, element, fields_of(one));
      value.push_back(std::move(one));
    });
  };
  field.write = [&value, fields_of](YAML::Emitter& out, Secrets secrets) {
    out << YAML::BeginSeq;
    for (auto& one : value) {
      write_map(out, secrets, fields_of(one));
    }
    out << YAML::EndSeq;
  };
  field.empty = [&value] { return value.empty(); };
  static T shown;  // documentation only
  field.children = fields_of(shown);
  return field;
}

}  // namespace cutover::plan

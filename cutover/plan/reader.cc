#include "cutover/plan/reader.h"

#include <charconv>
#include <memory>
#include <set>

#include "replication/base/error.h"
#include "replication/base/redaction.h"

namespace cutover::plan {
namespace {

std::string place(const std::string& file, const YAML::Mark& mark) {
  if (mark.is_null()) {
    return file;
  }
  return file + ":" + std::to_string(mark.line + 1) + ":" + std::to_string(mark.column + 1);
}

std::string_view kind_of(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Undefined:
    case YAML::NodeType::Null:
      return "nothing";
    case YAML::NodeType::Scalar:
      return "a single value";
    case YAML::NodeType::Sequence:
      return "a list";
    case YAML::NodeType::Map:
      return "a map";
  }
  return "something else";
}

std::string scalar(const Source& source, const Item& item, std::string_view wanted) {
  if (!item.value.IsScalar()) {
    source.fail(item,
                item.path + " wants " + std::string(wanted) + ", not " + std::string(kind_of(item.value)));
  }
  auto value = item.value.Scalar();
  if (value.find('\0') != std::string::npos) {
    source.fail(item, item.path + " holds a zero byte");
  }
  return value;
}

std::string shown(const std::string& value, Secrets secrets) {
  return secrets == Secrets::shown ? value : base::redact(value);
}

// Quoted always: a name like "on" or "1e3" must come back as the text it was.
void write_text(YAML::Emitter& out, const std::string& value, Secrets secrets) {
  out << YAML::DoubleQuoted << shown(value, secrets);
}

Field make(std::string_view key, std::string_view type, std::string_view meaning) {
  Field field;
  field.key = key;
  field.type = type;
  field.meaning = meaning;
  field.empty = [] { return false; };
  return field;
}

std::vector<std::string> keys_of(const Fields& fields) {
  std::vector<std::string> keys;
  for (const auto& field : fields) {
    keys.emplace_back(field.key);
  }
  return keys;
}

std::string unknown_key_hint(const std::string& key, const Fields& fields) {
  const auto keys = keys_of(fields);
  if (const auto near = nearest(key, keys)) {
    return "did you mean '" + *near + "'?";
  }
  std::string hint = "valid here:";
  for (const auto& valid : keys) {
    hint += (hint.back() == ':' ? " " : ", ") + valid;
  }
  return hint;
}

void read_pair(const Source& source, const Item& item, const YAML::Node& key, const YAML::Node& value,
               const Fields& fields, std::set<std::string>& seen) {
  if (!key.IsScalar()) {
    source.fail(key.Mark(), "a key must be a single word");
  }
  const auto& name = key.Scalar();
  const auto found =
      std::find_if(fields.begin(), fields.end(), [&](const Field& field) { return field.key == name; });
  if (found == fields.end()) {
    source.fail(key.Mark(), "unknown key '" + name + "'" + (item.path.empty() ? "" : " in " + item.path),
                unknown_key_hint(name, fields));
  }
  if (!seen.insert(name).second) {
    source.fail(key.Mark(),
                "key '" + name + "' is given twice" + (item.path.empty() ? "" : " in " + item.path),
                "keep one of them");
  }
  found->read(source, Item{value, key.Mark(), item.path.empty() ? name : item.path + "." + name});
}

}  // namespace

void Source::fail(const YAML::Mark& mark, const std::string& message, const std::string& hint) const {
  const auto where = place(file, mark);
  throw base::UsageError(where + ": " + message, hint);
}

void Source::fail(const Item& item, const std::string& message, const std::string& hint) const {
  const bool usable = item.value.IsDefined() && !item.value.IsNull() && !item.value.Mark().is_null();
  fail(usable ? item.value.Mark() : item.key_mark, message, hint);
}

void read_map(const Source& source, const Item& item, const Fields& fields) {
  if (!item.value.IsMap()) {
    source.fail(item, (item.path.empty() ? std::string("the plan") : item.path) + " wants a map, not " +
                          std::string(kind_of(item.value)));
  }
  std::set<std::string> seen;
  for (const auto& pair : item.value) {
    read_pair(source, item, pair.first, pair.second, fields, seen);
  }
}

void write_map(YAML::Emitter& out, Secrets secrets, const Fields& fields) {
  out << YAML::BeginMap;
  for (const auto& field : fields) {
    if (field.write && !field.empty()) {
      out << YAML::Key << std::string(field.key) << YAML::Value;
      field.write(out, secrets);
    }
  }
  out << YAML::EndMap;
}

void read_list(const Source& source, const Item& item, const std::function<void(const Item&)>& each) {
  if (!item.value.IsSequence()) {
    source.fail(item, item.path + " wants a list, not " + std::string(kind_of(item.value)));
  }
  std::size_t number = 0;
  for (const auto& element : item.value) {
    ++number;
    each(Item{element, item.key_mark, item.path + "[" + std::to_string(number) + "]"});
  }
}

Field text(std::string_view key, std::string& value, std::string_view meaning) {
  auto field = make(key, "text", meaning);
  field.fallback = value;
  field.read = [&value](const Source& source, const Item& item) {
    value = scalar(source, item, "a text");
    if (value.empty()) {
      source.fail(item, item.path + " is empty", "leave the key out, or give a value");
    }
  };
  field.write = [&value](YAML::Emitter& out, Secrets secrets) { write_text(out, value, secrets); };
  field.empty = [&value] { return value.empty(); };
  return field;
}

Field texts(std::string_view key, std::vector<std::string>& value, std::string_view meaning) {
  auto field = make(key, "list of text", meaning);
  field.read = [&value](const Source& source, const Item& item) {
    value.clear();
    read_list(source, item, [&](const Item& element) { value.push_back(scalar(source, element, "a text")); });
    if (value.empty()) {
      source.fail(item, item.path + " is an empty list", "leave the key out, or give values");
    }
  };
  field.write = [&value](YAML::Emitter& out, Secrets secrets) {
    out << YAML::Flow << YAML::BeginSeq;
    for (const auto& one : value) {
      write_text(out, one, secrets);
    }
    out << YAML::EndSeq;
  };
  field.empty = [&value] { return value.empty(); };
  return field;
}

Field names(std::string_view key, std::map<std::string, std::string>& value, std::string_view meaning) {
  auto field = make(key, "map of text", meaning);
  field.read = [&value](const Source& source, const Item& item) {
    if (!item.value.IsMap() || item.value.size() == 0) {
      source.fail(item, item.path + " wants a map of names", "leave the key out, or give {old: new}");
    }
    value.clear();
    for (const auto& pair : item.value) {
      const auto name = scalar(source, {pair.first, item.key_mark, item.path + "'s key"}, "a name");
      const Item one{pair.second, pair.first.Mark(), item.path + "." + name};
      if (!value.emplace(name, scalar(source, one, "a name")).second) {
        source.fail(pair.first.Mark(), "'" + name + "' is given twice in " + item.path, "keep one of them");
      }
    }
  };
  field.write = [&value](YAML::Emitter& out, Secrets secrets) {
    out << YAML::Flow << YAML::BeginMap;
    for (const auto& [name, text] : value) {
      out << YAML::Key;
      write_text(out, name, secrets);
      out << YAML::Value;
      write_text(out, text, secrets);
    }
    out << YAML::EndMap;
  };
  field.empty = [&value] { return value.empty(); };
  return field;
}

Field flag(std::string_view key, bool& value, std::string_view meaning) {
  auto field = make(key, "true or false", meaning);
  field.fallback = value ? "true" : "false";
  field.read = [&value](const Source& source, const Item& item) {
    const auto word = scalar(source, item, "true or false");
    if (word != "true" && word != "false") {
      source.fail(item, item.path + " wants true or false, not '" + word + "'");
    }
    value = word == "true";
  };
  field.write = [&value](YAML::Emitter& out, Secrets) { out << value; };
  return field;
}

Field integer(std::string_view key, std::int64_t& value, std::int64_t min, std::int64_t max,
              std::string_view meaning) {
  auto field = make(key, "number", meaning);
  field.fallback = std::to_string(value);
  field.read = [&value, min, max](const Source& source, const Item& item) {
    const auto word = scalar(source, item, "a number");
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
    if (error != std::errc() || end != word.data() + word.size() || number < min || number > max) {
      source.fail(item, item.path + " wants a whole number from " + std::to_string(min) + " to " +
                            std::to_string(max) + ", not '" + word + "'");
    }
    value = number;
  };
  field.write = [&value](YAML::Emitter& out, Secrets) { out << value; };
  return field;
}

Field integer(std::string_view key, int& value, int min, int max, std::string_view meaning) {
  // Read through a wide number that lives as long as the field.
  const auto wide = std::make_shared<std::int64_t>(value);
  auto field = integer(key, *wide, min, max, meaning);
  field.read = [&value, wide, inner = std::move(field.read)](const Source& source, const Item& item) {
    inner(source, item);
    value = static_cast<int>(*wide);
  };
  field.write = [&value](YAML::Emitter& out, Secrets) { out << value; };
  return field;
}

Field duration(std::string_view key, base::milliseconds& value, base::milliseconds min,
               base::milliseconds max, std::string_view meaning) {
  auto field = make(key, "duration", meaning);
  field.fallback = duration_text(value);
  field.read = [&value, min, max](const Source& source, const Item& item) {
    const auto word = scalar(source, item, "a duration");
    base::milliseconds span{0};
    try {
      span = parse_duration(word, item.path);
    } catch (const base::UsageError& error) {
      source.fail(item, error.message(), error.hint());
    }
    if (span < min || span > max) {
      source.fail(item, item.path + " wants a duration from " + duration_text(min) + " to " +
                            duration_text(max) + ", not " + word);
    }
    value = span;
  };
  field.write = [&value](YAML::Emitter& out, Secrets) { out << duration_text(value); };
  return field;
}

Field connection(std::string_view key, postgres::ConnInfo& value, std::string_view meaning) {
  auto field = make(key, "connection", meaning);
  field.read = [&value](const Source& source, const Item& item) {
    // Never assigned to: assigning a YAML::Node changes the document it is part of.
    const bool nested = item.value.IsMap();
    std::string url;
    if (nested) {
      read_map(source, item, {text("url", url, "URI, keyword string or service=NAME")});
      if (url.empty()) {
        source.fail(item, item.path + " has no url", "give url: \"service=NAME\", a URI or a keyword string");
      }
    } else {
      url = scalar(source, item, "a connection string or a map with url");
    }
    const Item place{nested ? item.value["url"] : item.value, item.key_mark,
                     item.path + (nested ? ".url" : "")};
    try {
      value = postgres::ConnInfo::parse(url, place.path);
    } catch (const base::UsageError& error) {
      source.fail(place, error.message(), error.hint());
    }
    base::register_secret(value.get("password"));
    base::register_secret(value.get("sslpassword"));
  };
  field.write = [&value](YAML::Emitter& out, Secrets secrets) {
    out << YAML::DoubleQuoted
        << (secrets == Secrets::shown ? value.secret_text() : base::redact(value.describe()));
  };
  field.empty = [&value] { return value.empty(); };
  return field;
}

Field map(std::string_view key, Fields children, std::string_view meaning) {
  auto field = make(key, "map", meaning);
  const auto shared = std::make_shared<Fields>(std::move(children));
  field.read = [shared](const Source& source, const Item& item) { read_map(source, item, *shared); };
  field.write = [shared](YAML::Emitter& out, Secrets secrets) { write_map(out, secrets, *shared); };
  field.empty = [shared] {
    return std::all_of(shared->begin(), shared->end(),
                       [](const Field& child) { return !child.write || child.empty(); });
  };
  field.children = *shared;
  return field;
}

Field word_or_map(std::string_view key, Fields children, std::string_view meaning) {
  auto field = map(key, children, meaning);
  field.type = "word or map";
  const auto shared = std::make_shared<Fields>(std::move(children));
  field.read = [shared, as_map = std::move(field.read)](const Source& source, const Item& item) {
    item.value.IsMap() ? as_map(source, item) : shared->front().read(source, item);
  };
  field.write = [shared, as_map = std::move(field.write)](YAML::Emitter& out, Secrets secrets) {
    const bool alone = std::all_of(shared->begin() + 1, shared->end(),
                                   [](const Field& child) { return !child.write || child.empty(); });
    alone ? shared->front().write(out, secrets) : as_map(out, secrets);
  };
  return field;
}

Field later(std::string_view key) {
  auto field = make(key, "", "");
  field.read = [](const Source& source, const Item& item) {
    source.fail(item.key_mark, "'" + item.path + "' is not in this version",
                "take the key out: this version would not do what it says");
  };
  return field;
}

Field choice(std::string_view key, std::vector<std::pair<std::string, int>> words, std::function<int()> get,
             std::function<void(int)> set, std::string_view meaning) {
  auto field = make(key, "word", meaning);
  const auto word_of = [words, get] {
    for (const auto& [word, number] : words) {
      if (number == get()) {
        return word;
      }
    }
    return std::string();
  };
  field.fallback = word_of();
  field.read = [words, set](const Source& source, const Item& item) {
    const auto given = scalar(source, item, "a word");
    std::vector<std::string> valid;
    for (const auto& [word, number] : words) {
      if (word == given) {
        set(number);
        return;
      }
      valid.push_back(word);
    }
    std::string list;
    for (const auto& word : valid) {
      list += (list.empty() ? "" : ", ") + word;
    }
    const auto near = nearest(given, valid);
    source.fail(item, item.path + " wants one of " + list + ", not '" + given + "'",
                near ? "did you mean '" + *near + "'?" : "");
  };
  field.write = [word_of](YAML::Emitter& out, Secrets) { out << word_of(); };
  return field;
}

}  // namespace cutover::plan

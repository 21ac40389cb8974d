#include "replication/snapshot/index_statement.h"

#include <algorithm>
#include <set>
#include <utility>

namespace replication::snapshot {
namespace {

// Reads forwards; every method leaves the place alone where it doesn't find what it looks for.
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  bool word(std::string_view expected) {
    skip_blank();
    const auto rest = text_.substr(at_);
    if (!rest.starts_with(expected) ||
        (rest.size() > expected.size() && rest[expected.size()] != ' ' && rest[expected.size()] != '\n' &&
         rest[expected.size()] != '(' && rest[expected.size()] != ';')) {
      return false;
    }
    at_ += expected.size();
    return true;
  }
  // As written, quotes included.
  std::optional<std::string> identifier() {
    skip_blank();
    const auto begin = at_;
    if (at_ < text_.size() && text_[at_] == '"') {
      for (++at_; at_ < text_.size(); ++at_) {
        if (text_[at_] == '"' && (at_ + 1 >= text_.size() || text_[at_ + 1] != '"')) {
          ++at_;
          return std::string(text_.substr(begin, at_ - begin));
        }
        at_ += text_[at_] == '"' ? 1U : 0U;
      }
      at_ = begin;
      return std::nullopt;
    }
    while (at_ < text_.size() &&
           std::string_view(" \n\t.(),;'\"").find(text_[at_]) == std::string_view::npos) {
      ++at_;
    }
    return at_ == begin ? std::nullopt : std::optional(std::string(text_.substr(begin, at_ - begin)));
  }
  bool symbol(char c) {
    skip_blank();
    if (at_ < text_.size() && text_[at_] == c) {
      ++at_;
      return true;
    }
    return false;
  }
  // "(a, "b")": nothing but names.
  std::optional<std::string> name_list() {
    skip_blank();
    const auto begin = at_;
    if (!symbol('(')) {
      return std::nullopt;
    }
    do {
      if (!identifier()) {
        at_ = begin;
        return std::nullopt;
      }
    } while (symbol(','));
    if (!symbol(')')) {
      at_ = begin;
      return std::nullopt;
    }
    return std::string(text_.substr(begin, at_ - begin));
  }
  bool at_end() {
    skip_blank();
    return at_ == text_.size();
  }

 private:
  void skip_blank() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t')) {
      ++at_;
    }
  }
  std::string_view text_;
  std::size_t at_ = 0;
};

std::string plain(const std::string& written) {
  if (!written.starts_with('"')) {
    return written;
  }
  std::string name;
  for (std::size_t i = 1; i + 1 < written.size(); ++i) {
    name += written[i];
    i += written[i] == '"' ? 1U : 0U;  // a doubled quote
  }
  return name;
}

bool read_table(Reader& reader, IndexStatement& statement, std::string& written) {
  const auto schema = reader.identifier();
  if (!schema || !reader.symbol('.')) {
    return false;
  }
  const auto table = reader.identifier();
  if (!table) {
    return false;
  }
  statement.schema = plain(*schema);
  statement.table = plain(*table);
  written = *schema + "." + *table;
  return true;
}

std::optional<IndexStatement> read_create_index(Reader reader) {
  IndexStatement statement;
  statement.unique = reader.word("UNIQUE");
  std::string table;
  if (!reader.word("INDEX") || !reader.identifier() || !reader.word("ON") || reader.word("ONLY") ||
      !read_table(reader, statement, table)) {
    return std::nullopt;
  }
  return statement;
}

std::optional<IndexStatement> read_constraint(Reader reader) {
  IndexStatement statement;
  std::string table;
  if (!reader.word("ONLY") || !read_table(reader, statement, table) || !reader.word("ADD") ||
      !reader.word("CONSTRAINT")) {
    return std::nullopt;
  }
  const auto name = reader.identifier();
  const bool primary = reader.word("PRIMARY") && reader.word("KEY");
  const bool unique = !primary && reader.word("UNIQUE");
  if (!name || (!primary && !unique && !reader.word("EXCLUDE"))) {
    return std::nullopt;
  }
  statement.unique = primary || unique;
  const auto columns = statement.unique ? reader.name_list() : std::nullopt;
  if (!columns) {
    return statement;
  }
  std::string deferrable;
  if (reader.word("DEFERRABLE")) {
    deferrable = " DEFERRABLE";
    if (reader.word("INITIALLY")) {
      if (!reader.word("DEFERRED")) {
        return statement;
      }
      deferrable += " INITIALLY DEFERRED";
    }
  }
  if (reader.symbol(';') && reader.at_end()) {
    statement.build = "CREATE UNIQUE INDEX " + *name + " ON " + table + " " + *columns + ";";
    statement.attach = "ALTER TABLE ONLY " + table + " ADD CONSTRAINT " + *name +
                       (primary ? " PRIMARY KEY" : " UNIQUE") + " USING INDEX " + *name + deferrable + ";";
  }
  return statement;
}

}  // namespace

std::optional<IndexStatement> read_index_statement(std::string_view sql) {
  Reader reader(sql);
  if (reader.word("CREATE")) {
    return read_create_index(reader);
  }
  if (reader.word("ALTER") && reader.word("TABLE")) {
    return read_constraint(reader);
  }
  return std::nullopt;
}

std::string created_index(std::string_view sql) {
  Reader reader(sql);
  if (!reader.word("CREATE")) {
    return {};
  }
  reader.word("UNIQUE");
  const auto name = reader.word("INDEX") ? reader.identifier() : std::nullopt;
  if (!name || !reader.word("ON")) {
    return {};
  }
  reader.word("ONLY");
  const auto schema = reader.identifier();  // an index lives in its table's
  return schema && reader.symbol('.') ? *schema + "." + *name : std::string();
}

namespace {

std::string qualified_name(Reader& reader) {
  const auto schema = reader.identifier();
  const auto name = schema && reader.symbol('.') ? reader.identifier() : std::nullopt;
  return name ? *schema + "." + *name : std::string();
}

// The index that an ALTER INDEX, COMMENT ON INDEX or CLUSTER ON speaks of.
std::string index_spoken_of(std::string_view sql) {
  Reader reader(sql);
  if (reader.word("COMMENT")) {
    return reader.word("ON") && reader.word("INDEX") ? qualified_name(reader) : std::string();
  }
  if (!reader.word("ALTER")) {
    return {};
  }
  if (reader.word("INDEX")) {
    return qualified_name(reader);
  }
  const bool table = reader.word("TABLE") || (reader.word("MATERIALIZED") && reader.word("VIEW"));
  if (!table) {
    return {};
  }
  reader.word("ONLY");
  const auto schema = reader.identifier();
  if (!schema || !reader.symbol('.') || !reader.identifier() || !reader.word("CLUSTER") ||
      !reader.word("ON")) {
    return {};
  }
  const auto name = reader.identifier();
  return name ? *schema + "." + *name : std::string();
}

}  // namespace

std::vector<bool> secondary_indexes(const std::vector<ScriptItem>& items) {
  std::set<std::string> names;
  for (const auto& item : items) {
    Reader reader(item.sql);
    if (reader.word("CREATE") && reader.word("INDEX")) {
      names.insert(created_index(item.sql));
    }
  }
  names.erase("");
  std::vector<bool> secondary;
  for (const auto& item : items) {
    secondary.push_back(names.contains(created_index(item.sql)) || names.contains(index_spoken_of(item.sql)));
  }
  return secondary;
}

}  // namespace replication::snapshot

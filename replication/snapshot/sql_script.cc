#include "replication/snapshot/sql_script.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <utility>

#include "replication/base/error.h"
#include "replication/postgres/quote.h"

namespace replication::snapshot {
namespace {

using base::Error;

struct Token {
  enum class Kind { word, quoted, text, symbol, psql, end } kind = Kind::end;
  std::size_t begin = 0, end = 0;
  std::string value;  // word: upper case; quoted: without its quotes; symbol: the character
  bool is(std::string_view word) const { return kind == Kind::word && value == word; }
  bool symbol(char c) const { return kind == Kind::symbol && value.size() == 1 && value[0] == c; }
};

bool starts_word(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}
bool continues_word(char c) {
  return starts_word(c) || std::isdigit(static_cast<unsigned char>(c)) != 0;
}

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  Token next() {
    skip_blank();
    if (at_ == text_.size()) {
      return {Token::Kind::end, at_, at_, {}};
    }
    const auto begin = at_;
    const char c = text_[at_];
    if (c == '\'') {
      skip_string(false);
      return {Token::Kind::text, begin, at_, {}};
    }
    if (c == '"') {
      auto name = quoted_name();
      return {Token::Kind::quoted, begin, at_, std::move(name)};
    }
    if (c == '$' && skip_dollar_quoted()) {
      return {Token::Kind::text, begin, at_, {}};
    }
    if (c == '\\') {
      at_ = std::min(text_.find('\n', at_), text_.size());
      return {Token::Kind::psql, begin, at_, std::string(text_.substr(begin, at_ - begin))};
    }
    if (starts_word(c)) {
      return word();
    }
    if (std::isdigit(static_cast<unsigned char>(c)) != 0) {
      take_while([](char d) { return continues_word(d) || d == '.'; });
      return {Token::Kind::symbol, begin, at_, std::string(text_.substr(begin, at_ - begin))};
    }
    ++at_;
    return {Token::Kind::symbol, begin, at_, std::string(1, c)};
  }

 private:
  Token word() {
    const auto begin = at_;
    take_while([](char c) { return continues_word(c) || c == '$'; });
    if (at_ - begin == 1 && (text_[begin] == 'E' || text_[begin] == 'e') && peek(0) == '\'') {
      skip_string(true);
      return {Token::Kind::text, begin, at_, {}};
    }
    std::string upper(text_.substr(begin, at_ - begin));
    std::transform(upper.begin(), upper.end(), upper.begin(),
                   [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
    return {Token::Kind::word, begin, at_, std::move(upper)};
  }

  void skip_blank() {
    for (;;) {
      take_while([](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; });
      if (peek(0) == '-' && peek(1) == '-') {
        at_ = std::min(text_.find('\n', at_), text_.size());
      } else if (peek(0) == '/' && peek(1) == '*') {
        skip_comment();
      } else {
        return;
      }
    }
  }
  void skip_comment() {  // they nest
    const auto begin = at_;
    int depth = 0;
    do {
      if (at_ + 1 >= text_.size()) {
        fail("comment", begin);
      }
      if (peek(0) == '/' && peek(1) == '*') {
        ++depth;
        at_ += 2;
      } else if (peek(0) == '*' && peek(1) == '/') {
        --depth;
        at_ += 2;
      } else {
        ++at_;
      }
    } while (depth > 0);
  }
  void skip_string(bool escapes) {
    const auto begin = at_;
    for (++at_; at_ < text_.size(); ++at_) {
      if (escapes && text_[at_] == '\\') {
        ++at_;
      } else if (text_[at_] == '\'') {
        if (peek(1) != '\'') {
          ++at_;
          return;
        }
        ++at_;
      }
    }
    fail("string", begin);
  }
  std::string quoted_name() {
    const auto begin = at_;
    std::string name;
    for (++at_; at_ < text_.size(); ++at_) {
      if (text_[at_] == '"') {
        if (peek(1) != '"') {
          ++at_;
          return name;
        }
        ++at_;
      }
      name += text_[at_];
    }
    fail("quoted identifier", begin);
  }
  // False where the dollar doesn't open a quote ($1).
  bool skip_dollar_quoted() {
    auto tag_end = at_ + 1;
    while (tag_end < text_.size() && continues_word(text_[tag_end])) {
      ++tag_end;
    }
    const bool opens = tag_end < text_.size() && text_[tag_end] == '$' &&
                       (tag_end == at_ + 1 || starts_word(text_[at_ + 1]));
    if (!opens) {
      return false;
    }
    const auto tag = text_.substr(at_, tag_end + 1 - at_);
    const auto close = text_.find(tag, tag_end + 1);
    if (close == std::string_view::npos) {
      fail("dollar-quoted string", at_);
    }
    at_ = close + tag.size();
    return true;
  }

  char peek(std::size_t ahead) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  template <typename Condition>
  void take_while(Condition condition) {
    while (at_ < text_.size() && condition(text_[at_])) {
      ++at_;
    }
  }
  [[noreturn]] static void fail(const std::string& what, std::size_t begin) {
    throw Error("sql script: " + what + " without an end at byte " + std::to_string(begin));
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

// Where a semicolon doesn't end the statement: inside parentheses, and inside the body of an SQL function.
class Nesting {
 public:
  // `begins_function`: the statement so far is CREATE [OR REPLACE] FUNCTION or PROCEDURE.
  void see(const Token& token, bool begins_function) {
    if (token.symbol('(')) {
      ++parentheses_;
    } else if (token.symbol(')') && parentheses_ > 0) {
      --parentheses_;
    } else if (begins_function && parentheses_ == 0) {
      if (after_begin_ && token.is("ATOMIC")) {
        ++bodies_;
      } else if (bodies_ > 0 && token.is("CASE")) {
        ++bodies_;  // ends with END too
      } else if (bodies_ > 0 && token.is("END")) {
        --bodies_;
      }
    }
    after_begin_ = token.is("BEGIN");
  }
  bool top() const { return parentheses_ == 0 && bodies_ == 0; }

 private:
  int parentheses_ = 0, bodies_ = 0;
  bool after_begin_ = false;
};

bool creates_function(const std::vector<std::string>& words) {
  const auto is = [&](std::size_t at, std::string_view word) {
    return words.size() > at && words[at] == word;
  };
  const std::size_t kind = is(1, "OR") && is(2, "REPLACE") ? 3 : 1;
  return is(0, "CREATE") && (is(kind, "FUNCTION") || is(kind, "PROCEDURE"));
}

std::vector<Token> tokens_of(std::string_view sql, std::size_t count_max = SIZE_MAX) {
  std::vector<Token> tokens;
  Lexer lexer(sql);
  for (auto token = lexer.next(); token.kind != Token::Kind::end && tokens.size() < count_max;
       token = lexer.next()) {
    tokens.push_back(std::move(token));
  }
  return tokens;
}

bool begins_with(const std::vector<Token>& tokens, std::initializer_list<std::string_view> words) {
  return tokens.size() >= words.size() &&
         std::equal(words.begin(), words.end(), tokens.begin(),
                    [](std::string_view word, const Token& token) { return token.is(word); });
}

// A name as the server will look it up; empty for PUBLIC, which no role is called, and for what is no name.
std::string plain_name(const Token& token, std::string_view sql) {
  if (token.kind == Token::Kind::quoted) {
    return token.value;
  }
  if (token.kind != Token::Kind::word || token.is("PUBLIC")) {
    return {};
  }
  std::string lower(sql.substr(token.begin, token.end - token.begin));
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return lower;
}

// A string constant's value: '...' or E'...', as pg_dump writes them.
std::string string_value(std::string_view literal) {
  const bool escapes = !literal.starts_with('\'');
  std::string value;
  for (std::size_t at = escapes ? 2 : 1; at + 1 < literal.size(); ++at) {
    at += literal[at] == '\'' || (escapes && literal[at] == '\\') ? 1 : 0;
    value += literal[at];
  }
  return value;
}

// A place in a statement where a role is named.
struct RoleName {
  std::size_t begin = 0, end = 0;
  std::string name;
  bool literal = false;
};

class RoleNames {
 public:
  explicit RoleNames(std::string_view statement) : sql_(statement), tokens_(tokens_of(statement)) {
    if (begins_with(tokens_, {"SET", "SESSION", "AUTHORIZATION"})) {
      take_list(3);
    } else if (begins_with(tokens_, {"CREATE", "USER", "MAPPING"})) {  // FOR role
      take_list(4);
    } else {
      look();
    }
  }
  const std::vector<RoleName>& found() const { return found_; }

 private:
  void look() {
    const bool grants = begins_with(tokens_, {"GRANT"}) || begins_with(tokens_, {"REVOKE"});
    const bool defaults = begins_with(tokens_, {"ALTER", "DEFAULT", "PRIVILEGES"});
    const bool policy = begins_with(tokens_, {"CREATE", "POLICY"});
    const bool alters = begins_with(tokens_, {"ALTER"}) && !defaults;
    const bool creates = begins_with(tokens_, {"CREATE"});
    int depth = 0;
    for (std::size_t at = 1; at + 1 < tokens_.size(); ++at) {
      const auto& token = tokens_[at];
      depth += token.symbol('(') ? 1 : token.symbol(')') ? -1 : 0;
      if (depth != 0) {
        continue;
      }
      const bool owner = alters && token.is("TO") && tokens_[at - 1].is("OWNER") && at + 3 == tokens_.size();
      const bool grantee = (grants || defaults) && (token.is("TO") || token.is("FROM"));
      const bool grantor = defaults && token.is("ROLE") && tokens_[at - 1].is("FOR");
      if (owner || grantee || grantor || (policy && token.is("TO"))) {
        take_list(at + 1);
      } else if (creates && token.is("SET") && at + 3 < tokens_.size() && tokens_[at + 1].is("ROLE") &&
                 tokens_[at + 2].is("TO")) {  // of a function
        take_literal(tokens_[at + 3]);
      }
    }
  }
  // role [, role ...] from `at` on.
  void take_list(std::size_t at) {
    for (; at < tokens_.size(); at += 2) {
      const auto& token = tokens_[at];
      auto name = plain_name(token, sql_);
      const bool keyword =
          name == "public" || (token.kind == Token::Kind::word &&
                               (name == "current_user" || name == "session_user" || name == "current_role"));
      if (!name.empty() && !keyword) {
        found_.push_back({token.begin, token.end, std::move(name)});
      }
      if (at + 1 >= tokens_.size() || !tokens_[at + 1].symbol(',')) {
        return;
      }
    }
  }
  void take_literal(const Token& token) {
    if (token.kind != Token::Kind::text) {
      return;
    }
    auto name = string_value(sql_.substr(token.begin, token.end - token.begin));
    if (name != "none") {
      found_.push_back({token.begin, token.end, std::move(name), true});
    }
  }

  std::string_view sql_;
  std::vector<Token> tokens_;
  std::vector<RoleName> found_;
};

// Debian's 15 keeps a version of its own in a column's options, pg_attver, which it never lets anybody set,
// and which its own pg_dump leaves out. A newer pg_dump writes it down, and other servers refuse it. Nothing
// where the statement sets nothing else.
std::optional<std::string> without_attver(std::string sql) {
  const auto tokens = tokens_of(sql);
  if (!begins_with(tokens, {"ALTER"})) {
    return sql;
  }
  for (std::size_t at = 2; at + 3 < tokens.size(); ++at) {
    if (!tokens[at].is("PG_ATTVER") || !tokens[at + 1].symbol('=')) {
      continue;
    }
    if (tokens[at + 3].symbol(',')) {
      return sql.erase(tokens[at].begin, tokens[at + 4].begin - tokens[at].begin);
    }
    if (tokens[at - 1].symbol(',')) {
      return sql.erase(tokens[at - 1].begin, tokens[at + 2].end - tokens[at - 1].begin);
    }
    return std::nullopt;
  }
  return sql;
}

}  // namespace

std::vector<std::string> split_statements(std::string_view script) {
  std::vector<std::string> statements;
  Lexer lexer(script);
  Nesting nesting;
  std::vector<std::string> words;  // the statement's first few
  std::size_t begin = std::string_view::npos;
  for (auto token = lexer.next();; token = lexer.next()) {
    const bool first = begin == std::string_view::npos;
    if (token.kind == Token::Kind::end) {
      if (!first) {
        throw Error("sql script: the last statement has no end: " + headline(script.substr(begin)));
      }
      return statements;
    }
    if (token.kind == Token::Kind::psql) {
      if (!first || !(token.value.starts_with("\\restrict ") || token.value.starts_with("\\unrestrict "))) {
        throw Error("sql script: unexpected psql command at byte " + std::to_string(token.begin));
      }
      continue;
    }
    if (first) {
      begin = token.begin;
    }
    if (token.kind == Token::Kind::word && words.size() < 4) {
      words.push_back(token.value);
    }
    nesting.see(token, creates_function(words));
    if (token.symbol(';') && nesting.top()) {
      statements.emplace_back(script.substr(begin, token.end - begin));
      begin = std::string_view::npos;
      words.clear();
      nesting = {};
    }
  }
}

std::vector<ScriptItem> read_script(std::string_view script) {
  std::vector<ScriptItem> items;
  std::vector<std::pair<std::string, std::string>> settings;
  std::string authorization, tablespace;
  for (auto& sql : split_statements(script)) {
    const auto start = tokens_of(sql, 6);
    if (begins_with(start, {"SET", "SESSION", "AUTHORIZATION"})) {
      authorization = start.size() > 3 && start[3].is("DEFAULT") ? "" : sql;
    } else if (begins_with(start, {"RESET", "SESSION", "AUTHORIZATION"})) {
      authorization.clear();
    } else if (begins_with(start, {"SET"}) && start.size() > 1) {
      if (start[1].is("TRANSACTION_TIMEOUT")) {
        continue;
      }
      std::erase_if(settings, [&](const auto& one) { return one.first == start[1].value; });
      settings.emplace_back(start[1].value, sql);
      if (start[1].is("DEFAULT_TABLESPACE") && start.size() > 3) {
        const auto& name = start[3];
        tablespace = name.kind == Token::Kind::text
                         ? string_value(std::string_view(sql).substr(name.begin, name.end - name.begin))
                         : plain_name(name, sql);
      }
    } else if (begins_with(start, {"SELECT", "PG_CATALOG"}) && start.size() > 3 &&
               start[3].is("SET_CONFIG")) {
      std::erase_if(settings, [](const auto& one) { return one.first == "set_config"; });
      settings.emplace_back("set_config", sql);
    } else if (auto kept = without_attver(std::move(sql))) {
      ScriptItem item;
      for (const auto& [name, text] : settings) {
        item.settings += text + '\n';
      }
      item.tablespace = tablespace;
      item.sql = authorization.empty() ? std::move(*kept)
                                       : authorization + '\n' + *kept + "\nRESET SESSION AUTHORIZATION;";
      items.push_back(std::move(item));
    }
  }
  return items;
}

void collect_roles(std::string_view sql, std::set<std::string>& roles) {
  for (const auto& statement : split_statements(sql)) {
    const RoleNames names(statement);
    for (const auto& one : names.found()) {
      roles.insert(one.name);
    }
  }
}

std::string rename_roles(std::string_view sql, const catalog::RoleMap& map) {
  std::string text;
  for (const auto& statement : split_statements(sql)) {
    text += text.empty() ? "" : "\n";
    std::size_t at = 0;
    const RoleNames names(statement);
    for (const auto& one : names.found()) {
      const auto name = map.at(one.name);
      text.append(statement, at, one.begin - at);
      text += one.literal ? postgres::quote_literal(name) : postgres::quote_identifier(name);
      at = one.end;
    }
    text.append(statement, at);
  }
  return text;
}

std::string for_server(std::string sql, int server_major) {
  if (server_major < 15 && begins_with(tokens_of(sql, 2), {"ALTER", "TABLE"})) {
    // ADD GENERATED ... AS IDENTITY (SEQUENCE NAME schema.name LOGGED ...);  where the table is unlogged
    const auto tokens = tokens_of(sql);
    const auto identity = std::ranges::adjacent_find(
        tokens, [](const Token& a, const Token& b) { return a.is("ADD") && b.is("GENERATED"); });
    const auto word = std::adjacent_find(identity, tokens.end(), [](const Token& a, const Token& b) {
      return !a.symbol('.') && b.is("LOGGED");
    });
    if (word != tokens.end()) {
      sql.erase((word + 1)->begin, std::string_view("LOGGED").size());
    }
  }
  if (server_major < 16 && begins_with(tokens_of(sql, 2), {"CREATE", "SUBSCRIPTION"})) {
    const std::pair<std::string_view, int> since[]{{"STREAMING", 14}, {"RUN_AS_OWNER", 16}};
    for (const auto& [option, major] : since) {
      const auto tokens = tokens_of(sql);
      for (std::size_t at = 1; at + 2 < tokens.size() && server_major < major; ++at) {
        if (tokens[at - 1].symbol(',') && tokens[at].is(option) && tokens[at + 1].symbol('=')) {
          sql.erase(tokens[at - 1].begin, tokens[at + 2].end - tokens[at - 1].begin);
        }
      }
    }
  }
  return sql;
}

std::optional<StreamObjectName> stream_object_name(std::string_view sql) {
  const auto tokens = tokens_of(sql, 8);
  std::size_t at = 1;  // CREATE, ALTER
  if (begins_with(tokens, {"COMMENT", "ON"})) {
    at = 2;
  } else if (begins_with(tokens, {"SECURITY", "LABEL", "FOR"})) {  // provider ON
    at = 5;
  } else if (!begins_with(tokens, {"CREATE"}) && !begins_with(tokens, {"ALTER"})) {
    return std::nullopt;
  }
  if (at + 1 >= tokens.size() || !(tokens[at].is("PUBLICATION") || tokens[at].is("SUBSCRIPTION"))) {
    return std::nullopt;
  }
  return StreamObjectName{tokens[at].is("SUBSCRIPTION"), plain_name(tokens[at + 1], sql)};
}

bool builds_index(std::string_view sql) {
  const auto tokens = tokens_of(sql);
  if (begins_with(tokens, {"CREATE", "INDEX"}) || begins_with(tokens, {"CREATE", "UNIQUE", "INDEX"})) {
    return true;
  }
  if (!begins_with(tokens, {"ALTER", "TABLE"})) {
    return false;
  }
  for (std::size_t at = 2; at + 3 < tokens.size(); ++at) {
    if (tokens[at].is("ADD") && tokens[at + 1].is("CONSTRAINT")) {
      const auto& kind = tokens[at + 3];
      return kind.is("PRIMARY") || kind.is("UNIQUE") || kind.is("EXCLUDE");
    }
  }
  return false;
}

bool comments_on_constraint(std::string_view sql) {
  return begins_with(tokens_of(sql, 3), {"COMMENT", "ON", "CONSTRAINT"});
}

std::string headline(std::string_view sql) {
  constexpr std::size_t kBytesMax = 120;
  auto line = sql.substr(0, sql.find('\n'));
  if (line.size() <= kBytesMax) {
    return std::string(line);
  }
  auto length = kBytesMax;
  while (length > 0 && (static_cast<unsigned char>(line[length]) & 0xC0) == 0x80) {
    --length;  // not in the middle of a character
  }
  return std::string(line.substr(0, length)) + "...";
}

}  // namespace replication::snapshot

#include "cutover/traffic/ini.h"

#include <vector>

#include "replication/base/error.h"

namespace cutover::traffic {

namespace base = replication::base;

namespace {

constexpr std::string_view kKept = ";pgcutover keeps: ";

bool blank(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

std::size_t skip_blanks(std::string_view text, std::size_t at) {
  while (at < text.size() && blank(text[at])) {
    ++at;
  }
  return at;
}

// One key=value of a connect string; the span covers the value with its quotes.
struct Param {
  std::string key, value;
  std::size_t begin = 0, end = 0;
};

[[noreturn]] void fail_line(std::string_view database) {
  throw base::Error("can't read the line of database " + std::string(database) + " in pgbouncer's ini",
                    "write it as name = key=value key='value' ...");
}

std::vector<Param> parse_params(std::string_view text, std::string_view database) {
  std::vector<Param> params;
  std::size_t at = skip_blanks(text, 0);
  while (at < text.size()) {
    Param param;
    while (at < text.size() && text[at] != '=' && !blank(text[at])) {
      param.key.push_back(text[at++]);
    }
    at = skip_blanks(text, at);
    if (param.key.empty() || at >= text.size() || text[at] != '=') {
      fail_line(database);
    }
    at = skip_blanks(text, at + 1);
    param.begin = at;
    if (at < text.size() && text[at] == '\'') {
      for (++at;; ++at) {
        if (at >= text.size()) {
          fail_line(database);
        }
        if (text[at] != '\'') {
          param.value.push_back(text[at]);
        } else if (at + 1 < text.size() && text[at + 1] == '\'') {
          param.value.push_back(text[at++]);
        } else {
          break;
        }
      }
      ++at;
    } else {
      while (at < text.size() && !blank(text[at])) {
        param.value.push_back(text[at++]);
      }
    }
    param.end = at;
    params.push_back(std::move(param));
    at = skip_blanks(text, at);
  }
  return params;
}

// The name a line begins with, and where its connect string starts; nothing where the line is no entry.
struct Head {
  std::string name;
  std::size_t value_begin = 0;
};
std::optional<Head> parse_head(std::string_view line) {
  Head head;
  std::size_t at = skip_blanks(line, 0);
  if (at < line.size() && line[at] == '"') {
    for (++at;; ++at) {
      if (at >= line.size()) {
        return std::nullopt;
      }
      if (line[at] != '"') {
        head.name.push_back(line[at]);
      } else if (at + 1 < line.size() && line[at + 1] == '"') {
        head.name.push_back(line[at++]);
      } else {
        break;
      }
    }
    ++at;
  } else {
    while (at < line.size() && line[at] != '=' && !blank(line[at])) {
      head.name.push_back(line[at++]);
    }
  }
  at = skip_blanks(line, at);
  if (head.name.empty() || at >= line.size() || line[at] != '=') {
    return std::nullopt;
  }
  head.value_begin = skip_blanks(line, at + 1);
  return head;
}

struct Line {
  std::size_t begin = 0, end = 0;
};
std::vector<Line> split_lines(std::string_view text) {
  std::vector<Line> lines;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    lines.push_back({at, end});
    at = end + 1;
  }
  return lines;
}

std::string_view content(std::string_view text, const Line& line) {
  auto view = text.substr(line.begin, line.end - line.begin);
  view.remove_prefix(skip_blanks(view, 0));
  while (!view.empty() && blank(view.back())) {
    view.remove_suffix(1);
  }
  return view;
}

bool has_sections(std::string_view text, const std::vector<Line>& lines) {
  for (const auto& line : lines) {
    if (content(text, line).starts_with('[')) {
      return true;
    }
  }
  return false;
}

plan::Address address_from(const std::vector<Param>& params, std::string_view database) {
  plan::Address address{.host = {}, .port = "5432", .dbname = std::string(database)};
  for (const auto& param : params) {
    if (param.key == "host") {
      address.host = param.value;
    } else if (param.key == "port") {
      address.port = param.value;
    } else if (param.key == "dbname") {
      address.dbname = param.value;
    }
  }
  return address;
}

IniEntry read_entry(std::string_view text, const Line& line, std::size_t value_begin,
                    std::string_view database) {
  const auto params = parse_params(text.substr(value_begin, line.end - value_begin), database);
  IniEntry entry{.line_begin = line.begin,
                 .line_end = line.end,
                 .value_begin = value_begin,
                 .address = address_from(params, database)};
  for (const auto& param : params) {
    if (param.key == "pool_mode") {
      entry.pool_mode = param.value;
    }
  }
  return entry;
}

std::string quote_value(const std::string& value) {
  if (value.find_first_of("\n\r") != std::string::npos || value.find('\0') != std::string::npos) {
    throw base::Error("an address with a line break can't go into pgbouncer's ini");
  }
  if (!value.empty() && value.find_first_of(" \t'") == std::string::npos) {
    return value;
  }
  std::string quoted = "'";
  for (const char c : value) {
    quoted += c == '\'' ? "''" : std::string(1, c);
  }
  return quoted + "'";
}

// The connect string with one parameter set: every occurrence, or added at the end (before trailing blanks).
std::string set_param(std::string text, std::string_view database, std::string_view key,
                      const std::string& value) {
  const auto params = parse_params(text, database);
  bool found = false;
  for (auto param = params.rbegin(); param != params.rend(); ++param) {
    if (param->key == key) {
      text.replace(param->begin, param->end - param->begin, quote_value(value));
      found = true;
    }
  }
  if (!found) {
    auto end = text.size();
    while (end > 0 && blank(text[end - 1])) {
      --end;
    }
    text.insert(end, (end == 0 ? "" : " ") + std::string(key) + "=" + quote_value(value));
  }
  return text;
}

}  // namespace

std::optional<IniEntry> find_entry(std::string_view text, std::string_view database) {
  const auto lines = split_lines(text);
  bool inside = !has_sections(text, lines);
  std::optional<IniEntry> found;
  for (const auto& line : lines) {
    const auto view = content(text, line);
    if (view.starts_with('[')) {
      inside = view.substr(0, view.find(']')) == "[databases";
    }
    if (!inside || view.empty() || view.starts_with('[') || view.starts_with(';') || view.starts_with('#') ||
        view.starts_with("%include")) {
      continue;
    }
    const auto whole = text.substr(line.begin, line.end - line.begin);
    const auto head = parse_head(whole);
    if (!head || head->name != database) {
      continue;
    }
    if (found) {
      throw base::Error("database " + std::string(database) + " is listed twice in pgbouncer's ini",
                        "keep one of the lines");
    }
    found = read_entry(text, line, line.begin + head->value_begin, database);
  }
  return found;
}

std::string point_entry(std::string_view text, std::string_view database, const plan::Address& to) {
  const auto entry = find_entry(text, database);
  if (!entry) {
    throw base::Error("database " + std::string(database) + " is not listed in pgbouncer's ini",
                      "name the file that holds its line, maybe an %include");
  }
  if (entry->address == to) {
    return std::string(text);
  }
  const auto line = text.substr(entry->line_begin, entry->line_end - entry->line_begin);
  // The comment, where there is one, is the line above.
  std::size_t above = entry->line_begin;
  std::string_view kept;
  if (entry->line_begin > 0) {
    const auto newline =
        entry->line_begin >= 2 ? text.rfind('\n', entry->line_begin - 2) : std::string_view::npos;
    const auto begin = newline == std::string_view::npos ? 0 : newline + 1;
    const auto before = text.substr(begin, entry->line_begin - 1 - begin);
    if (before.starts_with(kKept)) {
      above = begin;
      kept = before.substr(kKept.size());
    }
  }
  const std::string head(text.substr(0, above));
  const std::string tail(text.substr(entry->line_end));
  if (!kept.empty()) {
    if (const auto original = find_entry(kept, database); original && original->address == to) {
      return head + std::string(kept) + tail;
    }
  } else {
    kept = line;
  }
  std::string value(text.substr(entry->value_begin, entry->line_end - entry->value_begin));
  value = set_param(std::move(value), database, "host", to.host);
  value = set_param(std::move(value), database, "port", to.port);
  value = set_param(std::move(value), database, "dbname", to.dbname);
  const auto name = line.substr(0, entry->value_begin - entry->line_begin);
  return head + std::string(kKept) + std::string(kept) + "\n" + std::string(name) + value + tail;
}

std::string without_probes(std::string_view text) {
  std::string out;
  for (const auto& line : split_lines(text)) {
    if (!text.substr(line.begin, line.end - line.begin).starts_with(kProbePrefix)) {
      out += text.substr(line.begin, std::min(line.end + 1, text.size()) - line.begin);
    }
  }
  return out;
}

std::string add_probe(std::string_view text, std::string_view database, std::string_view probe) {
  const auto clean = without_probes(text);
  const auto entry = find_entry(clean, database);
  if (!entry) {
    throw base::Error("database " + std::string(database) + " is not listed in pgbouncer's ini");
  }
  const auto head = clean.substr(0, entry->line_end);
  return head + "\n" + std::string(probe) + " = host=/nonexistent pool_size=1" +
         clean.substr(entry->line_end);
}

}  // namespace cutover::traffic

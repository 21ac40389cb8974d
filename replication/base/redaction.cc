// A scanner of our own and not std::regex, whose matcher recurses for every character: a long value (an error
// may quote a row of a megabyte) would overflow the stack.
#include "replication/base/redaction.h"

#include <algorithm>
#include <cctype>
#include <mutex>
#include <vector>

namespace replication::base {
namespace {

constexpr std::string_view kMask = "***";

struct Secrets {
  std::mutex mutex;
  std::vector<std::string> values;  // the longest first: one may be the beginning of another
};

Secrets& secrets() {
  static Secrets instance;
  return instance;
}

bool is_space(char c) {
  return std::isspace(static_cast<unsigned char>(c)) != 0;
}

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

bool starts_with_any_case(std::string_view text, std::string_view lower) {
  return text.size() >= lower.size() &&
         std::equal(lower.begin(), lower.end(), text.begin(), [](char a, char b) {
           return a == static_cast<char>(std::tolower(static_cast<unsigned char>(b)));
         });
}

std::size_t skip_spaces(std::string_view text, std::size_t at) {
  while (at < text.size() && is_space(text[at])) {
    ++at;
  }
  return at;
}

// The closing quote of a string that opens at `open`, or the end of the text where there is none (a cut
// message hides as much as a whole one). Both ways of escaping a quote are known.
std::size_t closing_quote(std::string_view text, std::size_t open) {
  const char quote = text[open];
  for (auto at = open + 1; at < text.size(); ++at) {
    if (text[at] == '\\') {
      ++at;
    } else if (text[at] == quote) {
      if (at + 1 == text.size() || text[at + 1] != quote) {
        return at;
      }
      ++at;
    }
  }
  return text.size();
}

// What to copy and what to leave out at one place of the text; `end` = 0 where there is no secret.
struct Match {
  std::size_t keep = 0;  // behind what is copied
  std::size_t end = 0;   // behind the secret
};

// postgresql://user:SECRET@host
Match match_uri(std::string_view text) {
  std::size_t at = 0;
  if (text.starts_with("postgresql://")) {
    at = 13;
  } else if (text.starts_with("postgres://")) {
    at = 11;
  } else {
    return {};
  }
  while (at < text.size() && text[at] != ':' && text[at] != '@' && text[at] != '/' && !is_space(text[at])) {
    ++at;
  }
  if (at == text.size() || text[at] != ':') {
    return {};
  }
  // A slash or a quote that should have been percent-encoded may be part of it; only one kind of doubt at a
  // time, or host:port of one string would be taken for the password of a later one.
  const auto find_at = [&](std::string_view stops) {
    auto end = at + 1;
    while (end < text.size() && text[end] != '@' && !is_space(text[end]) &&
           stops.find(text[end]) == stops.npos) {
      ++end;
    }
    return end < text.size() && text[end] == '@' ? end : std::size_t{0};
  };
  auto end = find_at("'\"");
  end = end == 0 ? find_at("/,") : end;
  return end == 0 ? Match{} : Match{.keep = at + 1, .end = end};
}

// password=SECRET, "password": "SECRET", PGPASSWORD=..., sslpassword=..., PASSWORD 'SECRET' of SQL
Match match_keyword(std::string_view text) {
  constexpr std::string_view kWord = "password";
  if (!starts_with_any_case(text, kWord)) {
    return {};
  }
  auto at = kWord.size();
  const bool spaced = at < text.size() && is_space(text[at]);
  if (auto sql = skip_spaces(text, at); spaced && sql < text.size()) {
    if ((text[sql] == 'E' || text[sql] == 'e') && sql + 1 < text.size() && text[sql + 1] == '\'') {
      ++sql;
    }
    if (text[sql] == '\'') {
      return {.keep = sql + 1, .end = closing_quote(text, sql)};
    }
  }
  if (at < text.size() && (text[at] == '"' || text[at] == '\'')) {
    ++at;
  }
  at = skip_spaces(text, at);
  if (at == text.size() || (text[at] != '=' && text[at] != ':')) {
    return {};
  }
  at = skip_spaces(text, at + 1);
  if (at == text.size()) {
    return {};
  }
  if (text[at] == '\'' || text[at] == '"') {
    return {.keep = at + 1, .end = closing_quote(text, at)};
  }
  auto end = at;
  while (end < text.size() && !is_space(text[end]) && text[end] != '&' && text[end] != '\'' &&
         text[end] != '"') {
    ++end;
  }
  return end == at ? Match{} : Match{.keep = at, .end = end};
}

// What pg_authid holds: SCRAM-SHA-256$... and md5 with 32 hexadecimal digits. As good as the password to an
// attacker.
Match match_verifier(std::string_view text, bool at_word_start) {
  constexpr std::string_view kScram = "SCRAM-SHA-256$";
  constexpr std::size_t kMd5Length = 3 + 32;
  if (text.starts_with(kScram)) {
    auto end = kScram.size();
    while (end < text.size() && !is_space(text[end]) && text[end] != '\'' && text[end] != '"') {
      ++end;
    }
    return end == kScram.size() ? Match{} : Match{.keep = 0, .end = end};
  }
  if (at_word_start && text.starts_with("md5") && text.size() >= kMd5Length &&
      std::all_of(text.begin() + 3, text.begin() + kMd5Length,
                  [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }) &&
      (text.size() == kMd5Length || !is_word(text[kMd5Length]))) {
    return {.keep = 0, .end = kMd5Length};
  }
  return {};
}

Match match_at(std::string_view text, std::size_t at) {
  const auto rest = text.substr(at);
  switch (rest[0]) {
    case 'p':
    case 'P': {
      const auto uri = match_uri(rest);
      return uri.end != 0 ? uri : match_keyword(rest);
    }
    case 'S':
    case 'm':
      return match_verifier(rest, at == 0 || !is_word(text[at - 1]));
    default:
      return {};
  }
}

std::string redact_by_context(std::string_view text) {
  std::string result;
  std::size_t copied = 0;
  for (std::size_t at = 0; at < text.size();) {
    const Match match = match_at(text, at);
    if (match.end == 0) {
      ++at;
      continue;
    }
    result.append(text, copied, at + match.keep - copied);
    result += kMask;
    at += match.end;
    copied = at;
  }
  result.append(text, copied);
  return result;
}

void replace_all(std::string& text, std::string_view what, std::string_view with) {
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + with.size())) {
    text.replace(at, what.size(), with);
  }
}

}  // namespace

std::string redact(std::string_view text) {
  std::string result = redact_by_context(text);
  Secrets& known = secrets();
  const std::lock_guard lock(known.mutex);
  for (const auto& secret : known.values) {
    replace_all(result, secret, kMask);
  }
  return result;
}

void register_secret(std::string_view secret) {
  if (secret.size() < 4) {
    return;
  }
  Secrets& known = secrets();
  const std::lock_guard lock(known.mutex);
  if (std::find(known.values.begin(), known.values.end(), secret) == known.values.end()) {
    known.values.emplace_back(secret);
    std::stable_sort(known.values.begin(), known.values.end(),
                     [](const std::string& a, const std::string& b) { return a.size() > b.size(); });
  }
}

}  // namespace replication::base

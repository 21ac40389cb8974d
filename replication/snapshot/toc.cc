#include "replication/snapshot/toc.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace replication::snapshot {
namespace {

// "3330; 2606 16395 FK CONSTRAINT public orders orders_customer_fk shop" -> "FK CONSTRAINT public orders
// ...": what follows the three numbers. Empty for comments and blank lines.
std::string_view description(std::string_view line) {
  constexpr std::array kSeparators{std::string_view("; "), std::string_view(" "), std::string_view(" ")};
  for (const auto separator : kSeparators) {
    const auto digits = static_cast<std::size_t>(
        std::find_if_not(line.begin(), line.end(),
                         [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; }) -
        line.begin());
    if (digits == 0 || !line.substr(digits).starts_with(separator)) {
      return {};
    }
    line.remove_prefix(digits + separator.size());
  }
  return line;
}

template <typename Visit>
void each_line(std::string_view text, Visit visit) {
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    visit(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

template <typename Wanted>
std::string keep_lines(std::string_view toc, Wanted wanted) {
  std::string kept;
  each_line(toc, [&](std::string_view line) {
    if (wanted(description(line))) {
      kept.append(line).push_back('\n');
    }
  });
  return kept;
}

}  // namespace

std::string keep_for_post_data(std::string_view toc) {
  return keep_lines(toc, [](std::string_view what) {
    return !what.starts_with("FK CONSTRAINT ") && !what.starts_with("MATERIALIZED VIEW DATA ");
  });
}

bool has_entries(std::string_view toc) {
  bool found = false;
  each_line(toc, [&](std::string_view line) { found = found || !description(line).empty(); });
  return found;
}

}  // namespace replication::snapshot

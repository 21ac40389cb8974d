#include "replication/apply/snapshot_filter.h"

#include <algorithm>
#include <charconv>
#include <string>

#include "replication/base/error.h"

namespace replication::apply {
namespace {

base::FullXid number(std::string_view text, std::string_view whole) {
  base::FullXid value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size()) {
    throw base::Error("\"" + std::string(whole) + "\" is not a snapshot", "expected xmin:xmax:xip,xip,...");
  }
  return value;
}

}  // namespace

SnapshotVisibility SnapshotVisibility::parse(std::string_view text) {
  const auto first = text.find(':');
  const auto second = first == std::string_view::npos ? first : text.find(':', first + 1);
  if (second == std::string_view::npos) {
    throw base::Error("\"" + std::string(text) + "\" is not a snapshot", "expected xmin:xmax:xip,xip,...");
  }
  SnapshotVisibility snapshot;
  snapshot.xmin_ = number(text.substr(0, first), text);
  snapshot.xmax_ = number(text.substr(first + 1, second - first - 1), text);
  for (std::string_view rest = text.substr(second + 1); !rest.empty();) {
    const auto comma = rest.find(',');
    snapshot.running_.push_back(number(rest.substr(0, comma), text));
    rest.remove_prefix(comma == std::string_view::npos ? rest.size() : comma + 1);
  }
  std::sort(snapshot.running_.begin(), snapshot.running_.end());
  if (snapshot.xmin_ == 0 || snapshot.xmin_ > snapshot.xmax_) {
    throw base::Error("snapshot \"" + std::string(text) + "\" contradicts itself");
  }
  return snapshot;
}

bool SnapshotVisibility::visible(base::Xid xid) const {
  const auto distance = static_cast<std::int32_t>(xid - static_cast<base::Xid>(xmax_));
  const base::FullXid full = xmax_ + static_cast<base::FullXid>(static_cast<std::int64_t>(distance));
  return full < xmin_ || (full < xmax_ && !std::binary_search(running_.begin(), running_.end(), full));
}

}  // namespace replication::apply

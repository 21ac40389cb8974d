// The two servers of a migration and the direction of a stream between them. A switch and a rollback are the
// same hand-over with the sides exchanged, so most of this room is written for `from` and `to`.
#pragma once

#include <string>
#include <string_view>

#include "cutover/traffic/traffic.h"

namespace cutover::steps {

namespace base = replication::base;
namespace catalog = replication::catalog;
namespace postgres = replication::postgres;

enum class Side { source, target };

constexpr Side other(Side side) {
  return side == Side::source ? Side::target : Side::source;
}
constexpr std::string_view to_string(Side side) {
  return side == Side::source ? "source" : "target";
}
// The stream that leaves `from`: "forward" from the source, "reverse" from the target.
constexpr std::string_view direction_from(Side from) {
  return from == Side::source ? "forward" : "reverse";
}
constexpr traffic::Destination destination(Side side) {
  return side == Side::source ? traffic::Destination::source : traffic::Destination::target;
}

}  // namespace cutover::steps

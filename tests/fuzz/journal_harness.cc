#include "tests/fuzz/journal_harness.h"

#include <google/protobuf/stubs/logging.h>
#include <numeric>
#include <stdexcept>
#include <string>
#include <string_view>

#include "replication/base/error.h"
#include "replication/journal/record.h"

namespace tests {
namespace {

using namespace replication::journal;

// Bounds what a payload that claims much may cost; the journal's own bound is 2 GiB.
constexpr std::size_t kPlainLimit = std::size_t{1} << 20;

void require(bool condition, const char* what) {
  if (!condition) {
    throw std::logic_error(what);
  }
}

bool same(const Entry& a, const Entry& b) {
  return a.context == b.context && a.reset == b.reset && a.drained == b.drained && a.whole == b.whole &&
         a.idle_until == b.idle_until && a.end_lsn == b.end_lsn && a.bytes == b.bytes &&
         a.lengths == b.lengths;
}

bool as_entry(std::string_view payload) {
  Entry entry;
  try {
    entry = decode_entry(payload, kPlainLimit);
  } catch (const replication::base::DecodeError&) {
    return false;
  }
  const auto sum = std::accumulate(entry.lengths.begin(), entry.lengths.end(), std::uint64_t{0});
  require(sum == entry.bytes.size(), "the messages' lengths add up");
  const auto frame = entry_frame(entry);
  const auto again = frame_payload(frame);
  require(again.has_value() && again->size() + kFrameHead == frame.size(),
          "what is written is a whole frame");
  require(same(decode_entry(*again), entry), "an entry comes back as it was");
  return true;
}

bool as_header(std::string_view payload) {
  try {
    const auto header = decode_header(payload);
    const auto frame = header_frame(header);
    const auto again = decode_header(*frame_payload(frame));
    require(again.identity == header.identity && again.version == header.version &&
                again.number == header.number && again.begin_lsn == header.begin_lsn,
            "a header comes back as it was");
    return true;
  } catch (const replication::base::DecodeError&) {
    return false;
  }
}

bool as_footer(std::string_view bytes) {
  if (bytes.size() < kFooterFrame) {
    return false;
  }
  const auto footer = decode_footer(bytes.substr(bytes.size() - kFooterFrame));
  if (footer) {
    const auto frame = footer_frame(*footer);
    require(decode_footer(frame) == footer, "a footer comes back as it was");
    require(!frame_payload(frame), "a footer is no record");
  }
  return footer.has_value();
}

// The way of a scan: frame by frame, and on from the next valid one.
bool as_frames(std::string_view bytes) {
  bool valid_first = false;
  for (std::size_t at = 0; at < bytes.size();) {
    const auto payload = frame_payload(bytes.substr(at));
    if (payload) {
      valid_first = valid_first || at == 0;
      require(payload->data() == bytes.data() + at + kFrameHead, "a payload follows its head");
      require(payload->size() <= bytes.size() - at - kFrameHead, "a payload lies inside");
      as_entry(*payload);
      at += kFrameHead + payload->size();
      continue;
    }
    const auto next = next_frame(bytes, at + 1);
    if (!next) {
      break;
    }
    require(*next > at && frame_payload(bytes.substr(*next)).has_value(), "the next frame is one");
    at = *next;
  }
  return valid_first;
}

}  // namespace

bool fuzz_journal(std::span<const char> bytes) {
  const google::protobuf::LogSilencer silencer;  // it says each refusal on stderr
  const std::string_view text(bytes.data(), bytes.size());
  const bool header = as_header(text);
  const bool entry = as_entry(text);
  const bool footer = as_footer(text);
  return as_frames(text) || entry || header || footer;
}

}  // namespace tests

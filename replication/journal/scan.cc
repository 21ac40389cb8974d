#include "replication/journal/scan.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <system_error>

#include "replication/base/error.h"
#include "replication/journal/segment_file.h"

namespace replication::journal {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSuffix = ".pgj";
constexpr std::size_t kNameDigits = 16;

[[noreturn]] void damage(const std::string& path, std::uint64_t from, std::uint64_t to, base::Lsn before,
                         const std::string& after) {
  throw base::NeedsOperator("the journal is damaged: bytes " + std::to_string(from) + " to " +
                                std::to_string(to) + " of " + path + " can't be read; changes between " +
                                before.to_string() + " and " + after + " are lost",
                            "restore that file from a copy, or copy the tables again: `pgcutover cancel`, "
                            "another --spool directory, then run");
}

// One segment, read in pieces: a frame is held in memory, not the file.
class SegmentScan {
 public:
  SegmentScan(const std::string& path, bool last, base::Lsn before)
      : file_(path, SegmentFile::Mode::read), last_(last), before_(before) {}

  // False where it is the last one and nothing in it is valid.
  bool run(SegmentInfo& info, const std::function<void(const Entry&)>& entry) {
    info.path = file_.path();
    info.end_lsn = before_;
    for (std::uint64_t at = 0; at < file_.size();) {
      const auto frame = frame_at(at);
      const auto payload = frame_payload(frame);
      if (!payload) {
        return tail(info, at);
      }
      bool whole = true;
      if (at == 0) {
        info.header = decode_header(*payload);
        info.end_lsn = std::max(before_, info.header.begin_lsn);
      } else {
        const auto one = decode_entry(*payload);
        whole = one.whole;
        take(info, one, entry);
      }
      at += frame.size();
      info.bytes = at;
      info.whole = whole ? at : info.whole;
    }
    if (info.bytes == 0 && !last_) {
      damage(info.path, 0, 0, before_, "the next segment's begin");
    }
    return info.bytes > 0;
  }

 private:
  // The frame that its own length says; whatever is there where that can't be.
  std::string frame_at(std::uint64_t at) const {
    auto head = file_.read(at, kFrameHead);
    if (head.size() < kFrameHead) {
      return head;
    }
    const auto length = static_cast<std::uint64_t>(static_cast<std::uint8_t>(head[4])) |
                        static_cast<std::uint64_t>(static_cast<std::uint8_t>(head[5])) << 8 |
                        static_cast<std::uint64_t>(static_cast<std::uint8_t>(head[6])) << 16 |
                        static_cast<std::uint64_t>(static_cast<std::uint8_t>(head[7])) << 24;
    if (length > file_.size() - at - kFrameHead) {
      return head;
    }
    return file_.read(at, kFrameHead + length);
  }

  static void take(SegmentInfo& info, const Entry& entry, const std::function<void(const Entry&)>& call) {
    ++info.entries;
    if (!entry.context) {
      info.messages += static_cast<std::int64_t>(entry.lengths.size());
      info.end_lsn = std::max(info.end_lsn, entry.end_lsn);
    }
    if (call) {
      call(entry);
    }
  }

  bool tail(SegmentInfo& info, std::uint64_t at) const {
    const auto rest = file_.read(at, file_.size() - at);
    const auto next = next_frame(rest, 1);
    if (last_ && !next) {
      info.torn = rest.size();
      return at > 0;
    }
    std::string after = "the next segment's begin";
    if (next && at + *next > 0) {
      after = decode_entry(*frame_payload(std::string_view(rest).substr(*next))).end_lsn.to_string();
    }
    damage(info.path, at, at + (next ? *next : rest.size()), info.end_lsn, after);
  }

  SegmentFile file_;
  const bool last_;
  const base::Lsn before_;
};

}  // namespace

std::string segment_path(const std::string& directory, std::uint64_t number) {
  char name[kNameDigits + 1];
  std::snprintf(name, sizeof name, "%016llx", static_cast<unsigned long long>(number));
  return (fs::path(directory) / (name + std::string(kSuffix))).string();
}

std::vector<std::string> segment_paths(const std::string& directory) {
  std::vector<std::string> paths;
  std::error_code error;
  for (const auto& item : fs::directory_iterator(directory, error)) {
    const auto name = item.path().filename().string();
    if (name.size() == kNameDigits + kSuffix.size() && name.ends_with(kSuffix)) {
      paths.push_back(item.path().string());
    }
  }
  if (error) {
    throw base::Error("can't read the directory " + directory + ": " + error.message(), "see --spool");
  }
  std::ranges::sort(paths);
  return paths;
}

std::vector<SegmentInfo> scan(const std::string& directory, const std::function<void(const Entry&)>& entry) {
  const auto paths = segment_paths(directory);
  std::vector<SegmentInfo> segments;
  for (const auto& path : paths) {
    SegmentInfo info;
    const auto before = segments.empty() ? base::Lsn{} : segments.back().end_lsn;
    if (!SegmentScan(path, &path == &paths.back(), before).run(info, entry)) {
      break;
    }
    if (!segments.empty() && info.header.number != segments.back().header.number + 1) {
      throw base::NeedsOperator("the journal is damaged: there is no segment between " +
                                    segments.back().path + " and " + path + "; changes between " +
                                    before.to_string() + " and " + info.header.begin_lsn.to_string() +
                                    " are lost",
                                "restore the missing files from a copy, or copy the tables again: `pgcutover "
                                "cancel`, another --spool directory, then run");
    }
    segments.push_back(std::move(info));
  }
  return segments;
}

}  // namespace replication::journal

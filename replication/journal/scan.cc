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

constexpr const char* kRemedy =
    "restore that file from a copy, or copy the tables again: `pgcutover cancel`, another --spool directory, "
    "then run";

[[noreturn]] void damage(const std::string& path, std::uint64_t from, std::uint64_t to, base::Lsn before,
                         const std::string& after) {
  throw base::NeedsOperator("the journal is damaged: bytes " + std::to_string(from) + " to " +
                                std::to_string(to) + " of " + path + " can't be read; changes between " +
                                before.to_string() + " and " + after + " are lost",
                            kRemedy);
}

// The frame at `at` that its own length says; whatever is there where that can't be.
std::string frame_at(const SegmentFile& file, std::uint64_t at) {
  auto head = file.read(at, kFrameHead);
  if (head.size() < kFrameHead) {
    return head;
  }
  const auto length = static_cast<std::uint64_t>(static_cast<std::uint8_t>(head[4])) |
                      static_cast<std::uint64_t>(static_cast<std::uint8_t>(head[5])) << 8 |
                      static_cast<std::uint64_t>(static_cast<std::uint8_t>(head[6])) << 16 |
                      static_cast<std::uint64_t>(static_cast<std::uint8_t>(head[7])) << 24;
  if (length > file.size() - at - kFrameHead) {
    return head;
  }
  return file.read(at, kFrameHead + length);
}

std::optional<Header> header_of(const SegmentFile& file) {
  const auto frame = frame_at(file, 0);
  const auto payload = frame_payload(frame);
  return payload ? std::optional(decode_header(*payload)) : std::nullopt;
}

std::optional<Footer> footer_of(const SegmentFile& file) {
  return file.size() < kFooterFrame ? std::nullopt
                                    : decode_footer(file.read(file.size() - kFooterFrame, kFooterFrame));
}

// One segment, read in pieces: a frame is held in memory, not the file.
class SegmentScan {
 public:
  // `next`: where the one behind it begins; nothing where that can't be told.
  SegmentScan(const std::string& path, bool last, base::Lsn before, std::optional<base::Lsn> next)
      : file_(path, SegmentFile::Mode::read), last_(last), before_(before), next_(next) {}

  // False where it is the last one and nothing in it is valid.
  bool run(SegmentInfo& info, const std::function<void(const Entry&)>& entry) {
    info.path = file_.path();
    info.end_lsn = before_;
    Footer all;
    for (std::uint64_t at = 0; at < file_.size();) {
      const auto frame = frame_at(file_, at);
      const auto payload = frame_payload(frame);
      if (!payload) {
        return tail(info, all, at);
      }
      if (at == 0) {
        begin(info, all, decode_header(*payload), frame);
      } else {
        const auto one = decode_entry(*payload);
        all.add(frame, one);
        info.end_lsn = std::max(info.end_lsn, all.end_lsn);
        if (one.whole) {
          info.whole = all;
        }
        if (entry) {
          entry(one);
        }
      }
      at += frame.size();
      info.bytes = at;
    }
    if (info.bytes == 0 && !last_) {
      damage(info.path, 0, 0, before_, after());
    }
    return info.bytes > 0;
  }

 private:
  void begin(SegmentInfo& info, Footer& all, const Header& header, std::string_view frame) const {
    info.header = header;
    all.number = header.number;
    all.end_lsn = header.begin_lsn;
    all.add(frame);
    info.end_lsn = std::max(before_, all.end_lsn);
    info.whole = all;
  }

  std::string after() const { return next_ ? next_->to_string() : "the next segment's begin"; }

  // No frame begins at `at`.
  bool tail(SegmentInfo& info, const Footer& all, std::uint64_t at) const {
    const auto footer = footer_of(file_);
    const bool only_footer = at > 0 && file_.size() - at == kFooterFrame;
    if (only_footer && footer == all) {
      info.sealed = true;
      return true;
    }
    const auto rest = file_.read(at, file_.size() - at);
    const auto next = next_frame(rest, 1);
    // Where the next segment begins at our end, nothing is missing but the footer.
    if (!last_ && !next && only_footer && next_ == info.end_lsn) {
      return true;
    }
    // In front of a footer nothing was being written.
    if (last_ && !next && (!footer || (only_footer && footer->end_lsn <= info.end_lsn))) {
      info.torn = rest.size();
      return at > 0;
    }
    auto until = footer ? footer->end_lsn.to_string() : after();
    if (next && at + *next > 0) {
      until = decode_entry(*frame_payload(std::string_view(rest).substr(*next))).end_lsn.to_string();
    }
    damage(info.path, at, at + (next ? *next : rest.size()), info.end_lsn, until);
  }

  SegmentFile file_;
  const bool last_;
  const base::Lsn before_;
  const std::optional<base::Lsn> next_;
};

// What header and footer say, where they can be believed.
std::optional<SegmentInfo> by_its_ends(const std::string& path, base::Lsn next) {
  const SegmentFile file(path, SegmentFile::Mode::read);
  const auto header = header_of(file);
  const auto footer = header ? footer_of(file) : std::nullopt;
  if (!footer || footer->number != header->number || footer->bytes + kFooterFrame != file.size() ||
      footer->end_lsn < header->begin_lsn || footer->end_lsn != next) {
    return std::nullopt;
  }
  return SegmentInfo{path, *header, footer->end_lsn, footer->bytes, 0, *footer, true};
}

void expect_next(const SegmentInfo& before, const SegmentInfo& info) {
  if (info.header.number == before.header.number + 1 && info.header.begin_lsn <= before.end_lsn) {
    return;
  }
  const bool missing = info.header.number != before.header.number + 1;
  throw base::NeedsOperator(
      "the journal is damaged: there is " + std::string(missing ? "no segment" : "something missing") +
          " between " + before.path + " and " + info.path + "; changes between " +
          before.end_lsn.to_string() + " and " + info.header.begin_lsn.to_string() + " are lost",
      "restore the missing files from a copy, or copy the tables again: `pgcutover "
      "cancel`, another --spool directory, then run");
}

enum class Depth { all, ends };

std::vector<SegmentInfo> walk(const std::string& directory, const std::function<void(const Entry&)>& entry,
                              Depth depth) {
  const auto paths = segment_paths(directory);
  std::vector<SegmentInfo> segments;
  for (auto path = paths.begin(); path != paths.end(); ++path) {
    const bool last = path + 1 == paths.end();
    const auto before = segments.empty() ? base::Lsn{} : segments.back().end_lsn;
    const auto header = last ? std::nullopt : header_of(SegmentFile(*(path + 1), SegmentFile::Mode::read));
    const auto next = header ? std::optional(header->begin_lsn) : std::nullopt;
    auto known = depth == Depth::ends && next ? by_its_ends(*path, *next) : std::nullopt;
    SegmentInfo info;
    if (known) {
      info = std::move(*known);
    } else if (!SegmentScan(*path, last, before, next).run(info, entry)) {
      break;
    }
    if (!segments.empty()) {
      expect_next(segments.back(), info);
    }
    segments.push_back(std::move(info));
  }
  return segments;
}

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
  return walk(directory, entry, Depth::all);
}

std::vector<SegmentInfo> survey(const std::string& directory) {
  return walk(directory, nullptr, Depth::ends);
}

void expect_sound(const std::string& path, base::Lsn begin, std::optional<base::Lsn> next) {
  SegmentInfo info;
  SegmentScan(path, !next, begin, next).run(info, nullptr);
  if (next && info.end_lsn < *next) {
    damage(path, info.bytes, info.bytes, info.end_lsn, next->to_string());
  }
}

}  // namespace replication::journal

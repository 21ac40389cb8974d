#include "replication/journal/journal.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/file.h>
#include <system_error>
#include <unistd.h>

#include "replication/base/check.h"
#include "replication/base/error.h"
#include "replication/base/fault_point.h"
#include "replication/base/log.h"

namespace replication::journal {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kSegmentsAtLeast = 8;  // within the limit

std::uint32_t payload_length(std::string_view head) {
  std::uint32_t length = 0;
  std::memcpy(&length, head.data() + 4, sizeof length);
  return length;
}

// Nobody else gets into it from now on: /tmp or a home directory must not become ours by a slip.
void expect_own_directory(const std::string& directory) {
  const auto segments = segment_paths(directory);
  std::error_code error;
  for (const auto& item : fs::directory_iterator(directory, error)) {
    const auto name = item.path().filename().string();
    if (name != "lock" && name != "lost+found" && !name.starts_with('.') &&
        std::ranges::find(segments, item.path().string()) == segments.end()) {
      throw base::UsageError("the directory " + directory + " has other things in it: " + name,
                             "give --spool a directory of its own: one that isn't there yet is made");
    }
  }
}

}  // namespace

Journal::Journal(JournalOptions options, base::Lsn applied) : options_(std::move(options)) {
  std::error_code error;
  const bool made = fs::create_directory(options_.directory, error);
  if (error) {
    throw base::Error("can't make the directory " + options_.directory + ": " + error.message(),
                      "its parent must be there: see --spool");
  }
  if (!made) {
    expect_own_directory(options_.directory);
  }
  fs::permissions(options_.directory, fs::perms::owner_all, error);  // rows of the application are in it
  // The directory's own name too, before the source is told that anything in it is durable.
  sync_directory(fs::absolute(options_.directory).lexically_normal().parent_path().string());
  lock_directory();
  load(applied);
}

Journal::Lock::~Lock() {
  if (fd >= 0) {
    ::close(fd);
  }
}

void Journal::lock_directory() {
  const auto path = (fs::path(options_.directory) / "lock").string();
  lock_.fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock_.fd < 0 || ::flock(lock_.fd, LOCK_EX | LOCK_NB) != 0) {
    const int code = errno;
    if (code == EWOULDBLOCK) {
      throw base::StateError("another process uses the spool " + options_.directory,
                             "end it, or give each migration a --spool of its own");
    }
    throw base::Error("can't lock " + path + ": " + std::strerror(code), "see --spool");
  }
}

void Journal::load(base::Lsn applied) {
  const auto infos = survey(options_.directory);
  for (const auto& info : infos) {
    if (!(info.header.identity == options_.identity)) {
      throw base::StateError("the spool " + options_.directory + " holds changes of slot " +
                                 info.header.identity.slot + " of another migration",
                             "give another directory, or remove that one's files if it is over");
    }
  }
  if (infos.empty() || infos.back().whole.end_lsn < applied) {
    remove_all(infos);
    end_ = synced_ = applied;
    begin_segment(applied);
    return;
  }
  if (infos.front().header.begin_lsn > applied) {
    throw base::NeedsOperator("the spool " + options_.directory + " begins at " +
                                  infos.front().header.begin_lsn.to_string() + ", the target is at " +
                                  applied.to_string() + ": changes in between are lost",
                              "restore the target, or copy the tables again: `pgcutover cancel`, then run");
  }
  for (const auto& info : infos) {
    segments_.push_back(
        {info.header.number, info.path, info.header.begin_lsn, info.whole.end_lsn, info.whole.bytes, true});
    closed_bytes_ += info.whole.bytes;
  }
  if (infos.back().torn > 0) {
    base::log::warn("the last write to " + infos.back().path + " was cut off: " +
                    std::to_string(infos.back().torn) + " bytes are dropped, the source sends them again");
  }
  // Also what was written but perhaps never synced: it counts as durable from here on.
  SegmentFile last(infos.back().path, SegmentFile::Mode::append);
  if (infos.back().sealed) {
    last.sync();
  } else {
    last.truncate(infos.back().whole.bytes);
    seal(last, infos.back().header, infos.back().whole);
  }
  for (const auto& path : segment_paths(options_.directory)) {
    if (path > infos.back().path) {
      fs::remove(path);  // was being made
    }
  }
  next_number_ = infos.back().header.number + 1;
  end_ = synced_ = infos.back().whole.end_lsn;
  begin_segment(end_);
}

void Journal::remove_all(const std::vector<SegmentInfo>& infos) {
  // The newest first: what is left by a crash in between has no gap.
  auto paths = segment_paths(options_.directory);
  for (auto path = paths.rbegin(); path != paths.rend(); ++path) {
    fs::remove(*path);
  }
  sync_directory(options_.directory);
  next_number_ = infos.empty() ? 1 : infos.back().header.number + 1;
}

// Not those of an older version of the format, which knows no footers: they are read until they are removed.
void Journal::seal(SegmentFile& file, const Header& header, const Footer& whole) {
  if (header.version == kVersion) {
    file.append(footer_frame(whole));
    base::fault_point("spool.footer-written");
  }
  file.sync();
  base::fault_point("spool.sealed");
}

void Journal::begin_segment(base::Lsn begin_lsn) {
  const auto path = segment_path(options_.directory, next_number_);
  const auto header = header_frame({options_.identity, next_number_, begin_lsn});
  auto file = std::make_unique<SegmentFile>(path, SegmentFile::Mode::create);
  base::fault_point("spool.segment-made");
  file->append(header);
  file->sync();
  sync_directory(options_.directory);
  base::fault_point("spool.segment-begun");
  all_ = Footer{.number = next_number_, .end_lsn = begin_lsn};
  all_.add(header);
  whole_ = all_;
  const std::lock_guard lock(mutex_);
  if (!segments_.empty() && !segments_.back().closed) {
    segments_.back().closed = true;
    closed_bytes_ += segments_.back().bytes;
  }
  segments_.push_back({next_number_++, path, begin_lsn, begin_lsn, file->size(), false});
  file_ = std::move(file);
  grown_.notify_all();
}

void Journal::append(const Entry& entry) {
  const auto frame = entry_frame(entry);
  file_->append(frame);
  all_.add(frame, entry);
  const std::lock_guard lock(mutex_);
  auto& segment = segments_.back();
  if (!entry.whole) {
    unfinished_ = file_->size() - segment.bytes;
    return;
  }
  whole_ = all_;
  segment.bytes = whole_.bytes;
  segment.end_lsn = whole_.end_lsn;
  end_ = std::max(end_, whole_.end_lsn);
  unfinished_ = 0;
  grown_.notify_all();
}

void Journal::drop_unfinished() {
  std::uint64_t whole = 0;
  {
    const std::lock_guard lock(mutex_);
    whole = segments_.back().bytes;
    unfinished_ = 0;
  }
  if (file_->size() > whole) {
    file_->truncate(whole);
    all_ = whole_;
  }
}

base::Lsn Journal::sync() {
  const auto until = end();
  if (until > synced()) {
    file_->sync();
    const std::lock_guard lock(mutex_);
    synced_ = until;
  }
  return until;
}

bool Journal::wants_rotation() const {
  return file_->size() >= std::min(options_.segment_bytes,
                                   std::max<std::uint64_t>(options_.limit_bytes / kSegmentsAtLeast, 1));
}

void Journal::rotate(const Entry& context) {
  PGCUTOVER_CHECK(context.context, "a segment begins with its context");
  PGCUTOVER_CHECK(unfinished_ == 0, "a transaction lies in one segment");
  seal(*file_, Header{}, whole_);
  {
    const std::lock_guard lock(mutex_);
    synced_ = end_;
  }
  begin_segment(end());
  append(context);
}

void Journal::release(base::Lsn applied) {
  std::vector<std::string> paths;
  {
    const std::lock_guard lock(mutex_);
    while (segments_.size() > 1 && segments_.front().end_lsn <= applied) {
      paths.push_back(segments_.front().path);
      closed_bytes_ -= segments_.front().bytes;
      segments_.pop_front();
    }
  }
  for (const auto& path : paths) {
    std::error_code ignored;
    fs::remove(path, ignored);  // the oldest first; one that stays is taken away at the next start
  }
}

base::Lsn Journal::begin() const {
  const std::lock_guard lock(mutex_);
  return segments_.front().begin_lsn;
}

base::Lsn Journal::end() const {
  const std::lock_guard lock(mutex_);
  return end_;
}

base::Lsn Journal::synced() const {
  const std::lock_guard lock(mutex_);
  return synced_;
}

std::uint64_t Journal::bytes() const {
  const std::lock_guard lock(mutex_);
  return closed_bytes_ + segments_.back().bytes + unfinished_;
}

bool Journal::only_one_segment() const {
  const std::lock_guard lock(mutex_);
  return segments_.size() == 1;
}

Reader::Reader(Journal& journal, base::Lsn applied) : journal_(journal) {
  const std::lock_guard lock(journal_.mutex_);
  for (const auto& segment : journal_.segments_) {
    if (number_ == 0 || segment.begin_lsn <= applied) {
      number_ = segment.number;
      seen_ = segment.begin_lsn;
    }
  }
}

bool Reader::more() const {
  const std::lock_guard lock(journal_.mutex_);
  const auto& last = journal_.segments_.back();
  return last.number > number_ || last.bytes > offset_;
}

std::optional<Entry> Reader::next(base::Deadline deadline) {
  for (;;) {
    std::uint64_t available = 0;
    {
      std::unique_lock lock(journal_.mutex_);
      const auto find = [&] {
        return std::ranges::find_if(journal_.segments_,
                                    [&](const auto& segment) { return segment.number >= number_; });
      };
      auto segment = find();
      PGCUTOVER_CHECK(segment != journal_.segments_.end(), "the journal always has a segment to write");
      // Released before it was read to its end: all of it was applied by an earlier reader.
      if (segment->number != number_ || (segment->closed && offset_ >= segment->bytes)) {
        if (segment->number == number_) {
          if (seen_ < segment->end_lsn) {
            refuse(segment->path, segment->begin_lsn, (segment + 1)->begin_lsn);
          }
          ++segment;
        }
        number_ = segment->number;
        seen_ = segment->begin_lsn;
        offset_ = 0;
        file_.reset();
        first_segment_ = false;
        continue;
      }
      if (segment->bytes <= offset_) {
        const auto left = deadline.remaining();
        if (deadline.expired()) {
          return std::nullopt;
        }
        left ? static_cast<void>(journal_.grown_.wait_for(lock, *left)) : journal_.grown_.wait(lock);
        continue;
      }
      available = segment->bytes;
      if (!file_) {
        file_ = std::make_unique<SegmentFile>(segment->path, SegmentFile::Mode::read);
      }
    }
    if (auto entry = read(available)) {
      return entry;
    }
  }
}

// Names what is lost, if the file still says so now.
void Reader::refuse(const std::string& path, base::Lsn begin, std::optional<base::Lsn> next) const {
  expect_sound(path, begin, next);
  throw base::NeedsOperator("the journal is damaged: what was written to " + path + " at byte " +
                                std::to_string(offset_) + " can't be read back",
                            "look at that disk; `pgcutover journal stat` names what is lost");
}

// Nothing where the frame is none of the stream's.
std::optional<Entry> Reader::read(std::uint64_t available) {
  const auto head = file_->read(offset_, kFrameHead);
  std::optional<std::string_view> payload;
  std::string frame;
  if (head.size() == kFrameHead && payload_length(head) <= available - offset_ - kFrameHead) {
    frame = file_->read(offset_, kFrameHead + payload_length(head));
    payload = frame_payload(frame);
  }
  if (!payload) {
    const std::lock_guard lock(journal_.mutex_);
    const auto segment = std::ranges::find(journal_.segments_, number_, &Journal::Segment::number);
    const bool there = segment != journal_.segments_.end();  // not where it was released meanwhile
    const bool last = !there || segment + 1 == journal_.segments_.end();
    refuse(file_->path(), there ? segment->begin_lsn : seen_,
           last ? std::nullopt : std::optional((segment + 1)->begin_lsn));
  }
  const bool is_header = offset_ == 0;
  offset_ += frame.size();
  if (is_header) {
    return std::nullopt;
  }
  auto entry = decode_entry(*payload);
  seen_ = std::max(seen_, entry.end_lsn);
  return entry.context && !first_segment_ ? std::nullopt : std::optional(std::move(entry));
}

}  // namespace replication::journal

// A change spool on disk: what was received and isn't on the target yet, so that the source may recycle its
// WAL. One directory, one journal, one owner at a time.
//
//   <directory>/lock                       held while a Journal is open
//   <directory>/0000000000000001.pgj ...   segments; each begins with the relations then in force, so that
//                                          those in front of it can be removed
//
// Threads: append, rotate and sync belong to one thread, a Reader to one; the rest may be called from any.
// Errors: base::Error naming the file; StateError where the directory is another's; NeedsOperator where it is
// damaged (see scan.h): at opening where it is the last segment, at reading elsewhere. Only whole
// transactions are read and survive a new start. Rotation belongs to the caller, who knows the relations; it
// is allowed only where no transaction is under way.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "replication/base/deadline.h"
#include "replication/base/lsn.h"
#include "replication/journal/record.h"
#include "replication/journal/scan.h"
#include "replication/journal/segment_file.h"

namespace replication::journal {

struct JournalOptions {
  std::string directory;  // made where it isn't there; its parent must be
  Identity identity;
  std::uint64_t limit_bytes = std::uint64_t{10} << 30;
  // A segment is rotated at this size (an eighth of the limit where that is less).
  std::uint64_t segment_bytes = std::uint64_t{64} << 20;
};

class Journal {
 public:
  // `applied`: what the target has. A journal that ends before that holds nothing of worth and is begun anew;
  // one that begins behind it lacks changes: NeedsOperator.
  Journal(JournalOptions options, base::Lsn applied);
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  // A reader gets an entry that isn't whole only once its transaction is.
  void append(const Entry& entry);
  // Takes back the entries behind the last whole one: their transaction is sent again.
  void drop_unfinished();
  // Everything appended is on disk afterwards; returns up to where it may be confirmed.
  base::Lsn sync();
  bool wants_rotation() const;
  void rotate(const Entry& context);
  // Removes the segments that hold nothing behind `applied`, except the one that is written.
  void release(base::Lsn applied);

  base::Lsn begin() const;
  base::Lsn end() const;     // where the stream goes on
  base::Lsn synced() const;  // up to where it survives a crash of this machine
  std::uint64_t bytes() const;
  bool full() const { return bytes() >= options_.limit_bytes; }
  bool only_one_segment() const;
  const JournalOptions& options() const { return options_; }

 private:
  friend class Reader;
  struct Segment {
    std::uint64_t number = 0;
    std::string path;
    base::Lsn begin_lsn, end_lsn;
    std::uint64_t bytes = 0;  // readable: whole transactions only
    bool closed = false;
  };
  void seal(SegmentFile& file, const Header& header, const Footer& whole);
  void lock_directory();
  void load(base::Lsn applied);
  void remove_all(const std::vector<SegmentInfo>& infos);
  void begin_segment(base::Lsn begin_lsn);

  const JournalOptions options_;
  struct Lock {
    int fd = -1;
    ~Lock();
  };
  Lock lock_;  // goes with the object, also where its constructor throws
  std::unique_ptr<SegmentFile> file_;
  std::uint64_t next_number_ = 1;
  Footer whole_, all_;  // of the segment that is written: up to where no transaction is under way, and all

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable grown_;
  std::deque<Segment> segments_;
  std::uint64_t closed_bytes_ = 0;  // of all but the last one
  base::Lsn end_, synced_;
  std::uint64_t unfinished_ = 0;  // bytes behind the last segment's readable ones
};

// Reads what a Journal holds and waits for more. `journal` outlives it.
class Reader {
 public:
  // Begins with the last segment that has everything behind `applied`.
  Reader(Journal& journal, base::Lsn applied);
  // The next entry, in order; context entries only at the very beginning. Nothing at the deadline.
  std::optional<Entry> next(base::Deadline deadline);
  // Whether something is there to be read now.
  bool more() const;

 private:
  std::optional<Entry> read(std::uint64_t available);
  [[noreturn]] void refuse(const std::string& path, base::Lsn begin, std::optional<base::Lsn> next) const;

  Journal& journal_;
  std::uint64_t number_ = 0;
  std::uint64_t offset_ = 0;
  base::Lsn seen_;  // end of what was read of this segment
  bool first_segment_ = true;
  std::unique_ptr<SegmentFile> file_;
};

}  // namespace replication::journal

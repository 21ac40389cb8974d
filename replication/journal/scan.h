// Reads a journal frame by frame, or only the ends of its segments, and tells a torn tail from damage.
//
// A frame that was being written when the machine died can only be the last one of the last segment: what is
// invalid there, with nothing valid behind it, is a torn tail. Everything else that can't be read is damage
// and refused, with the file, the bytes and the LSNs between which changes are lost. A torn tail that had
// been confirmed to the source shows at the next connect: the slot is then ahead of the journal.
//
// A segment that isn't written any more ends with a footer. It is believed only where it fits the file's
// size, the segment's header and the next one's; else the segment is read.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "replication/journal/record.h"

namespace replication::journal {

struct SegmentInfo {
  std::string path;
  Header header;
  base::Lsn end_lsn;        // of its last entry; header.begin_lsn where there is none
  std::uint64_t bytes = 0;  // valid ones, without the footer
  std::uint64_t torn = 0;   // behind the valid ones
  Footer whole;             // what it holds up to where no transaction is under way
  bool sealed = false;      // there is a footer
};

// The paths of the segments in a directory, in order.
std::vector<std::string> segment_paths(const std::string& directory);
std::string segment_path(const std::string& directory, std::uint64_t number);

// Every segment in order, `entry` called for each of their entries (null: only look). A segment without any
// valid frame at the end of the journal is left out (it was being made). Throws NeedsOperator for damage,
// DecodeError for another version of the format.
std::vector<SegmentInfo> scan(const std::string& directory, const std::function<void(const Entry&)>& entry);

// The same without entries, and without looking inside of sealed segments: whoever reads them finds what is
// damaged there. Takes two small reads for each, and reads the last one.
std::vector<SegmentInfo> survey(const std::string& directory);

// Throws what is wrong inside a segment that begins at `begin`; `next`: where the one behind it begins,
// nothing for the last. Returns where nothing is.
void expect_sound(const std::string& path, base::Lsn begin, std::optional<base::Lsn> next);

}  // namespace replication::journal

// One record of the journal as bytes, and back. Pure functions of bytes: whatever is damaged is refused,
// never guessed.
//
// A frame is the magic, the payload's length, the CRC-32C of length and payload, and the payload: a protobuf
// message. Messages of pgoutput stay as they came, compressed with zstd where that makes them smaller, so
// that there is one decoder for the stream and for the journal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "replication/base/lsn.h"

namespace replication::journal {

// Whose changes a journal holds.
struct Identity {
  std::string run;   // of the migration
  std::string slot;  // on the publishing side
  std::string system_identifier;
  bool operator==(const Identity&) const = default;
};

inline constexpr std::uint32_t kVersion = 2;  // of the format; 1 had no footers

struct Header {
  Identity identity;
  std::uint64_t number = 0;
  base::Lsn begin_lsn;
  std::uint32_t version = kVersion;
};

struct Entry {
  bool context = false;  // relations in force where its segment begins; not part of the stream
  bool reset = false;
  bool drained = false;
  bool whole = true;  // no transaction is under way behind it
  base::Lsn idle_until;
  base::Lsn end_lsn;  // of the last transaction, or idle stretch, that is complete here or before
  std::string bytes;  // pgoutput messages, one after the other
  std::vector<std::uint32_t> lengths;  // of each
};

// What a segment holds, gathered frame by frame; its last frame once it isn't written any more.
struct Footer {
  std::uint64_t number = 0;
  base::Lsn end_lsn;
  std::uint64_t bytes = 0;
  std::uint64_t entries = 0, messages = 0;
  std::uint32_t chain = 0;
  bool operator==(const Footer&) const = default;

  void add(std::string_view frame);  // the header's
  void add(std::string_view frame, const Entry& entry);
};

inline constexpr std::size_t kFrameHead = 12;
inline constexpr std::size_t kFooterFrame = kFrameHead + 5 * 9 + 5;  // bytes
inline constexpr std::size_t kPlainMax = std::size_t{1} << 31;       // bytes of messages in a record

std::string header_frame(const Header& header);
std::string entry_frame(const Entry& entry);
std::string footer_frame(const Footer& footer);

// The payload of the frame that begins the bytes; nothing where no whole and valid one does.
std::optional<std::string_view> frame_payload(std::string_view bytes);
// The footer that these bytes are, all of them; nothing where they aren't one. (No frame to the others.)
std::optional<Footer> decode_footer(std::string_view bytes);
// Where the next valid frame begins at or behind `from`.
std::optional<std::size_t> next_frame(std::string_view bytes, std::size_t from);

// Throw base::DecodeError where the payload isn't one; an entry may not hold more than `plain_max` bytes.
Header decode_header(std::string_view payload);
Entry decode_entry(std::string_view payload, std::size_t plain_max = kPlainMax);

}  // namespace replication::journal

#include "replication/journal/record.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>
#include <zstd.h>

#include "journal.pb.h"
#include "replication/base/check.h"
#include "replication/base/error.h"
#include "replication/journal/crc32c.h"

namespace replication::journal {
namespace {

namespace v1 = ::pgcutover::journal::v1;

constexpr std::string_view kMagic = "\xA7PGJ";
constexpr std::string_view kFooterMagic = "\xA7PGF";
constexpr std::uint32_t kOldestVersion = 1;
constexpr int kLevel = 1;                      // of zstd: the disk is slower than this, a higher one isn't
constexpr std::size_t kWorthCompressing = 64;  // bytes

std::uint32_t number_at(std::string_view bytes, std::size_t at) {
  std::uint32_t number = 0;
  std::memcpy(&number, bytes.data() + at, sizeof number);  // little endian: see crc32c.cc
  return number;
}

void append_number(std::string& bytes, std::uint32_t number) {
  bytes.append(reinterpret_cast<const char*>(&number), sizeof number);
}

std::uint32_t checksum(std::string_view frame, std::size_t length) {
  return crc32c(frame.substr(kFrameHead, length), crc32c(frame.substr(4, 4)));
}

std::string framed(const google::protobuf::MessageLite& message, std::string_view magic = kMagic) {
  const std::size_t length = message.ByteSizeLong();
  PGCUTOVER_CHECK(length <= static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()),
                  "a journal record of " + std::to_string(length) + " bytes");
  std::string frame(magic);
  frame.reserve(kFrameHead + length);
  append_number(frame, static_cast<std::uint32_t>(length));
  append_number(frame, 0);
  message.AppendToString(&frame);
  const auto sum = checksum(frame, length);
  std::memcpy(frame.data() + 8, &sum, sizeof sum);
  return frame;
}

std::string compressed(const std::string& bytes) {
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  const auto size = ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), kLevel);
  PGCUTOVER_CHECK(ZSTD_isError(size) == 0, "zstd refuses to compress");
  out.resize(size);
  return out;
}

std::optional<std::string_view> payload_of(std::string_view bytes, std::string_view magic) {
  if (bytes.size() < kFrameHead || !bytes.starts_with(magic)) {
    return std::nullopt;
  }
  const std::size_t length = number_at(bytes, 4);
  if (length > bytes.size() - kFrameHead || checksum(bytes, length) != number_at(bytes, 8)) {
    return std::nullopt;
  }
  return bytes.substr(kFrameHead, length);
}

[[noreturn]] void refuse(const std::string& what) {
  throw base::DecodeError("journal record: " + what, 0);
}

std::string decompressed(const std::string& bytes, std::size_t size) {
  std::string out(size, '\0');
  const auto got = ZSTD_decompress(out.data(), out.size(), bytes.data(), bytes.size());
  if (ZSTD_isError(got) != 0 || got != size) {
    refuse("the messages can't be decompressed");
  }
  return out;
}

}  // namespace

std::string header_frame(const Header& header) {
  v1::Header message;
  message.set_version(header.version);
  message.set_run(header.identity.run);
  message.set_slot(header.identity.slot);
  message.set_system_identifier(header.identity.system_identifier);
  message.set_number(header.number);
  message.set_begin_lsn(header.begin_lsn.value);
  return framed(message);
}

std::string entry_frame(const Entry& entry) {
  v1::Record message;
  message.set_context(entry.context);
  message.set_reset(entry.reset);
  message.set_drained(entry.drained);
  message.set_idle_until(entry.idle_until.value);
  message.set_end_lsn(entry.end_lsn.value);
  message.set_whole(entry.whole);
  message.mutable_lengths()->Add(entry.lengths.begin(), entry.lengths.end());
  if (entry.bytes.size() >= kWorthCompressing) {
    if (auto small = compressed(entry.bytes); small.size() < entry.bytes.size()) {
      message.set_zstd(std::move(small));
      return framed(message);
    }
  }
  message.set_plain(entry.bytes);
  return framed(message);
}

std::string footer_frame(const Footer& footer) {
  v1::Footer message;
  message.set_number(footer.number);
  message.set_end_lsn(footer.end_lsn.value);
  message.set_bytes(footer.bytes);
  message.set_entries(footer.entries);
  message.set_messages(footer.messages);
  message.set_chain(footer.chain);
  auto frame = framed(message, kFooterMagic);
  PGCUTOVER_CHECK(frame.size() == kFooterFrame, "a footer is found by its size");
  return frame;
}

void Footer::add(std::string_view frame) {
  chain = crc32c(frame.substr(8, 4), chain);
  bytes += frame.size();
}

void Footer::add(std::string_view frame, const Entry& entry) {
  add(frame);
  ++entries;
  if (!entry.context) {
    messages += entry.lengths.size();
    end_lsn = std::max(end_lsn, entry.end_lsn);
  }
}

std::optional<std::string_view> frame_payload(std::string_view bytes) {
  return payload_of(bytes, kMagic);
}

std::optional<Footer> decode_footer(std::string_view bytes) {
  const auto payload = payload_of(bytes, kFooterMagic);
  v1::Footer message;
  if (!payload || bytes.size() != kFooterFrame || payload->size() != kFooterFrame - kFrameHead ||
      !message.ParseFromArray(payload->data(), static_cast<int>(payload->size()))) {
    return std::nullopt;
  }
  return Footer{message.number(),  base::Lsn{message.end_lsn()}, message.bytes(),
                message.entries(), message.messages(),           message.chain()};
}

std::optional<std::size_t> next_frame(std::string_view bytes, std::size_t from) {
  for (auto at = bytes.find(kMagic, from); at != std::string_view::npos; at = bytes.find(kMagic, at + 1)) {
    if (frame_payload(bytes.substr(at))) {
      return at;
    }
  }
  return std::nullopt;
}

Header decode_header(std::string_view payload) {
  v1::Header message;
  if (!message.ParseFromArray(payload.data(), static_cast<int>(payload.size()))) {
    refuse("not the header of a segment");
  }
  if (message.version() < kOldestVersion || message.version() > kVersion) {
    refuse("version " + std::to_string(message.version()) + " of the format; this program knows " +
           std::to_string(kOldestVersion) + " to " + std::to_string(kVersion));
  }
  return {{message.run(), message.slot(), message.system_identifier()},
          message.number(),
          base::Lsn{message.begin_lsn()},
          message.version()};
}

Entry decode_entry(std::string_view payload, std::size_t plain_max) {
  v1::Record message;
  if (!message.ParseFromArray(payload.data(), static_cast<int>(payload.size()))) {
    refuse("no protobuf message");
  }
  Entry entry;
  entry.context = message.context();
  entry.reset = message.reset();
  entry.drained = message.drained();
  entry.whole = message.whole();
  entry.idle_until = base::Lsn{message.idle_until()};
  entry.end_lsn = base::Lsn{message.end_lsn()};
  entry.lengths.assign(message.lengths().begin(), message.lengths().end());
  const auto size = std::accumulate(entry.lengths.begin(), entry.lengths.end(), std::uint64_t{0});
  if (size > plain_max) {
    refuse(std::to_string(size) + " bytes of messages are more than there can be");
  }
  if (!message.zstd().empty()) {
    entry.bytes = decompressed(message.zstd(), size);
  } else if (message.plain().size() == size) {
    entry.bytes = std::move(*message.mutable_plain());
  } else {
    refuse("the messages' lengths don't add up");
  }
  return entry;
}

}  // namespace replication::journal

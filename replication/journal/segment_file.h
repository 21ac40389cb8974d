// A file of the journal: written at its end, read anywhere. Errors name the file.
//
// Threads: none of its own; reading and appending by different threads is safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace replication::journal {

class SegmentFile {
 public:
  enum class Mode { create, append, read };
  SegmentFile(std::string path, Mode mode);
  ~SegmentFile();
  SegmentFile(const SegmentFile&) = delete;
  SegmentFile& operator=(const SegmentFile&) = delete;

  // All of it or nothing: what was written in part is taken away again. Throws Error, e.g. on a full disk.
  void append(std::string_view bytes);
  void sync();  // throws also where somebody removed the file: what is in it is on no disk then
  void truncate(std::uint64_t size);
  // Up to `length` bytes; fewer at the file's end.
  std::string read(std::uint64_t offset, std::size_t length) const;
  std::uint64_t size() const { return size_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int fd_ = -1;
  std::uint64_t size_ = 0;
};

// Makes new, renamed and removed names in a directory durable.
void sync_directory(const std::string& path);

}  // namespace replication::journal

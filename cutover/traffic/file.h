// A configuration file, read whole and replaced whole: a reader, also after a crash, sees the old or the new
// text.
#pragma once

#include <optional>
#include <string>

namespace cutover::traffic {

class ConfigFile {
 public:
  // `path` may be a symbolic link: what it points at is replaced. Throws Error where it can't be read.
  explicit ConfigFile(const std::string& path);

  const std::string& text() const { return text_; }
  // Mode and owner stay. Throws Error where it can't be done, or where somebody changed the file since it was
  // read.
  void replace(const std::string& text) const;
  // Why replace() could not work, without changing anything; nothing where it could.
  std::optional<std::string> obstacle() const;

 private:
  std::string path_;  // resolved
  std::string text_;
  // What the file was when it was read.
  unsigned long device_ = 0, inode_ = 0;
  long long size_ = 0, changed_ns_ = 0;
  unsigned mode_ = 0, owner_ = 0, group_ = 0;
};

}  // namespace cutover::traffic

// A file system that is full after a few megabytes: a tmpfs of its own, for tests of what happens then.
// Mounting takes root; elsewhere mounted() is false and a test has to say that it was left out.
//
// Threads: one owner. Whoever has files open there has to end before the object does.
#pragma once

#include <cstdint>
#include <string>

#include "tests/harness/temp_dir.h"

namespace harness {

class SmallDisk {
 public:
  explicit SmallDisk(std::int64_t megabytes);
  ~SmallDisk();
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  bool mounted() const { return mounted_; }
  // Belongs to the servers' user.
  std::string path() const { return directory_.path().string(); }
  std::int64_t used_megabytes() const;  // rounded up
  // Files stay; it can't be made smaller than they are.
  void resize(std::int64_t megabytes);

 private:
  TempDir directory_;
  bool mounted_ = false;
};

}  // namespace harness

#include "tests/harness/small_disk.h"

#include <cerrno>
#include <cstring>
#include <sys/mount.h>
#include <unistd.h>

#include "replication/base/error.h"

namespace harness {
namespace {

std::string options(std::int64_t megabytes) {
  const auto user = unprivileged_user();
  return "mode=0700,uid=" + std::to_string(user.uid) + ",gid=" + std::to_string(user.gid) +
         ",size=" + std::to_string(megabytes) + "m";
}

}  // namespace

SmallDisk::SmallDisk(std::int64_t megabytes) : directory_("pgcut-disk") {
  mounted_ = mount("tmpfs", path().c_str(), "tmpfs", 0, options(megabytes).c_str()) == 0;
}

SmallDisk::~SmallDisk() {
  if (mounted_) {
    umount2(path().c_str(), MNT_DETACH);
  }
}

std::int64_t SmallDisk::used_megabytes() const {
  const auto space = std::filesystem::space(directory_.path());
  return static_cast<std::int64_t>((space.capacity - space.free) >> 20) + 1;
}

void SmallDisk::resize(std::int64_t megabytes) {
  if (mount("tmpfs", path().c_str(), "tmpfs", MS_REMOUNT, options(megabytes).c_str()) != 0) {
    throw replication::base::Error("cannot make " + path() + " another size: " + std::strerror(errno));
  }
}

}  // namespace harness

// A directory that lives as long as its object. Under root it belongs to the unprivileged user that the
// servers run as (they refuse to run as root); the path is kept short, since it holds unix sockets (107 bytes
// at most).
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <sys/types.h>

namespace harness {

struct User {
  uid_t uid = 0;
  gid_t gid = 0;
};
// Whom servers run as: ourselves, or under root the user `postgres`, else `nobody`.
User unprivileged_user();

class TempDir {
 public:
  // /tmp/NAME-XXXXXX, or below TMPDIR where that is short enough. With PGCUTOVER_TEST_KEEP in the environment
  // it is left there and named on stderr.
  explicit TempDir(std::string_view name);
  ~TempDir();
  TempDir(TempDir&& other) noexcept;
  TempDir& operator=(TempDir&&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::string file(std::string_view name) const { return (path_ / name).string(); }
  void keep() { keep_ = true; }

 private:
  std::filesystem::path path_;
  bool keep_ = false;
};

// The whole file, empty where there is none.
std::string read_file(const std::filesystem::path& path);
// Written beside it and renamed over it, readable for everybody: a reader sees the old or the new text.
void write_file(const std::filesystem::path& path, std::string_view text);
// The last lines of a log, for error messages.
std::string last_lines(const std::filesystem::path& path, std::size_t lines);

// "host=... port=... dbname='...' user='...'": hostile names are quoted as libpq wants them.
std::string socket_conninfo(std::string_view directory, int port, std::string_view dbname,
                            std::string_view user);

}  // namespace harness

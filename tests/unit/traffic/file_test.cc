#include "cutover/traffic/file.h"

#include <cstdlib>
#include <doctest/doctest.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sys/stat.h>
#include <unistd.h>

#include "replication/base/error.h"

using cutover::traffic::ConfigFile;
using replication::base::Error;

namespace {

struct Directory {
  Directory() { REQUIRE(mkdtemp(path) != nullptr); }
  ~Directory() { std::filesystem::remove_all(path); }
  std::string file(const std::string& name) const { return std::string(path) + "/" + name; }
  char path[32] = "/tmp/pgcutover-file-XXXXXX";
};

std::string read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_CASE("a file is replaced whole, with its mode and owner, and nothing is left beside it") {
  const Directory directory;
  const auto path = directory.file("d.ini");
  std::ofstream(path) << "old";
  chmod(path.c_str(), 0640);
  if (geteuid() == 0) {
    REQUIRE(chown(path.c_str(), 65534, 65534) == 0);
  }
  const ConfigFile file(path);
  CHECK(file.text() == "old");
  CHECK_FALSE(file.obstacle());
  file.replace("new text\n");
  CHECK(read(path) == "new text\n");
  struct stat facts {};
  REQUIRE(stat(path.c_str(), &facts) == 0);
  CHECK((facts.st_mode & 07777U) == 0640U);
  CHECK(facts.st_uid == (geteuid() == 0 ? 65534U : geteuid()));
  CHECK(std::distance(std::filesystem::directory_iterator(directory.path), {}) == 1);
}

TEST_CASE("behind a symbolic link the file is replaced and the link stays") {
  const Directory directory;
  std::ofstream(directory.file("real.ini")) << "old";
  std::filesystem::create_symlink("real.ini", directory.file("link.ini"));
  ConfigFile(directory.file("link.ini")).replace("new");
  CHECK(std::filesystem::is_symlink(directory.file("link.ini")));
  CHECK(read(directory.file("real.ini")) == "new");
}

TEST_CASE("somebody else's edit is not overwritten") {
  const Directory directory;
  const auto path = directory.file("d.ini");
  std::ofstream(path) << "old";
  const ConfigFile file(path);
  std::ofstream(path) << "theirs";
  CHECK_THROWS_AS(file.replace("ours"), Error);
  CHECK(read(path) == "theirs");
  CHECK(std::distance(std::filesystem::directory_iterator(directory.path), {}) == 1);
}

TEST_CASE("what can't be read is refused") {
  const Directory directory;
  CHECK_THROWS_AS(ConfigFile(directory.file("nosuch")), Error);
  CHECK_THROWS_AS(ConfigFile{std::string(directory.path)}, Error);
}

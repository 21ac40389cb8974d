#include "tests/harness/cluster_template.h"

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <functional>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

#include "replication/base/error.h"
#include "replication/base/stop.h"
#include "replication/base/subprocess.h"
#include "tests/harness/process.h"
#include "tests/harness/temp_dir.h"

namespace harness {

namespace fs = std::filesystem;
using replication::base::Deadline;
using replication::base::Error;
using replication::base::milliseconds;
using replication::base::Stop;

namespace {

std::string run(const std::vector<std::string>& argv) {
  const auto result = replication::base::run_command({.argv = argv, .env = {}, .stdin_text = {}},
                                                     Deadline::in(milliseconds(300'000)), Stop::never());
  if (result.exit_code != 0) {
    throw Error(argv[0] + " ended with code " + std::to_string(result.exit_code) + ": " + result.errors);
  }
  return result.output;
}

bool has_server(const fs::path& bin) {
  return access((bin / "postgres").c_str(), X_OK) == 0 && access((bin / "initdb").c_str(), X_OK) == 0;
}

fs::path cache_directory() {
  fs::path base;
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg != nullptr && *xdg != '\0') {
    base = xdg;
  } else if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') {
    base = fs::path(home) / ".cache";
  } else {
    base = fs::path("/tmp") / ("cache-" + std::to_string(geteuid()));
  }
  auto directory = base / "pgcutover-tests";
  fs::create_directories(directory);
  return directory;
}

// One process makes the template, the others wait for it.
class FileLock {
 public:
  explicit FileLock(const fs::path& path) : fd_(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
    if (fd_ < 0 || flock(fd_, LOCK_EX) != 0) {
      throw Error("cannot lock " + path.string() + ": " + std::strerror(errno));
    }
  }
  ~FileLock() { close(fd_); }
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int fd_;
};

void run_initdb(const std::string& bin, const TempDir& directory) {
  const auto log = directory.file("initdb.log");
  Process initdb({.argv = {bin + "/initdb", "-D", directory.file("data"), "-U", "postgres", "-A", "trust",
                           "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"},
                  .directory = directory.path().string(),
                  .stdout_path = log,
                  .stderr_path = log,
                  .unprivileged = true,
                  .end_signal = SIGKILL});
  if (initdb.wait(Deadline::in(milliseconds(300'000))) != 0) {
    throw Error("initdb failed: " + last_lines(log, 10));
  }
}

fs::path template_for(const std::string& bin) {
  const auto version = run({bin + "/postgres", "--version"});
  const auto key = std::to_string(std::hash<std::string>{}(bin + version)) + "-" + std::to_string(geteuid());
  const auto cache = cache_directory();
  auto made = cache / ("initdb-" + key);
  const FileLock lock(cache / "lock");
  if (!fs::exists(made)) {
    const TempDir directory("pgtpl");
    run_initdb(bin, directory);
    const auto half = cache / ("half-" + key);
    fs::remove_all(half);
    run({"cp", "-a", directory.file("data"), half.string()});
    fs::rename(half, made);
  }
  return made;
}

std::uint32_t crc32c_step(std::uint32_t crc, unsigned char byte) {
  constexpr std::uint32_t kCastagnoli = 0x82F63B78;
  crc ^= byte;
  for (int bit = 0; bit < 8; ++bit) {
    crc = (crc >> 1) ^ (kCastagnoli & (0U - (crc & 1U)));
  }
  return crc;
}

std::uint64_t random_identifier() {
  std::uint64_t value = 0;
  while (getrandom(&value, sizeof value, 0) != sizeof value) {
  }
  return value >> 1;  // shown as a signed or an unsigned number, depending on who prints it
}

void patch(const fs::path& path, std::streamoff offset, const void* bytes, std::streamsize size) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(offset);
  file.write(static_cast<const char*>(bytes), size);
  file.flush();
  if (!file) {
    throw Error("cannot write " + path.string());
  }
}

// pg_control begins with the identifier and ends with a CRC-32C of everything before it; where it ends
// depends on the version, so the place is found as the one where the CRC is right.
void change_control_file(const fs::path& path, std::uint64_t identifier) {
  auto bytes = read_file(path);
  constexpr std::size_t kShortest = 200, kLongest = 508;
  const auto crc_of_prefix = [&bytes](std::size_t size) {
    std::uint32_t crc = ~0U;
    for (std::size_t i = 0; i < size; ++i) {
      crc = crc32c_step(crc, static_cast<unsigned char>(bytes[i]));
    }
    return ~crc;
  };
  for (std::size_t size = kShortest; size <= kLongest && size + 4 <= bytes.size(); size += 4) {
    std::uint32_t stored = 0;
    std::memcpy(&stored, bytes.data() + size, sizeof stored);
    if (stored != crc_of_prefix(size)) {
      continue;
    }
    std::memcpy(bytes.data(), &identifier, sizeof identifier);
    const auto crc = crc_of_prefix(size);
    patch(path, 0, &identifier, sizeof identifier);
    patch(path, static_cast<std::streamoff>(size), &crc, sizeof crc);
    return;
  }
  throw Error("no CRC found in " + path.string());
}

// XLogLongPageHeaderData.xlp_sysid, on the first page of each segment.
void change_wal(const fs::path& directory, std::uint64_t identifier) {
  constexpr std::streamoff kSysidOffset = 24;
  constexpr std::size_t kSegmentNameLength = 24;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.is_regular_file() && entry.path().filename().string().size() == kSegmentNameLength) {
      patch(entry.path(), kSysidOffset, &identifier, sizeof identifier);
    }
  }
}

}  // namespace

std::string find_server(const std::string& major) {
  if (!major.empty()) {
    const auto variable = "PGCUTOVER_TEST_PG_" + major;
    if (const char* bin = std::getenv(variable.c_str()); bin != nullptr && *bin != '\0') {
      if (!has_server(bin)) {
        throw Error(variable + " names " + bin + ", where there is no postgres and initdb");
      }
      return bin;
    }
    auto bin = "/usr/lib/postgresql/" + major + "/bin";
    if (has_server(bin)) {
      return bin;
    }
    throw Error("no PostgreSQL " + major + " server found in " + bin,
                "set " + variable + " to the directory of its postgres and initdb");
  }
  int newest = 0;
  std::error_code missing;
  for (const auto& entry : fs::directory_iterator("/usr/lib/postgresql", missing)) {
    const int version = std::atoi(entry.path().filename().c_str());
    if (version > newest && has_server(entry.path() / "bin")) {
      newest = version;
    }
  }
  if (newest != 0) {
    return "/usr/lib/postgresql/" + std::to_string(newest) + "/bin";
  }
  const char* search = std::getenv("PATH");
  const std::string path = search == nullptr ? "" : search;
  for (std::size_t from = 0; from < path.size();) {
    const auto to = std::min(path.find(':', from), path.size());
    if (has_server(path.substr(from, to - from))) {
      return path.substr(from, to - from);
    }
    from = to + 1;
  }
  throw Error("no PostgreSQL server found in /usr/lib/postgresql/*/bin or PATH",
              "install the package postgresql");
}

int server_major(const std::string& bin) {
  const auto text = run({bin + "/postgres", "--version"});  // "postgres (PostgreSQL) 15.18 (Debian ...)"
  const auto at = text.find(") ");
  return at == std::string::npos ? 0 : std::atoi(text.c_str() + at + 2);
}

void move_wal(const fs::path& data, const fs::path& directory) {
  const auto place = directory / "pg_wal";
  run({"cp", "-a", (data / "pg_wal").string(), place.string()});
  fs::remove_all(data / "pg_wal");
  fs::create_directory_symlink(place, data / "pg_wal");
}

void make_data_directory(const std::string& bin, const fs::path& data) {
  run({"cp", "-a", "--reflink=auto", template_for(bin).string(), data.string()});
  const auto identifier = random_identifier();
  change_control_file(data / "global" / "pg_control", identifier);
  change_wal(data / "pg_wal", identifier);
}

}  // namespace harness

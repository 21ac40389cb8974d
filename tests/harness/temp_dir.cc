#include "tests/harness/temp_dir.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <pwd.h>
#include <sstream>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replication/base/error.h"

namespace harness {

using replication::base::Error;

User unprivileged_user() {
  if (geteuid() != 0) {
    return {geteuid(), getegid()};
  }
  for (const char* name : {"postgres", "nobody"}) {
    std::array<char, 4096> buffer{};
    passwd entry{};
    passwd* found = nullptr;
    if (getpwnam_r(name, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr) {
      return {found->pw_uid, found->pw_gid};
    }
  }
  throw Error("running as root, and there is neither a user postgres nor a user nobody",
              "run the tests as a plain user");
}

namespace {

std::string base_directory() {
  constexpr std::size_t kBaseMax = 40;  // leaves room for names of ours and for .s.PGSQL.5432
  const char* base = std::getenv("TMPDIR");
  return base != nullptr && *base == '/' && std::strlen(base) <= kBaseMax ? base : "/tmp";
}

}  // namespace

TempDir::TempDir(std::string_view name) {
  std::string path = base_directory() + "/" + std::string(name) + "-XXXXXX";
  if (mkdtemp(path.data()) == nullptr) {
    throw Error("cannot create a directory " + path + ": " + std::strerror(errno));
  }
  path_ = path;
  const auto user = unprivileged_user();
  if (chmod(path.c_str(), 0755) != 0 || (geteuid() == 0 && chown(path.c_str(), user.uid, user.gid) != 0)) {
    throw Error("cannot hand over the directory " + path + ": " + std::strerror(errno));
  }
}

TempDir::TempDir(TempDir&& other) noexcept : path_(std::move(other.path_)), keep_(other.keep_) {
  other.path_.clear();
}

TempDir::~TempDir() {
  if (path_.empty()) {
    return;
  }
  if (keep_ || std::getenv("PGCUTOVER_TEST_KEEP") != nullptr) {
    std::fprintf(stderr, "kept: %s\n", path_.c_str());
    return;
  }
  std::error_code ignored;  // a destructor has nobody to tell
  std::filesystem::remove_all(path_, ignored);
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

void write_file(const std::filesystem::path& path, std::string_view text) {
  auto beside = path;
  beside += ".new";
  {
    std::ofstream out(beside, std::ios::binary | std::ios::trunc);
    out << text;
    out.flush();
    if (!out) {
      throw Error("cannot write " + beside.string());
    }
  }
  std::filesystem::permissions(beside, std::filesystem::perms(0644));
  std::filesystem::rename(beside, path);
}

std::string last_lines(const std::filesystem::path& path, std::size_t lines) {
  const auto text = read_file(path);
  std::size_t at = text.size();
  for (std::size_t seen = 0; at > 0; --at) {
    if (text[at - 1] == '\n' && at != text.size() && ++seen == lines) {
      break;
    }
  }
  return text.substr(at);
}

std::string socket_conninfo(std::string_view directory, int port, std::string_view dbname,
                            std::string_view user) {
  const auto quoted = [](std::string_view value) {
    std::string text = "'";
    for (const char c : value) {
      if (c == '\'' || c == '\\') {
        text += '\\';
      }
      text += c;
    }
    return text + "'";
  };
  const auto is_plain = [](std::string_view value) {
    return !value.empty() && value.find_first_of(" '\\\t\n\r") == std::string_view::npos;
  };
  const auto item = [&](std::string_view value) {
    return is_plain(value) ? std::string(value) : quoted(value);
  };
  return "host=" + item(directory) + " port=" + std::to_string(port) + " dbname=" + item(dbname) +
         " user=" + item(user);
}

}  // namespace harness

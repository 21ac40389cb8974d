// Data directories, quickly: initdb runs once for each server version and user, its result is kept in the
// user's cache directory and copied. Each copy gets a system identifier of its own, which is written the way
// pg_createsubscriber and pg_resetwal do it: into global/pg_control (with its CRC) and into the first page of
// the WAL segment (src/include/catalog/pg_control.h, access/xlog_internal.h).
#pragma once

#include <filesystem>
#include <string>

namespace harness {

// The directory with `postgres` and `initdb` for a major version; empty = newest of the distribution. Throws
// Error naming what was looked for.
std::string find_server(const std::string& major);

// Major version of the binaries in `bin`, by running `postgres --version`.
int server_major(const std::string& bin);

// Of a data directory that no server uses: its WAL to another place, with a link to it.
void move_wal(const std::filesystem::path& data, const std::filesystem::path& directory);

// Makes `data` (which doesn't exist yet) a fresh cluster, owned by unprivileged_user(). Safe from several
// processes.
void make_data_directory(const std::string& bin, const std::filesystem::path& data);

}  // namespace harness

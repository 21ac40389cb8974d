// The journal on a real directory: what is written comes back, what is cut off is dropped, what is damaged is
// refused.
#include "replication/journal/journal.h"

#include <algorithm>
#include <cstdlib>
#include <doctest/doctest.h>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>
#include <unistd.h>

#include "replication/base/error.h"
#include "replication/journal/crc32c.h"

namespace replication::journal {
namespace {

namespace fs = std::filesystem;
using base::Deadline;
using base::Lsn;
using base::milliseconds;

std::uint64_t seed() {
  const char* text = std::getenv("PGCUTOVER_TEST_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : 20261122;
}

Entry entry(std::uint64_t end, std::string bytes, bool whole = true) {
  Entry made;
  made.end_lsn = Lsn{end};
  made.lengths = {static_cast<std::uint32_t>(bytes.size())};
  made.bytes = std::move(bytes);
  made.whole = whole;
  made.drained = whole;
  return made;
}

Entry context() {
  auto made = entry(0, "relations");
  made.context = true;
  made.whole = true;
  return made;
}

class Place {
 public:
  Place() {
    // In memory where that can be: there are thousands of syncs here.
    const fs::path root = ::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : fs::temp_directory_path();
    std::string name = (root / "pgcutover-journal-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    directory_ = name;
  }
  ~Place() { fs::remove_all(directory_); }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  std::string path() const { return (directory_ / "spool").string(); }
  JournalOptions options(std::uint64_t segment_bytes = 1 << 20) const {
    return {path(), {"run", "slot", "7"}, std::uint64_t{1} << 30, segment_bytes};
  }
  std::vector<std::string> all() const {
    std::vector<std::string> texts;
    scan(path(), [&](const Entry& one) {
      if (!one.context) {
        texts.push_back(one.bytes);
      }
    });
    return texts;
  }

 private:
  fs::path directory_;
};

std::string read_all(const std::string& path) {
  return SegmentFile(path, SegmentFile::Mode::read).read(0, fs::file_size(path));
}

void write_all(const std::string& path, const std::string& bytes) {
  fs::remove(path);
  SegmentFile(path, SegmentFile::Mode::create).append(bytes);
}

// Everything that can be read now, without what isn't of the stream.
std::vector<std::string> read_everything(Journal& journal) {
  std::vector<std::string> texts;
  Reader reader(journal, Lsn{10});
  while (const auto next = reader.next(Deadline::in(milliseconds(0)))) {
    if (!next->context) {
      texts.push_back(next->bytes);
    }
  }
  return texts;
}

// Several segments that end at 60.
std::vector<std::string> fill(const Place& place, std::mt19937_64& random) {
  std::vector<std::string> texts;
  Journal journal(place.options(1'000), Lsn{10});
  for (std::uint64_t i = 0; i < 40; ++i) {
    if (journal.wants_rotation()) {
      journal.rotate(context());
    }
    texts.push_back("message " + std::to_string(random()));
    journal.append(entry(11 + i, texts.back()));
  }
  texts.emplace_back("the last one of all");
  journal.append(entry(60, texts.back()));
  return texts;
}

std::uint64_t bytes_read() {
  std::ifstream io("/proc/self/io");
  std::string name;
  std::uint64_t bytes = 0;
  REQUIRE(static_cast<bool>(io >> name >> bytes));
  REQUIRE(name == "rchar:");
  return bytes;
}

std::size_t last_frame(const std::string& bytes) {
  std::size_t size = 0;
  for (std::size_t at = 0; at < bytes.size(); at += size) {
    size = kFrameHead + frame_payload(std::string_view(bytes).substr(at))->size();
  }
  return size;
}

std::string with_version(const std::string& bytes, std::uint32_t version) {
  auto header = decode_header(*frame_payload(bytes));
  const auto old = header_frame(header).size();
  header.version = version;
  return header_frame(header) + bytes.substr(old);
}

void rewrite_as(const std::string& path, std::uint32_t version) {
  auto bytes = read_all(path);
  if (bytes.size() > kFooterFrame &&
      decode_footer(std::string_view(bytes).substr(bytes.size() - kFooterFrame))) {
    bytes.resize(bytes.size() - kFooterFrame);
  }
  write_all(path, with_version(bytes, version));
}

TEST_CASE("the checksum is CRC-32C, also in pieces") {
  CHECK(crc32c("123456789") == 0xE3069283);
  CHECK(crc32c(std::string(32, '\0')) == 0x8A9136AA);
  CHECK(crc32c("56789", crc32c("1234")) == crc32c("123456789"));
}

TEST_CASE("an entry comes back as it was, large or small, and a flipped bit anywhere is refused") {
  std::mt19937_64 random(seed());
  auto original = entry(77, std::string(10'000, 'x') + "end", false);
  original.reset = true;
  original.idle_until = Lsn{99};
  original.lengths = {10'000, 3};
  const auto frame = entry_frame(original);
  CHECK(frame.size() < 500);  // compressed
  const auto payload = frame_payload(frame);
  REQUIRE(payload);
  const auto again = decode_entry(*payload);
  CHECK(again.bytes == original.bytes);
  CHECK(again.lengths == original.lengths);
  CHECK(again.reset);
  CHECK_FALSE(again.drained);
  CHECK_FALSE(again.whole);
  CHECK(again.idle_until == Lsn{99});
  CHECK(again.end_lsn == Lsn{77});
  for (int i = 0; i < 2'000; ++i) {
    auto broken = frame;
    broken[random() % broken.size()] ^= static_cast<char>(1U << (random() % 8));
    CHECK_FALSE(frame_payload(broken));
  }
  CHECK_THROWS_AS(decode_entry(*payload, 10'002), base::DecodeError);
}

TEST_CASE("what is appended is read in order over rotations, while it is written and after a new start") {
  const Place place;
  const int count = 400;
  {
    Journal journal(place.options(1'000), Lsn{10});
    Reader reader(journal, Lsn{10});
    std::jthread writer([&] {
      for (int i = 1; i <= count; ++i) {
        if (journal.wants_rotation()) {
          journal.rotate(context());
        }
        journal.append(entry(10 + static_cast<std::uint64_t>(i), "message " + std::to_string(i)));
      }
    });
    for (int i = 1; i <= count; ++i) {
      const auto next = reader.next(Deadline::in(milliseconds(20'000)));
      REQUIRE(next);
      CHECK(next->bytes == "message " + std::to_string(i));
      CHECK_FALSE(next->context);
    }
    CHECK_FALSE(reader.more());
    CHECK_FALSE(reader.next(Deadline::in(milliseconds(1))));
    writer.join();
    CHECK(journal.synced() < journal.end());
    CHECK(journal.sync() == Lsn{10 + count});
    CHECK(journal.synced() == Lsn{10 + count});
  }
  CHECK(segment_paths(place.path()).size() > 5);
  Journal again(place.options(), Lsn{50});
  CHECK(again.end() == Lsn{10 + count});
  // Not from the beginning, but with everything behind 50; the relations of the segment come first.
  Reader reader(again, Lsn{50});
  auto next = reader.next(Deadline::in(milliseconds(0)));
  REQUIRE(next);
  CHECK(next->context);
  next = reader.next(Deadline::in(milliseconds(0)));
  REQUIRE(next);
  CHECK(next->end_lsn > Lsn{11});
  CHECK(next->end_lsn <= Lsn{51});
  int seen = 1;
  while (const auto more = reader.next(Deadline::in(milliseconds(0)))) {
    CHECK_FALSE(more->context);
    ++seen;
  }
  CHECK(seen >= count - 40);
}

TEST_CASE("what the target has is removed, and a journal that is behind the target begins anew") {
  const Place place;
  {
    Journal journal(place.options(500), Lsn{10});
    for (std::uint64_t i = 11; i <= 100; ++i) {
      if (journal.wants_rotation()) {
        journal.rotate(context());
      }
      journal.append(entry(i, "0123456789"));
    }
    const auto before = segment_paths(place.path()).size();
    REQUIRE(before > 5);
    journal.release(Lsn{9});
    CHECK(segment_paths(place.path()).size() == before);
    journal.release(Lsn{60});
    CHECK(segment_paths(place.path()).size() < before);
    CHECK(journal.begin() > Lsn{11});
    CHECK(journal.begin() <= Lsn{60});
    journal.release(Lsn{1000});
    CHECK(segment_paths(place.path()).size() == 1);
    CHECK(journal.only_one_segment());
    CHECK_THROWS_WITH_AS(Journal(place.options(), Lsn{10}),
                         doctest::Contains("another process uses the spool"), base::StateError);
  }
  CHECK_THROWS_WITH_AS(Journal(place.options(), Lsn{10}), doctest::Contains("changes in between are lost"),
                       base::NeedsOperator);
  auto other = place.options();
  other.identity.slot = "another";
  CHECK_THROWS_WITH_AS(Journal(other, Lsn{100}), doctest::Contains("of another migration"), base::StateError);
  Journal anew(place.options(), Lsn{101});
  CHECK(anew.begin() == Lsn{101});
  CHECK(anew.end() == Lsn{101});
}

TEST_CASE("a transaction is read once it is whole; what is left of one is taken back") {
  const Place place;
  {
    Journal journal(place.options(), Lsn{10});
    Reader reader(journal, Lsn{10});
    journal.append(entry(11, "one"));
    journal.append(entry(11, "begin of two", false));
    CHECK(reader.next(Deadline::in(milliseconds(0)))->bytes == "one");
    CHECK_FALSE(reader.more());
    journal.append(entry(12, "end of two"));
    CHECK(reader.next(Deadline::in(milliseconds(0)))->bytes == "begin of two");
    CHECK(reader.next(Deadline::in(milliseconds(0)))->bytes == "end of two");
    const auto bytes = journal.bytes();
    journal.append(entry(12, "three, lost with its connection", false));
    CHECK(journal.bytes() > bytes);
    journal.drop_unfinished();
    CHECK(journal.bytes() == bytes);
    journal.append(entry(13, "three again"));
    CHECK(reader.next(Deadline::in(milliseconds(0)))->bytes == "three again");
    journal.append(entry(13, "four, lost with us", false));
    CHECK(journal.end() == Lsn{13});
  }
  Journal journal(place.options(), Lsn{13});
  CHECK(journal.end() == Lsn{13});
  CHECK(place.all() == std::vector<std::string>{"one", "begin of two", "end of two", "three again"});
}

TEST_CASE("a tail that was cut off anywhere loses only what was not whole") {
  std::mt19937_64 random(seed());
  for (int round = 0; round < 60; ++round) {
    const Place place;
    std::vector<std::string> texts;
    std::vector<std::uint64_t> ends;  // of the file after each entry
    {
      Journal journal(place.options(), Lsn{10});
      for (std::uint64_t i = 0; i < 20; ++i) {
        texts.push_back(std::string(random() % 300, static_cast<char>('a' + i)));
        journal.append(entry(11 + i, texts.back()));
        ends.push_back(journal.bytes());
      }
    }
    const auto path = segment_paths(place.path()).back();
    auto bytes = read_all(path);
    const auto cut = random() % bytes.size();
    bytes.resize(cut);
    if (round % 2 == 0) {  // a file system that had room reserved
      bytes.append(random() % 500, '\0');
    }
    write_all(path, bytes);
    const auto whole = static_cast<std::size_t>(
        std::count_if(ends.begin(), ends.end(), [&](auto end) { return end <= cut; }));
    texts.resize(whole);
    CHECK(place.all() == texts);
    Journal journal(place.options(), Lsn{10});
    CHECK(journal.end() == Lsn{10 + whole});
    journal.append(entry(500, "after"));
    Reader reader(journal, Lsn{10});
    for (const auto& text : texts) {
      const auto next = reader.next(Deadline::in(milliseconds(0)));
      REQUIRE(next);
      CHECK(next->bytes == text);
    }
    CHECK(reader.next(Deadline::in(milliseconds(0)))->bytes == "after");
    texts.emplace_back("after");
    CHECK(place.all() == texts);  // the cut place is no damage now that something follows it
  }
}

TEST_CASE("a bit that flipped in the middle is refused with the bytes and the positions that are lost") {
  std::mt19937_64 random(seed());
  int at_opening = 0, at_reading = 0, only_footers = 0;
  for (int round = 0; round < 150; ++round) {
    const Place place;
    const auto texts = fill(place, random);
    const auto paths = segment_paths(place.path());
    REQUIRE(paths.size() > 2);
    const auto& path = paths[random() % paths.size()];
    auto bytes = read_all(path);
    // Not in the last frame of all, where it can't be told from a write that was cut off.
    const auto room = path == paths.back() ? bytes.size() - 60 : bytes.size();
    const auto at = random() % room;
    bytes[at] ^= static_cast<char>(1U << (random() % 8));
    write_all(path, bytes);
    bool opened = false;
    try {
      Journal journal(place.options(), Lsn{10});
      opened = true;
      const auto read = read_everything(journal);
      CHECK(read == texts);
      CHECK_MESSAGE((path != paths.back() && at >= bytes.size() - kFooterFrame),
                    "taken, though byte " << at << " of " << path << " is broken");
      ++only_footers;
    } catch (const base::NeedsOperator& error) {
      CHECK_MESSAGE(error.message().find(path) != std::string::npos, error.message());
      CHECK_MESSAGE(error.message().find("changes between 0/") != std::string::npos, error.message());
      CHECK_MESSAGE(error.message().find("are lost") != std::string::npos, error.message());
      CHECK_THROWS_AS(place.all(), base::NeedsOperator);  // who reads it all finds it too
      ++(opened ? at_reading : at_opening);
    }
  }
  MESSAGE(at_opening << " at opening, " << at_reading << " at reading, " << only_footers << " only footers");
  CHECK(at_opening > 0);  // in headers, and in the last one
  CHECK(at_reading > at_opening);
  CHECK(only_footers > 0);
}

TEST_CASE("opening looks at the ends of what is sealed and reads only the last segment") {
  const Place place;
  std::mt19937_64 random(seed());
  constexpr std::uint64_t kEntry = 20'000, kSegments = 30;
  {
    Journal journal(place.options(kEntry), Lsn{10});
    for (std::uint64_t i = 11; i < 11 + kSegments; ++i) {
      std::string noise(kEntry, '\0');
      std::ranges::generate(noise, [&] { return static_cast<char>(random()); });
      journal.append(entry(i, noise));
      journal.rotate(context());
    }
  }
  REQUIRE(segment_paths(place.path()).size() == kSegments + 1);
  const auto before = bytes_read();
  const Journal journal(place.options(), Lsn{10});
  const auto read = bytes_read() - before;
  CHECK(read > kSegments * kFooterFrame);
  CHECK(read < kSegments * 1'000);
  CHECK(journal.bytes() > kSegments * kEntry);
  CHECK(journal.begin() == Lsn{10});
  CHECK(journal.end() == Lsn{10 + kSegments});
}

TEST_CASE("a crash anywhere between a segment's end and the next one's beginning loses nothing") {
  const Place place;
  {
    Journal journal(place.options(), Lsn{10});
    journal.append(entry(11, "one"));
    journal.rotate(context());
    journal.append(entry(12, "two"));
    journal.rotate(context());
  }
  const auto paths = segment_paths(place.path());
  const auto sealed = read_all(paths[1]);
  const auto next = read_all(paths[2]);
  const auto open_and_read = [&] {
    Journal journal(place.options(), Lsn{10});
    CHECK(journal.end() == Lsn{12});
    journal.append(entry(13, "three"));
    CHECK(read_everything(journal) == std::vector<std::string>{"one", "two", "three"});
    CHECK(place.all() == std::vector<std::string>{"one", "two", "three"});
  };
  const auto back_to = [&](const std::string& bytes) {
    for (const auto& path : segment_paths(place.path())) {
      if (path > paths[1]) {
        fs::remove(path);
      }
    }
    write_all(paths[1], bytes);
  };
  for (std::size_t cut = 0; cut <= kFooterFrame; ++cut) {
    back_to(sealed.substr(0, sealed.size() - cut));
    open_and_read();
  }
  const auto header = kFrameHead + frame_payload(next)->size();
  for (std::size_t cut = 0; cut <= header; ++cut) {
    back_to(sealed);
    write_all(paths[2], next.substr(0, cut));
    open_and_read();
  }
  // Damage in front of a footer is none of a write that was cut off.
  auto broken = sealed;
  broken[sealed.size() - kFooterFrame - 3] ^= 1;
  back_to(broken);
  CHECK_THROWS_WITH_AS(Journal(place.options(), Lsn{10}),
                       doctest::Contains("changes between 0/B and 0/C are lost"), base::NeedsOperator);
}

TEST_CASE("a footer that lies or is missing makes its segment be read; an older format has none") {
  std::mt19937_64 random(seed());
  const Place place;
  const auto texts = fill(place, random);
  const auto paths = segment_paths(place.path());
  const auto path = paths[1];
  const auto bytes = read_all(path);
  const auto content = bytes.substr(0, bytes.size() - kFooterFrame);
  const auto truth = decode_footer(std::string_view(bytes).substr(content.size()));
  REQUIRE(truth);
  const auto expect_all = [&] {
    Journal journal(place.options(), Lsn{10});
    CHECK(journal.end() == Lsn{60});
    CHECK(read_everything(journal) == texts);
  };
  write_all(path, content);
  expect_all();
  for (int field = 0; field < 6; ++field) {
    auto lie = *truth;
    lie.number += field == 0 ? 1 : 0;
    lie.end_lsn.value += field == 1 ? 1 : 0;
    lie.end_lsn.value -= field == 2 ? 1 : 0;
    lie.bytes -= field == 3 ? 1 : 0;
    lie.entries += field == 4 ? 1 : 0;
    lie.chain += field == 5 ? 1 : 0;
    write_all(path, content + footer_frame(lie));
    expect_all();
    CHECK(place.all() == texts);
  }
  // What it says fits, what is in front of it doesn't: found by who reads.
  const auto cut = content.size() - last_frame(content);
  auto shorter = *truth;
  shorter.bytes = cut;
  write_all(path, content.substr(0, cut) + footer_frame(shorter));
  Journal(place.options(), Lsn{10});
  {
    Journal journal(place.options(), Lsn{10});
    CHECK_THROWS_WITH_AS(read_everything(journal), doctest::Contains("are lost"), base::NeedsOperator);
  }
  write_all(path, content.substr(0, cut));
  CHECK_THROWS_WITH_AS(Journal(place.options(), Lsn{10}), doctest::Contains("there is something missing"),
                       base::NeedsOperator);
  for (const auto& one : paths) {  // as an older program left it; then as a newer one
    rewrite_as(one, 1);
  }
  write_all(path, with_version(content, 1));
  expect_all();
  expect_all();
  rewrite_as(path, 3);
  CHECK_THROWS_WITH_AS(Journal(place.options(), Lsn{10}), doctest::Contains("version 3 of the format"),
                       base::DecodeError);
}

TEST_CASE("a segment that is missing is named with the positions that are lost") {
  const Place place;
  {
    Journal journal(place.options(100), Lsn{10});
    for (std::uint64_t i = 11; i < 30; ++i) {
      journal.append(entry(i, "0123456789"));
      journal.rotate(context());
    }
  }
  fs::remove(segment_paths(place.path())[3]);
  CHECK_THROWS_WITH_AS(Journal(place.options(), Lsn{10}),
                       doctest::Contains("changes between 0/D and 0/E are lost"), base::NeedsOperator);
}

TEST_CASE("a directory that can't be made, and a disk that is full, are named") {
  auto options = Place{}.options();  // its parent is gone
  CHECK_THROWS_WITH_AS(Journal(options, Lsn{1}), doctest::Contains("can't make the directory"), base::Error);
  if (fs::exists("/dev/full")) {
    SegmentFile full("/dev/full", SegmentFile::Mode::append);
    CHECK_THROWS_WITH_AS(full.append("x"), doctest::Contains("No space left"), base::Error);
  }
}

TEST_CASE("a directory with other things in it isn't taken, and stays as it is") {
  const Place place;
  fs::create_directory(place.path());
  fs::permissions(place.path(), fs::perms{0755});
  fs::create_directory(fs::path(place.path()) / "lost+found");  // a file system of its own
  std::ofstream(fs::path(place.path()) / "precious") << "x";
  CHECK_THROWS_WITH_AS(Journal(place.options(), Lsn{1}),
                       doctest::Contains("has other things in it: precious"), base::UsageError);
  CHECK(fs::status(place.path()).permissions() == fs::perms{0755});
  fs::remove(fs::path(place.path()) / "precious");
  { const Journal journal(place.options(), Lsn{1}); }
  CHECK(fs::status(place.path()).permissions() == fs::perms::owner_all);
  const Journal again(place.options(), Lsn{1});
}

TEST_CASE("nothing counts as durable in a file that somebody removed") {
  const Place place;
  Journal journal(place.options(), Lsn{10});
  journal.append(entry(11, "kept"));
  CHECK(journal.sync() == Lsn{11});
  fs::remove_all(place.path());
  journal.append(entry(12, "lost"));
  CHECK_THROWS_WITH_AS(journal.sync(), doctest::Contains("was removed while it was being written"),
                       base::Error);
  CHECK(journal.synced() == Lsn{11});
}

}  // namespace
}  // namespace replication::journal

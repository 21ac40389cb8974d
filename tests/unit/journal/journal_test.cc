// The journal on a real directory: what is written comes back, what is cut off is dropped, what is damaged is
// refused.
#include "replication/journal/journal.h"

#include <algorithm>
#include <cstdlib>
#include <doctest/doctest.h>
#include <filesystem>
#include <random>
#include <thread>

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
    std::string name = (fs::temp_directory_path() / "pgcutover-journal-XXXXXX").string();
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
  for (int round = 0; round < 60; ++round) {
    const Place place;
    {
      Journal journal(place.options(1'000), Lsn{10});
      for (std::uint64_t i = 0; i < 40; ++i) {
        if (journal.wants_rotation()) {
          journal.rotate(context());
        }
        journal.append(entry(11 + i, "message " + std::to_string(random())));
      }
      journal.append(entry(60, "the last one of all"));
    }
    const auto paths = segment_paths(place.path());
    REQUIRE(paths.size() > 2);
    const auto& path = paths[random() % paths.size()];
    auto bytes = read_all(path);
    // Not in the last frame of all, where it can't be told from a write that was cut off.
    const auto room = path == paths.back() ? bytes.size() - 60 : bytes.size();
    const auto at = random() % room;
    bytes[at] ^= static_cast<char>(1U << (random() % 8));
    write_all(path, bytes);
    try {
      Journal journal(place.options(), Lsn{10});
      FAIL("taken, though byte " << at << " of " << path << " is broken");
    } catch (const base::NeedsOperator& error) {
      CHECK_MESSAGE(error.message().find(path) != std::string::npos, error.message());
      CHECK_MESSAGE(error.message().find("changes between 0/") != std::string::npos, error.message());
      CHECK_MESSAGE(error.message().find("are lost") != std::string::npos, error.message());
    } catch (const base::StateError& error) {
      FAIL(error.message());
    }
  }
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

}  // namespace
}  // namespace replication::journal

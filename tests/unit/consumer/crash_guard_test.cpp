#include "consumer/crash_guard.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <pgque/error.hpp>

#include "child_process.hpp"
#include "unit_support.hpp"

namespace pgque::test {
namespace {

using detail::CrashGuardFile;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;
using Found = std::vector<std::pair<std::int64_t, int>>;

constexpr std::size_t whole_size = std::size_t{132} * 1024;
// Where things are in the file.
constexpr std::size_t version_at = 8, run_at = 1056, slots_at = 4096, suspects_at = slots_at + std::size_t{1024} * 64;

// A directory of its own, and crash guards in it.
class CrashGuardTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "pgque_guard_XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    path_ = directory_ + "/orders.guard";
  }
  void TearDown() override {
    for (const auto* const name : {"/orders.guard", "/other.guard", "/link"}) ::unlink((directory_ + name).c_str());
    EXPECT_EQ(::rmdir(directory_.c_str()), 0) << "a guard has left something behind";
  }

  const std::string& path() const { return path_; }
  std::string path_of(const std::string& name) const { return directory_ + '/' + name; }
  CrashGuard options(std::int32_t crashes = 3) const { return {path_, crashes}; }
  std::unique_ptr<CrashGuardFile> open(std::int32_t crashes = 3) const {
    return std::make_unique<CrashGuardFile>(options(crashes), "orders", "worker");
  }
  // What start() would throw; empty if it would not.
  std::string refused(const std::string& path, const std::string& queue = "orders",
                      const std::string& consumer = "worker") const {
    try {
      const CrashGuardFile guard{{path, 3}, queue, consumer};
      return "";
    } catch (const Error& error) {
      EXPECT_FALSE(error.retryable());
      return error.what();
    }
  }
  std::string refused() const { return refused(path_); }

  // A process that ends while these messages are handled, each on a thread of its own.
  void crash(const std::vector<std::int64_t>& ids) const {
    const int code = in_child([&]() -> int {
      const auto guard = open();
      std::vector<std::unique_ptr<CrashGuardFile::InFlight>> in_flight;
      for (const auto id : ids) {
        in_flight.push_back(std::make_unique<CrashGuardFile::InFlight>(guard.get(), in_flight.size(), EventId{id}));
      }
      ::_exit(42);
    });
    ASSERT_EQ(code, 42);
  }
  static Found found(const CrashGuardFile& guard) {
    Found found;
    for (const auto& suspect : guard.found()) {
      found.emplace_back(static_cast<std::int64_t>(suspect.msg_id), suspect.crashes);
    }
    return found;
  }

  std::string content() const {
    // Not through iterators, for which the optimiser of GCC 12 warns of null pointers.
    std::ostringstream bytes;
    bytes << std::ifstream{path_, std::ios::binary}.rdbuf();
    return bytes.str();
  }
  void write(const std::string& content) const {
    std::ofstream file{path_, std::ios::binary | std::ios::trunc};
    file << content;
    ASSERT_TRUE(file.flush());
  }
  static void put(std::string& content, std::size_t at, std::uint64_t word) {
    std::memcpy(content.data() + at, &word, sizeof word);
  }
  void put(std::size_t at, std::uint64_t word) const {
    auto changed = content();
    put(changed, at, word);
    write(changed);
  }

 private:
  std::string directory_;
  std::string path_;
};

TEST_F(CrashGuardTest, MakesAFileForItsUserAlone) {
  EXPECT_THAT(found(*open()), IsEmpty());
  struct stat status {};
  ASSERT_EQ(::stat(path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
  EXPECT_EQ(static_cast<std::size_t>(status.st_size), whole_size);
  EXPECT_GE(static_cast<std::size_t>(status.st_blocks) * 512, whole_size) << "its blocks are allocated";
  EXPECT_THAT(found(*open()), IsEmpty());
}

// So is a file that a process has only begun to make.
TEST_F(CrashGuardTest, TakesAFileThatIsEmptyOrHasNothingButZeros) {
  for (const std::size_t size : {std::size_t{0}, std::size_t{4096}, whole_size}) {
    write(std::string(size, '\0'));
    EXPECT_THAT(found(*open()), IsEmpty()) << size;
    EXPECT_EQ(content().size(), whole_size);
    EXPECT_EQ(content().substr(0, 8), "pgqcrash");
  }
}

TEST_F(CrashGuardTest, CountsHowOftenTheProcessEndedWhileAMessageWasHandled) {
  for (int crashes = 1; crashes <= 3; ++crashes) {
    crash({7});
    const auto guard = open();
    EXPECT_THAT(found(*guard), ElementsAre(Pair(7, crashes)));
    EXPECT_TRUE(guard->suspects(EventId{7}));
    EXPECT_FALSE(guard->suspects(EventId{8}));
    EXPECT_EQ(guard->refusal(EventId{7}),
              crashes < 3 ? "" : "crash_guard: the process ended 3 times while this message was handled");
  }
  EXPECT_THAT(found(*open()), IsEmpty()) << "it was not in flight this time";
  EXPECT_NE(open()->refusal(EventId{7}), "") << "and is still refused";
  EXPECT_EQ(open(4)->refusal(EventId{7}), "");
}

TEST_F(CrashGuardTest, ForgetsASuspectThatSurvives) {
  crash({7, 8});
  {
    const auto guard = open();
    EXPECT_THAT(found(*guard), ElementsAre(Pair(7, 1), Pair(8, 1)));
    { const CrashGuardFile::InFlight handler{guard.get(), 0, EventId{7}}; }
    EXPECT_FALSE(guard->suspects(EventId{7}));
    EXPECT_TRUE(guard->suspects(EventId{8}));
  }
  crash({7});
  const auto guard = open();
  EXPECT_THAT(found(*guard), ElementsAre(Pair(7, 1)));
  EXPECT_TRUE(guard->suspects(EventId{8}));
}

TEST_F(CrashGuardTest, DoesNotBlameTheMessageThatStandsForSeveral) {
  ASSERT_EQ(in_child([&]() -> int {
              const auto guard = open();
              const CrashGuardFile::InFlight handler{guard.get(), 0, EventId{7}, true};
              ::_exit(42);
            }),
            42);
  const auto guard = open(1);
  EXPECT_THAT(found(*guard), ElementsAre(Pair(7, 1)));
  EXPECT_EQ(guard->refusal(EventId{7}), "") << "it may have been another of them";
}

TEST_F(CrashGuardTest, ASuspectThatComesAgainHasNotSurvived) {
  crash({7});
  const auto guard = open();
  {
    CrashGuardFile::InFlight handler{guard.get(), 0, EventId{7}};
    handler.comes_again();
  }
  EXPECT_TRUE(guard->suspects(EventId{7}));
  { const CrashGuardFile::InFlight callback{guard.get(), 0, EventId{7}}; }
  EXPECT_FALSE(guard->suspects(EventId{7}));
}

TEST_F(CrashGuardTest, KnowsNothingOfAMessageWhoseHandlerEnded) {
  ASSERT_EQ(in_child([&]() -> int {
              const auto guard = open();
              { const CrashGuardFile::InFlight handler{guard.get(), 5, EventId{7}}; }
              ::_exit(42);
            }),
            42);
  const auto guard = open();
  EXPECT_THAT(found(*guard), IsEmpty());
  EXPECT_FALSE(guard->suspects(EventId{7}));
}

TEST_F(CrashGuardTest, RefusesNoMessageThatWasNeverAloneInFlight) {
  crash({7, 8});
  {
    const auto guard = open(1);
    EXPECT_EQ(guard->refusal(EventId{7}), "");
    EXPECT_EQ(guard->refusal(EventId{8}), "");
  }
  crash({8});
  const auto guard = open(1);
  EXPECT_EQ(guard->refusal(EventId{7}), "");
  EXPECT_EQ(guard->refusal(EventId{8}), "crash_guard: the process ended 2 times while this message was handled");
}

TEST_F(CrashGuardTest, RefusesAfterOneCrashIfThatIsTheLimit) {
  crash({7});
  EXPECT_EQ(open(1)->refusal(EventId{7}), "crash_guard: the process ended once while this message was handled");
}

TEST_F(CrashGuardTest, HasAPlaceForEachThreadAndCountsAMessageOnceThatIsInFlightTwice) {
  std::vector<std::int64_t> ids;
  for (int i = 1; i <= 1024; ++i) ids.push_back(i);
  ids[1023] = 1;
  crash(ids);
  const auto guard = open();
  EXPECT_EQ(guard->found().size(), 1023U);
  EXPECT_TRUE(std::all_of(guard->found().begin(), guard->found().end(),
                          [](const auto& suspect) { return suspect.crashes == 1; }));
}

TEST_F(CrashGuardTest, ForgetsTheOldestSuspectsWhenItIsFull) {
  constexpr std::int64_t each = 1024;
  for (std::int64_t round = 0; round < 5; ++round) {
    std::vector<std::int64_t> ids;
    for (std::int64_t i = 1; i <= each; ++i) ids.push_back(round * each + i);
    crash(ids);
  }
  const auto guard = open();
  for (std::int64_t id = 1; id <= 5 * each; ++id) ASSERT_EQ(guard->suspects(EventId{id}), id > each) << id;
}

// The process ended when it had counted the crash and had not yet cleared what was in flight.
TEST_F(CrashGuardTest, CountsACrashOnceThoughTheProcessEndsInTheMiddleOfIt) {
  crash({7});
  const auto before = content();
  { const auto guard = open(); }
  put(slots_at, 7);
  auto changed = content();
  std::memcpy(changed.data() + run_at, before.data() + run_at, 8);
  write(changed);
  EXPECT_THAT(found(*open()), ElementsAre(Pair(7, 1)));
  crash({7});
  EXPECT_THAT(found(*open()), ElementsAre(Pair(7, 2)));
}

TEST_F(CrashGuardTest, RefusesAForeignFileAndLeavesItAlone) {
  for (const auto& foreign : {std::string{"x"}, std::string{"a line\n"}, std::string(whole_size, 'x'),
                              std::string(whole_size + 1, '\0'), std::string(whole_size - 1, '\0') + 'x'}) {
    write(foreign);
    EXPECT_THAT(refused(), AllOf(HasSubstr("crash_guard \"" + path() + "\": "), HasSubstr("is not a crash guard"),
                                 HasSubstr("choose another path")));
    EXPECT_EQ(content(), foreign);
  }
}

TEST_F(CrashGuardTest, RefusesADamagedFileAndLeavesItAlone) {
  { const auto guard = open(); }
  const auto whole = content();
  const auto changed = [&](std::size_t at, std::uint64_t word) {
    auto out = whole;
    put(out, at, word);
    return out;
  };
  auto twice = changed(suspects_at, 7);
  put(twice, suspects_at + 8, 1);
  put(twice, suspects_at + 16, 7);
  put(twice, suspects_at + 24, 1);
  for (const auto& damaged : {whole.substr(0, 8), whole.substr(0, 1000), whole.substr(0, whole_size - 1), whole + '\0',
                              changed(16, 1),                        // the checksum
                              changed(100, 1),                       // what it is of
                              changed(slots_at, ~std::uint64_t{0}),  // no message has that id
                              changed(suspects_at + 160, ~std::uint64_t{0}),
                              changed(suspects_at + 160, 7),  // a suspect that has never crashed
                              twice}) {
    write(damaged);
    EXPECT_THAT(refused(), AllOf(HasSubstr("crash_guard \"" + path() + "\": "), HasSubstr("damaged; delete it")));
    EXPECT_EQ(content(), damaged);
  }
  write(whole);
  EXPECT_EQ(refused(), "");
}

TEST_F(CrashGuardTest, RefusesTheFileOfAnotherVersion) {
  { const auto guard = open(); }
  put(version_at, 2);
  const auto before = content();
  EXPECT_THAT(refused(), AllOf(HasSubstr("another version of this library"), HasSubstr("delete the file")));
  EXPECT_EQ(content(), before);
}

TEST_F(CrashGuardTest, RefusesTheFileOfAnotherConsumer) {
  { const auto guard = open(); }
  const auto before = content();
  for (const auto& [queue, consumer] : std::vector<std::pair<std::string, std::string>>{
           {"invoices", "worker"}, {"orders", "worker.a"}, {"orders", std::string(3000, 'w')}}) {
    EXPECT_THAT(refused(path(), queue, consumer),
                AllOf(HasSubstr("belongs to queue \"orders\", consumer \"worker\""), HasSubstr("a file of its own")));
    EXPECT_EQ(content(), before);
  }
}

TEST_F(CrashGuardTest, TellsLongNamesApart) {
  const std::string long_name(3000, 'w');
  { const CrashGuardFile guard{options(), "orders", long_name}; }
  EXPECT_EQ(refused(path(), "orders", long_name), "");
  EXPECT_THAT(refused(path(), "orders", long_name + 'w'), HasSubstr("belongs to queue \"orders\", consumer \"www"));
}

TEST_F(CrashGuardTest, RefusesWhatIsNoFileWithoutOpeningIt) {
  EXPECT_THAT(refused(path_of("")), AllOf(HasSubstr("this is a directory"), HasSubstr("choose the path of a file")));
  ASSERT_EQ(::mkfifo(path().c_str(), 0600), 0);
  EXPECT_THAT(refused(), HasSubstr("this is not a regular file"));
}

TEST_F(CrashGuardTest, SaysThatItsDirectoryIsMissing) {
  EXPECT_THAT(refused(path_of("missing/orders.guard")),
              AllOf(HasSubstr("missing/orders.guard\": No such file or directory"), HasSubstr("choose the path")));
}

TEST_F(CrashGuardTest, SaysThatItMayNotReadOrWriteTheFile) {
  { const auto guard = open(); }
  ASSERT_EQ(::chmod(path().c_str(), 0400), 0);
  ASSERT_EQ(::chmod(path_of("").c_str(), 0711), 0);
  const int failed = in_child([&] {
    Checks check;
    if (::geteuid() == 0) check(::setuid(65534) == 0);  // who may do everything is refused nothing
    check(refused().find("orders.guard\": Permission denied; choose the path") != std::string::npos);
    check(refused(path_of("other.guard")).find("Permission denied") != std::string::npos || ::geteuid() != 65534);
    return check.result();
  });
  EXPECT_EQ(failed, 0);
}

// The limit of a file's size stands for a full disk, which a test cannot make.
TEST_F(CrashGuardTest, ADiskWithoutRoomIsAnErrorAndNoSignalLater) {
  const int failed = in_child([&] {
    Checks check;
    const SignalHandler ignored{SIGXFSZ, SIG_IGN};
    const rlimit limit{whole_size / 2, RLIM_INFINITY};
    check(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
    check(refused().find("orders.guard\": File too large; it needs 132 KiB; make room") != std::string::npos);
    check(content().empty());
    return check.result();
  });
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(refused(), "");
}

TEST_F(CrashGuardTest, BelongsToOneProcessAtATime) {
  const auto guard = open();
  const auto expected = "process " + std::to_string(::getpid()) + " has it; give each consumer of each process a file";
  EXPECT_EQ(in_child([&] {
              Checks check;
              check(refused().find(expected) != std::string::npos);
              check(refused().find(expected) != std::string::npos);  // and the refusal has not unlocked it
              return check.result();
            }),
            0);
}

TEST_F(CrashGuardTest, BelongsToOneConsumerOfTheProcessAtATimeByWhateverPath) {
  auto guard = open();
  ASSERT_EQ(::symlink(path().c_str(), path_of("link").c_str()), 0);
  ASSERT_EQ(::link(path().c_str(), path_of("other.guard").c_str()), 0);
  for (const auto& same : {path(), path_of("link"), path_of("other.guard")}) {
    EXPECT_THAT(refused(same), HasSubstr("another consumer of this process has it"));
  }
  EXPECT_EQ(in_child([&] { return refused().empty() ? 1 : 0; }), 0) << "a refusal has unlocked it";
  guard.reset();
  EXPECT_EQ(refused(), "");
}

TEST_F(CrashGuardTest, IsFreeWhenItsProcessHasEndedThoughAChildOfItLives) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const int code = in_child([&]() -> int {
    const auto guard = open();
    const CrashGuardFile::InFlight handler{guard.get(), 0, EventId{7}};
    static_cast<void>(make_child([&]() -> int {
      ::close(ends[1]);
      char byte = 0;
      return static_cast<int>(::read(ends[0], &byte, 1));  // until this test ends
    }));
    ::_exit(42);
  });
  EXPECT_EQ(code, 42);
  EXPECT_THAT(found(*open()), ElementsAre(Pair(7, 1)));
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_F(CrashGuardTest, IsNotChangedByAChildThatReturnsFromAHandler) {
  const int code = in_child([&]() -> int {
    const auto guard = open();
    auto handler = std::make_unique<CrashGuardFile::InFlight>(guard.get(), 0, EventId{7});
    const int of_child = in_child([&] {
      handler.reset();
      return 0;
    });
    ::_exit(of_child == 0 ? 42 : 1);
  });
  EXPECT_EQ(code, 42);
  EXPECT_THAT(found(*open()), ElementsAre(Pair(7, 1)));
}

TEST_F(CrashGuardTest, AChildMayHaveOneOfItsOwn) {
  const auto guard = open();
  const CrashGuardFile::Turn turn{[] { return true; }};
  EXPECT_EQ(in_child([&] {
              Checks check;
              check(refused(path_of("other.guard")).empty());
              check(CrashGuardFile::Turn{[] { return false; }}.has_come());  // its parent's is not in its way
              return check.result();
            }),
            0);
}

TEST(CrashGuardTurn, IsNotWaitedForLongerThanItsPatience) {
  const CrashGuardFile::Turn turn{[] { return true; }};
  ASSERT_TRUE(turn.has_come());
  const CrashGuardFile::Turn other{[] { return true; }, 10ms};
  EXPECT_FALSE(other.has_come());
}

TEST(CrashGuardTurn, ComesWhenThatOfAnotherIsOver) {
  auto turn = std::make_unique<CrashGuardFile::Turn>([] { return true; });
  ASSERT_TRUE(turn->has_come());
  EXPECT_FALSE(CrashGuardFile::Turn{[] { return false; }}.has_come());
  std::atomic<bool> waits{false};
  std::atomic<bool> over{false};
  bool in_order = false;
  std::thread other{[&] {
    const CrashGuardFile::Turn its_turn{[&] { return waits = true; }};
    in_order = its_turn.has_come() && over;
  }};
  while (!waits) std::this_thread::yield();
  over = true;
  turn.reset();
  other.join();
  EXPECT_TRUE(in_order);
}

}  // namespace
}  // namespace pgque::test

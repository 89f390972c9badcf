// What killed processes leave behind.

#include <cerrno>
#include <csignal>

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kit_fixture.hpp"

namespace kit {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class SweepTest : public KitTest {
 protected:
  // For this test alone.
  std::string prefix() const { return "kit_" + std::to_string(::getpid()) + "_swept"; }
  // A process that is killed while it tests; returns the name of its queue, which then nobody uses.
  std::string killed_run(const QueueOptions& options) {
    int names[2];
    if (::pipe(names) != 0) throw std::runtime_error{"pipe"};
    const auto child = ::fork();
    if (child == 0) {
      const Queue queue{pgque::test::dsn_with({{"application_name", options.prefix}}, dsn()), options};
      const auto written = ::write(names[1], queue.name().data(), queue.name().size());
      ::close(names[1]);
      if (written > 0) ::raise(SIGKILL);
      ::_exit(1);
    }
    ::close(names[1]);
    char name[64];
    const auto size = ::read(names[0], name, sizeof name);
    ::close(names[0]);
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    EXPECT_TRUE(WIFSIGNALED(status));
    const std::string killed(name, static_cast<std::size_t>(size));
    // The server notices the end of the sessions by itself.
    EXPECT_TRUE(pgque::test::wait_until([&] {
      return sql().number("select count(*) from pg_stat_activity where application_name = " +
                          sql().quote(options.prefix)) == 0;
    }));
    return killed;
  }
};

TEST_F(SweepTest, DropsWhatAKilledRunHasMadeAndNothingElse) {
  QueueOptions options;
  options.prefix = prefix();
  options.others = {other_name()};
  const auto dead = killed_run(options);
  const Queue alive{dsn(), options};
  EXPECT_TRUE(exists(dead));
  EXPECT_THAT(pgque::testing::sweep(dsn(), 1h, options.prefix), IsEmpty()) << "too young";
  EXPECT_THAT(pgque::testing::sweep(dsn(), 0s, "kit_other"), IsEmpty()) << "another prefix";
  EXPECT_THAT(pgque::testing::sweep(dsn(), 0s, options.prefix), ElementsAre(dead));
  EXPECT_FALSE(exists(dead));
  EXPECT_TRUE(exists(alive.name()));
  EXPECT_TRUE(exists(other_name())) << "the living object uses it";
}

TEST_F(SweepTest, DropsTheOtherQueuesOfAKilledRun) {
  QueueOptions options;
  options.prefix = prefix();
  options.others = {other_name()};
  const auto dead = killed_run(options);
  EXPECT_TRUE(exists(other_name()));
  EXPECT_THAT(pgque::testing::sweep(dsn(), 0s, options.prefix), ::testing::UnorderedElementsAre(dead, other_name()));
  EXPECT_FALSE(exists(other_name()));
}

}  // namespace
}  // namespace kit

#include "consumer/failures.hpp"

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pgque::test {
namespace {

using detail::Failures;
using testing::HasSubstr;
using testing::SizeIs;

class FailuresTest : public testing::Test {
 protected:
  static Message of_size(std::size_t bytes) {
    Message message;
    message.type = "t";
    message.payload = std::string(bytes - 1, 'x');
    return message;
  }

  struct Line {
    std::string text;
    std::optional<std::chrono::seconds> retry_in;
  };
  std::vector<Line> lines;

 private:
  ConsumerOptions options_;
  detail::HomeProcess home_;
  detail::Logger logger_{[this](const LogRecord& record) {
                           lines.push_back({std::string{record.message}, record.retry_in});
                         },
                         "q", "c"};

 protected:
  Failures failures{options_, home_, logger_};
};

TEST_F(FailuresTest, NoMoreThan64MiBAreGivenUpAtOnce) {
  constexpr std::size_t mebibyte = 1 << 20;
  const detail::Verdict given_up{"no such product", {}, true};
  EXPECT_TRUE(failures.failed(of_size(40 * mebibyte), given_up).given_up);
  const auto refused = failures.failed(of_size(25 * mebibyte), given_up);
  EXPECT_FALSE(refused.given_up);
  EXPECT_EQ(refused.reason, "no such product");
  EXPECT_TRUE(failures.failed(of_size(24 * mebibyte), given_up).given_up);
  ASSERT_THAT(lines, SizeIs(3));
  EXPECT_EQ(lines[0].retry_in, std::nullopt);
  EXPECT_EQ(lines[1].retry_in, std::chrono::seconds{60});
  EXPECT_THAT(lines[1].text, HasSubstr("it is nacked, because no more than 64 MiB of a batch"));
  failures.forget_given_up();
  EXPECT_TRUE(failures.failed(of_size(64 * mebibyte), given_up).given_up);
}

TEST_F(FailuresTest, AMessageIsCondemnedForOneAttempt) {
  auto message = of_size(1);
  failures.condemn(message, {"no room"});
  ASSERT_NE(failures.condemned(message), nullptr);
  EXPECT_EQ(failures.condemned(message)->reason, "no room");
  message.retry_count = 1;
  EXPECT_EQ(failures.condemned(message), nullptr);
  message.retry_count.reset();
  failures.pardon_all();
  EXPECT_EQ(failures.condemned(message), nullptr);
}

}  // namespace
}  // namespace pgque::test

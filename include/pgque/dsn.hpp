#pragma once

/// @file
/// Where to connect: a fixed DSN, or a function that is asked for one.

#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace pgque {

/// A `postgresql://` URI or `key=value` settings, as libpq takes them; or a function that returns either of these, for
/// passwords that expire, such as the tokens of managed servers. The function is asked at each connect.
///
/// Everything that connects takes a `Dsn`, so that a string or a function can be given directly:
///
/// ```cpp
/// pgque::Consumer consumer{[] { return "host=db.example.com user=app password=" + fresh_token(); }, options};
/// ```
///
/// The function runs on the thread that connects. A cooperative consumer and a ticker connect from two threads, so
/// their function must be safe to call from both at once. If the function throws, the attempt to connect has failed
/// with `ConnectionError`, and the next attempt asks it again. That error has the exception's text, which must not
/// contain the password. The function is not waited for with a limit: it has to return in reasonable time by itself.
///
/// **Thread safety.** Constant functions may be called from any thread.
class Dsn {
 public:
  /// Nothing is given: libpq connects as its defaults and the environment say.
  Dsn() = default;

  /// A fixed DSN, from anything that converts to `std::string_view`. It is checked only by what connects with it.
  /// @throws std::invalid_argument if it is a null pointer, as `std::getenv()` returns for a variable that is not set
  template <
      class Text,
      std::enable_if_t<std::is_convertible_v<const Text&, std::string_view> || std::is_null_pointer_v<Text>, int> = 0>
  Dsn(const Text& text) : text_{string_of(text)} {}  // NOLINT(google-explicit-constructor)

  /// A function that is asked for the DSN at each connect. It takes nothing and returns a string; a null pointer that
  /// it returns fails the attempt to connect.
  /// @throws std::invalid_argument if it is an empty std::function or a null pointer
  template <class Function, std::enable_if_t<std::is_invocable_r_v<std::string, Function&> &&
                                                 !std::is_convertible_v<const Function&, std::string_view>,
                                             int> = 0>
  Dsn(Function function) {  // NOLINT(google-explicit-constructor)
    using Text = std::invoke_result_t<Function&>;
    if constexpr (std::is_pointer_v<Text>) {
      std::function<Text()> ask{std::move(function)};
      if (ask) function_ = [ask = std::move(ask)] { return string_of(ask()); };
    } else {
      function_ = std::move(function);
    }
    if (!function_) throw std::invalid_argument{"dsn: the function must not be empty"};
  }

  /// Whether it is a function.
  bool is_function() const noexcept { return static_cast<bool>(function_); }
  /// Whether neither a function nor any text was given.
  bool empty() const noexcept { return !function_ && text_.empty(); }

  /// The DSN for the next connection. May contain a password.
  /// @throws whatever the function throws
  std::string operator()() const { return function_ ? function_() : text_; }

 private:
  template <class Text>
  static std::string string_of(const Text& text) {
    if constexpr (std::is_null_pointer_v<Text>) {
      return string_of(static_cast<const char*>(nullptr));
    } else {
      if constexpr (std::is_pointer_v<Text>) {
        if (!text) throw std::invalid_argument{"dsn: is a null pointer; is the environment variable set?"};
      }
      return std::string{std::string_view{text}};
    }
  }

  std::string text_{};
  std::function<std::string()> function_{};
};

}  // namespace pgque

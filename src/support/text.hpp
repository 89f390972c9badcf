#pragma once

// Checks of the text that callers hand in, and of text that comes from elsewhere.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace pgque::detail {

// Offset of the first byte that is NUL or not part of valid UTF-8.
std::optional<std::size_t> first_invalid_byte(std::string_view text) noexcept;

// Throws std::invalid_argument, naming the argument, unless PostgreSQL can store the text.
void check_text(std::string_view argument, std::string_view text);
// The same for names: not empty, and no DSN, which is not shown; a queue name has at most 57 bytes, so that its
// notification channel fits.
void check_queue(std::string_view name);
void check_consumer(std::string_view argument, std::string_view name);
// Whether it looks like a DSN, be it a URI or key=value settings, and so may have a password in it.
bool looks_like_dsn(std::string_view text) noexcept;

// Valid UTF-8 without NUL in at most `longest` bytes: invalid bytes are replaced by U+FFFD, and a text that is too long
// is cut.
std::string sanitized(std::string_view text, std::size_t longest);

bool is_ascii(std::string_view text) noexcept;
// Valid UTF-8 with a question mark for each character that is not ASCII.
std::string ascii_only(std::string_view text);

}  // namespace pgque::detail

#pragma once

// Whether a text is JSON, at any depth and with numbers of any size, as PostgreSQL's type json takes them.
// nlohmann_json refuses numbers that do not fit into a double.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "support/text.hpp"

namespace pgque::detail {

class JsonSyntax {
 public:
  // A text with invalid UTF-8 or half of a surrogate pair is not JSON.
  static bool accepts(std::string_view text) { return !first_invalid_byte(text) && JsonSyntax{text}.document(); }

  // As they are written.
  struct Member {
    std::string_view name;  // with its quotes
    std::string_view value;
  };
  // Of JSON: the members of the object; empty if it is none.
  static std::optional<std::vector<Member>> members(std::string_view json) { return JsonSyntax{json}.object(); }

 private:
  explicit JsonSyntax(std::string_view text) : text_{text} {}

  // A loop and not a recursion, because the depth of foreign values must not be limited by the stack.
  bool document() {
    std::vector<bool> open;  // the objects (true) and arrays around the current place
    for (;;) {
      space();
      if (take('{')) {
        space();
        if (!take('}')) {
          open.push_back(true);
          if (!name()) return false;
          continue;
        }
      } else if (take('[')) {
        space();
        if (!take(']')) {
          open.push_back(false);
          continue;
        }
      } else if (!scalar()) {
        return false;
      }
      // Here a value has ended.
      for (;;) {
        space();
        if (open.empty()) return at_ == text_.size();
        if (take(',')) {
          if (open.back() && !name()) return false;
          break;
        }
        if (!take(open.back() ? '}' : ']')) return false;
        open.pop_back();
      }
    }
  }

  std::optional<std::vector<Member>> object() {
    space();
    if (!take('{')) return std::nullopt;
    std::vector<Member> members;
    space();
    while (!take('}')) {
      auto& member = members.emplace_back();
      take(',');
      space();
      member.name = passed(&JsonSyntax::string);
      space();
      take(':');
      space();
      member.value = passed(&JsonSyntax::value);
      space();
    }
    return members;
  }

  std::string_view passed(bool (JsonSyntax::*what)()) {
    const auto begin = at_;
    (this->*what)();
    return text_.substr(begin, at_ - begin);
  }

  bool value() {
    std::size_t open = 0;
    do {
      const char c = text_[at_];
      if (c == '"') {
        string();
        continue;
      }
      if (open == 0 && c != '{' && c != '[') return scalar();
      if (c == '{' || c == '[') ++open;
      if (c == '}' || c == ']') --open;
      ++at_;
    } while (open > 0);
    return true;
  }

  bool name() {
    space();
    if (!string()) return false;
    space();
    return take(':');
  }

  bool scalar() {
    if (at_ == text_.size()) return false;
    switch (text_[at_]) {
      case '"':
        return string();
      case 't':
        return word("true");
      case 'f':
        return word("false");
      case 'n':
        return word("null");
      default:
        return number();
    }
  }

  bool string() {
    if (!take('"')) return false;
    while (at_ < text_.size()) {
      const char c = text_[at_++];
      if (c == '"') return true;
      if (static_cast<unsigned char>(c) < 0x20 || (c == '\\' && !escape())) return false;
    }
    return false;
  }

  bool escape() {
    if (at_ == text_.size()) return false;
    const char c = text_[at_++];
    if (c != 'u') return std::string_view{"\"\\/bfnrt"}.find(c) != std::string_view::npos;
    const auto code = code_unit();
    if (!code) return false;
    if (*code < 0xD800 || *code > 0xDFFF) return true;
    if (*code > 0xDBFF || !word("\\u")) return false;
    const auto second = code_unit();
    return second && *second >= 0xDC00 && *second <= 0xDFFF;
  }

  std::optional<std::uint32_t> code_unit() {
    std::uint32_t code = 0;
    for (int i = 0; i < 4; ++i) {
      if (at_ == text_.size()) return std::nullopt;
      const char c = text_[at_++];
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) return std::nullopt;
      code = code << 4U | static_cast<std::uint32_t>(digit);
    }
    return code;
  }

  bool number() {
    take('-');
    if (!take('0') && !digits()) return false;
    if (take('.') && !digits()) return false;
    if (!take('e') && !take('E')) return true;
    if (!take('+')) take('-');
    return digits();
  }

  bool digits() {
    const auto begin = at_;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') ++at_;
    return at_ > begin;
  }

  void space() {
    while (at_ < text_.size() && std::string_view{" \t\n\r"}.find(text_[at_]) != std::string_view::npos) ++at_;
  }

  bool take(char c) {
    const bool found = at_ < text_.size() && text_[at_] == c;
    if (found) ++at_;
    return found;
  }

  bool word(std::string_view wanted) {
    if (text_.substr(at_, wanted.size()) != wanted) return false;
    at_ += wanted.size();
    return true;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace pgque::detail

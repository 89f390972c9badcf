# Compiles payloads of characters of which nobody knows whether they are text or numbers. The compiler must refuse
# each of them, and show what to write instead.
# Called with -D COMPILER=... -D COMPILER_ID=... -D INCLUDE_DIRS=a|b -D WORK_DIR=... -D STANDARD=...

set(refused
    "std::wstring{}"
    "std::wstring_view{}"
    "std::u16string{}"
    "std::u32string{}"
    "L\"{}\""
    "u\"{}\""
    "static_cast<const wchar_t*>(nullptr)"
    "static_cast<const unsigned char*>(nullptr)"
    "'a'"
    "L'a'"
    "std::byte{}"
    "std::vector<char>{}"
    "std::vector<unsigned char>{}"
    "std::vector<std::byte>{}"
    "std::array<char, 2>{}"
    "std::optional<std::wstring>{}"
    "std::vector<std::wstring>{}"
    "std::map<std::string, std::vector<char>>{}")
if(STANDARD GREATER_EQUAL 20)
  list(APPEND refused "u8'a'" "std::span<const char>{}" "std::vector<std::u8string>{}")
endif()
string(REPLACE "|" ";" include_dirs "${INCLUDE_DIRS}")
list(TRANSFORM include_dirs PREPEND "-I")

# One value in each line, which the directive numbers. A semicolon would end an element of a list.
set(source
    "#include <array>\n#include <map>\n#include <optional>\n#include <vector>\n"
    "#if __has_include(<span>)\n#include <span>\n#endif\n#include <pgque/json.hpp>\n"
    "void take(const pgque::Payload&)@\nvoid call() {\n#line 1 \"values\"\n")
foreach(value IN LISTS refused)
  string(APPEND source "take(${value})@\n")
endforeach()
string(APPEND source "}\n")
list(JOIN source "" source)
string(REPLACE "@" ";" source "${source}")
set(file "${WORK_DIR}/refused_${STANDARD}.cpp")
file(WRITE "${file}" "${source}")
set(all_errors -fmax-errors=0)
if(COMPILER_ID MATCHES "Clang")
  set(all_errors -ferror-limit=0)
endif()
execute_process(COMMAND "${COMPILER}" -std=c++${STANDARD} -fsyntax-only ${all_errors} ${include_dirs} "${file}"
                ERROR_VARIABLE output)

set(line 0)
foreach(value IN LISTS refused)
  math(EXPR line "${line} + 1")
  if(NOT output MATCHES "values:${line}:[0-9]+: error")
    message(SEND_ERROR "takes ${value}")
  endif()
endforeach()
string(REGEX MATCHALL "write a std::string in UTF-8" advice "${output}")
list(LENGTH advice times)
if(NOT times EQUAL line)
  message(SEND_ERROR "says ${times} times what to write instead, and not ${line} times:\n${output}")
endif()

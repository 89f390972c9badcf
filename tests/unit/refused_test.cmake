# Compiles calls that send characters of which nobody knows whether they are text or numbers. The compiler must refuse
# each of them, and show what to write instead.
# Called with -D COMPILER=... -D INCLUDE_DIRS=a|b -D WORK_DIR=... -D STANDARD=...

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
set(accepted "std::string{}" "u8\"{}\"" "std::optional<std::string>{}" "nlohmann::json(std::vector<char>{})")

string(REPLACE "|" ";" include_dirs "${INCLUDE_DIRS}")
list(TRANSFORM include_dirs PREPEND "-I")

# Sets `output` and `result`. The statements are `send("q", VALUE)`, one in each line, which the directive numbers.
function(compile)
  set(source
      "#include <array>\n#include <map>\n#include <optional>\n#include <vector>\n"
      "#if __has_include(<span>)\n#include <span>\n#endif\n"
      "#include <pgque/json.hpp>\n#include <pgque/pgque.hpp>\n"
      "void send(pgque::Client& client) {\n#line 1 \"values\"\n")
  foreach(value IN LISTS ARGN)
    string(APPEND source "client.send(\"q\", ${value})@\n")
  endforeach()
  string(APPEND source "}\n")
  # A semicolon would end an element of a list.
  list(JOIN source "" source)
  string(REPLACE "@" ";" source "${source}")
  file(WRITE "${WORK_DIR}/refused_${STANDARD}.cpp" "${source}")
  execute_process(
    COMMAND "${COMPILER}" -std=c++${STANDARD} -fsyntax-only ${include_dirs} "${WORK_DIR}/refused_${STANDARD}.cpp"
    OUTPUT_VARIABLE output
    ERROR_VARIABLE output
    RESULT_VARIABLE result)
  set(output "${output}" PARENT_SCOPE)
  set(result "${result}" PARENT_SCOPE)
endfunction()

compile(${accepted})
if(NOT result EQUAL 0)
  message(FATAL_ERROR "refused what it should accept:\n${output}")
endif()

# Clang shows no more than 20 errors.
while(refused)
  list(SUBLIST refused 0 15 some)
  list(REMOVE_ITEM refused ${some})
  compile(${some})
  set(line 0)
  foreach(value IN LISTS some)
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
endwhile()

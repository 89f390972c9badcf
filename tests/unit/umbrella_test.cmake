# Preprocesses `#include <pgque/pgque.hpp>`: it must reach every public header except the opt-in ones, and nothing of
# libpqxx or nlohmann_json, nor <future>. Called with -D COMPILER=... -D INCLUDE_DIR=... -D WORK_DIR=...

set(source "${WORK_DIR}/umbrella.cpp")
file(WRITE "${source}" "#include <pgque/pgque.hpp>\n")
execute_process(
  COMMAND "${COMPILER}" -std=c++17 -E -I "${INCLUDE_DIR}" "${source}"
  OUTPUT_VARIABLE output
  RESULT_VARIABLE result
  COMMAND_ERROR_IS_FATAL ANY)

# The lines `# 1 "/path/of/the/file"`. Semicolons and brackets would confuse CMake's lists.
string(REGEX MATCHALL "\n# [0-9]+ \"[^\"\n;]*\"" markers "${output}")
list(REMOVE_DUPLICATES markers)
# The checkout may be in a directory of any name.
list(TRANSFORM markers REPLACE "\"${INCLUDE_DIR}/" "\"")
set(foreign "${markers}")
list(FILTER foreign EXCLUDE REGEX "/umbrella\\.cpp\"")
list(FILTER foreign INCLUDE REGEX "/pqxx/|nlohmann|/future\"")
if(foreign)
  message(FATAL_ERROR "pgque/pgque.hpp includes what only the opt-in headers may include: ${foreign}")
endif()

file(GLOB headers RELATIVE "${INCLUDE_DIR}" "${INCLUDE_DIR}/pgque/*.hpp")
list(REMOVE_ITEM headers pgque/admin.hpp pgque/buffered_producer.hpp pgque/doctor.hpp pgque/json.hpp pgque/pqxx.hpp)
if(NOT headers)
  message(FATAL_ERROR "no headers in ${INCLUDE_DIR}/pgque")
endif()
foreach(header IN LISTS headers)
  if(NOT markers MATCHES "\"${header}\"")
    message(FATAL_ERROR "pgque/pgque.hpp does not include ${header}")
  endif()
endforeach()

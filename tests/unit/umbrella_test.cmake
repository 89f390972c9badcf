# Preprocesses public headers. `#include <pgque/pgque.hpp>` must reach every one except the opt-in ones, and not <future>;
# none but json.hpp and pqxx.hpp may reach anything of libpqxx or nlohmann_json.
# Called with -D COMPILER=... -D INCLUDE_DIR=... -D WORK_DIR=...

# Sets `markers` to the lines `# 1 "/path/of/the/file"` of everything that is reached from these headers.
function(preprocess)
  list(TRANSFORM ARGN REPLACE "(.+)" "#include <\\1>\n" OUTPUT_VARIABLE includes)
  list(JOIN includes "" includes)
  file(WRITE "${WORK_DIR}/umbrella.cpp" "${includes}")
  execute_process(
    COMMAND "${COMPILER}" -std=c++17 -E -I "${INCLUDE_DIR}" "${WORK_DIR}/umbrella.cpp"
    OUTPUT_VARIABLE output
    RESULT_VARIABLE result
    COMMAND_ERROR_IS_FATAL ANY)
  # Semicolons and brackets would confuse CMake's lists.
  string(REGEX MATCHALL "\n# [0-9]+ \"[^\"\n;]*\"" markers "${output}")
  list(REMOVE_DUPLICATES markers)
  # The checkout may be in a directory of any name.
  list(TRANSFORM markers REPLACE "\"${INCLUDE_DIR}/" "\"")
  list(FILTER markers EXCLUDE REGEX "/umbrella\\.cpp\"")
  set(markers "${markers}" PARENT_SCOPE)
endfunction()
function(refuse pattern what)
  list(FILTER markers INCLUDE REGEX "${pattern}")
  if(markers)
    message(FATAL_ERROR "${what} includes what only the opt-in headers may include: ${markers}")
  endif()
endfunction()

file(GLOB headers RELATIVE "${INCLUDE_DIR}" "${INCLUDE_DIR}/pgque/*.hpp")
if(NOT headers)
  message(FATAL_ERROR "no headers in ${INCLUDE_DIR}/pgque")
endif()
list(REMOVE_ITEM headers pgque/json.hpp pgque/pqxx.hpp)
preprocess(${headers})
refuse("/pqxx/|nlohmann" "one of ${headers}")

list(REMOVE_ITEM headers pgque/admin.hpp pgque/buffered_producer.hpp pgque/doctor.hpp pgque/testing.hpp)
preprocess(pgque/pgque.hpp)
refuse("/pqxx/|nlohmann|/future\"" "pgque/pgque.hpp")
foreach(header IN LISTS headers)
  if(NOT markers MATCHES "\"${header}\"")
    message(FATAL_ERROR "pgque/pgque.hpp does not include ${header}")
  endif()
endforeach()

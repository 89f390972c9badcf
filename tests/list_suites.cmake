# Run after a test program has been linked: writes the file that makes each of its suites one test of ctest.
# PROGRAM, WITHOUT (patterns of tests to leave out), LABEL, RUN (the script run_suite), PROPERTIES and OUTPUT are given.
#
# A process for each test would cost ten times what most of the tests take. One for all would have to run from its
# beginning whatever is asked for, and could not be spread over processors.
execute_process(
  COMMAND "${PROGRAM}" --gtest_list_tests "--gtest_filter=*-${WITHOUT}"
  OUTPUT_VARIABLE listed
  RESULT_VARIABLE status
  TIMEOUT 60)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${PROGRAM} could not list its tests: ${status}")
endif()

set(script "")
set(suites 0)
# A parameter's value is printed after a #, and may contain anything.
string(REGEX REPLACE "[ ]*#[^\n]*" "" listed "${listed}")
string(REGEX REPLACE "[][;]" "" listed "${listed}")
string(REPLACE "\n" ";" lines "${listed}")

macro(write_suite)
  if(suite)
    math(EXPR suites "${suites} + 1")
    string(APPEND script "add_test([=[${LABEL}.${suite}]=] [=[${RUN}]=] [=[${PROGRAM}]=] [=[${suite}.*-${WITHOUT}]=] ${count})\n")
    # The longest first, as far as the number of tests tells.
    string(APPEND script "set_tests_properties([=[${LABEL}.${suite}]=] PROPERTIES COST ${count} SKIP_RETURN_CODE 77 ${PROPERTIES})\n")
  endif()
endmacro()

set(suite "")
foreach(line IN LISTS lines)
  if(line MATCHES "^  ")
    math(EXPR count "${count} + 1")
  elseif(line MATCHES "^([A-Za-z0-9_/]+)\\.$")
    set(next "${CMAKE_MATCH_1}")
    write_suite()
    set(suite "${next}")
    set(count 0)
  endif()
endforeach()
write_suite()
if(suites EQUAL 0)
  message(FATAL_ERROR "${PROGRAM} has no tests")
endif()
file(WRITE "${OUTPUT}" "${script}")

# Warnings for this project's own code; never part of what users link.

add_library(pgque_warnings INTERFACE)
target_compile_options(
  pgque_warnings
  INTERFACE -Wall
            -Wextra
            -Wpedantic
            -Wconversion
            -Wsign-conversion
            -Wshadow
            -Wcast-qual
            -Wold-style-cast
            -Wnon-virtual-dtor
            -Woverloaded-virtual
            -Wnull-dereference
            -Wdouble-promotion
            -Wformat=2
            -Wundef)
if(PGQUE_WERROR)
  target_compile_options(pgque_warnings INTERFACE -Werror)
endif()

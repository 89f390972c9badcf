# `cpack -G DEB` makes the packages libpgque0.1 and libpgque-dev from a shared build, and libpgque-dev alone from a static
# one; 0.1 is the version of the ABI, as in the soname. It also makes pgque-tools if the command is built. The directories
# follow Debian's multiarch layout when CMAKE_INSTALL_PREFIX is /usr.

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME pgque)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_VERBATIM_VARIABLES ON)
set(CPACK_STRIP_FILES ON)
if(NOT CPACK_PACKAGE_CONTACT)
  set(CPACK_PACKAGE_CONTACT "pgque for C++ <root@localhost>")
endif()

set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)

set(CPACK_COMPONENTS_ALL pgque_development)
set(CPACK_DEBIAN_PGQUE_DEVELOPMENT_PACKAGE_NAME libpgque-dev)
set(CPACK_DEBIAN_PGQUE_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_COMPONENT_PGQUE_DEVELOPMENT_DESCRIPTION "Headers, CMake package, pkg-config file and test server for building with pgque.")
# Only programs that include pgque/json.hpp or pgque/pqxx.hpp need these, but those headers are in the package.
set(CPACK_DEBIAN_PGQUE_DEVELOPMENT_PACKAGE_RECOMMENDS "nlohmann-json3-dev")
# pgque-test-server starts it.
set(CPACK_DEBIAN_PGQUE_DEVELOPMENT_PACKAGE_SUGGESTS "postgresql")

if(pgque_type STREQUAL "STATIC_LIBRARY")
  # pkg-config: Debian's libpqxx-dev has no CMake package.
  set(CPACK_DEBIAN_PGQUE_DEVELOPMENT_PACKAGE_DEPENDS "libpqxx-dev, libpq-dev, pkg-config")
else()
  string(APPEND CPACK_DEBIAN_PGQUE_DEVELOPMENT_PACKAGE_RECOMMENDS ", libpqxx-dev, libpq-dev, pkg-config")
  set(CPACK_DEBIAN_PGQUE_DEVELOPMENT_PACKAGE_DEPENDS "libpgque${pgque_soversion} (= ${PROJECT_VERSION})")

  list(APPEND CPACK_COMPONENTS_ALL pgque_runtime)
  set(CPACK_DEBIAN_PGQUE_RUNTIME_PACKAGE_NAME "libpgque${pgque_soversion}")
  set(CPACK_DEBIAN_PGQUE_RUNTIME_PACKAGE_SECTION libs)
  set(CPACK_COMPONENT_PGQUE_RUNTIME_DESCRIPTION "The shared library, for programs built with libpgque-dev.")
  # What the library needs, and what a package that needs the library writes.
  set(CPACK_DEBIAN_PGQUE_RUNTIME_PACKAGE_SHLIBDEPS ON)
  set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
  set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS_POLICY ">=")
endif()

if(PGQUE_BUILD_TOOLS)
  list(APPEND CPACK_COMPONENTS_ALL pgque_tools)
  set(CPACK_DEBIAN_PGQUE_TOOLS_PACKAGE_NAME pgque-tools)
  set(CPACK_DEBIAN_PGQUE_TOOLS_PACKAGE_SECTION database)
  set(CPACK_COMPONENT_PGQUE_TOOLS_DESCRIPTION "The pgque command: scheduler, administration, diagnosis and metrics.")
  set(CPACK_DEBIAN_PGQUE_TOOLS_PACKAGE_SHLIBDEPS ON)
  if(NOT pgque_type STREQUAL "STATIC_LIBRARY")
    set(CPACK_DEBIAN_PGQUE_TOOLS_PACKAGE_DEPENDS "libpgque${pgque_soversion} (= ${PROJECT_VERSION})")
    set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS "${PROJECT_BINARY_DIR}")
  endif()
endif()

include(CPack)

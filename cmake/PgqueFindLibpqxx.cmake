# Defines the targets libpqxx::pqxx and PostgreSQL::PostgreSQL (libpq). libpqxx comes from its own CMake package, which
# builds from source install, or else from pkg-config, which is all that distributions ship. Used by this build and,
# installed beside the package's config file, by everyone who links a static pgque or includes pgque/pqxx.hpp.
#
# Sets PgqueFindLibpqxx_FOUND, PgqueFindLibpqxx_VERSION (such as 7.10; empty if not known) and, when not found,
# PgqueFindLibpqxx_MESSAGE.

if(NOT TARGET PostgreSQL::PostgreSQL)
  find_package(PostgreSQL QUIET)
endif()
if(NOT TARGET libpqxx::pqxx)
  find_package(libpqxx CONFIG QUIET)
endif()
if(NOT TARGET libpqxx::pqxx)
  find_package(PkgConfig QUIET)
  if(PkgConfig_FOUND)
    pkg_check_modules(PGQUE_LIBPQXX QUIET IMPORTED_TARGET libpqxx)
  endif()
  if(TARGET PkgConfig::PGQUE_LIBPQXX)
    add_library(libpqxx::pqxx INTERFACE IMPORTED)
    target_link_libraries(libpqxx::pqxx INTERFACE PkgConfig::PGQUE_LIBPQXX)
    set(libpqxx_VERSION "${PGQUE_LIBPQXX_VERSION}")
  endif()
endif()

# Every minor version of libpqxx has a different ABI.
string(REGEX MATCH "^[0-9]+\\.[0-9]+" PgqueFindLibpqxx_VERSION "${libpqxx_VERSION}")
set(PgqueFindLibpqxx_FOUND FALSE)
if(NOT TARGET libpqxx::pqxx)
  set(PgqueFindLibpqxx_MESSAGE
      "libpqxx was found neither as a CMake package nor by pkg-config. On Debian and Ubuntu: apt install libpqxx-dev pkg-config. Elsewhere: add its installation to CMAKE_PREFIX_PATH."
  )
elseif(NOT TARGET PostgreSQL::PostgreSQL)
  set(PgqueFindLibpqxx_MESSAGE
      "libpq, PostgreSQL's client library, was not found. On Debian and Ubuntu: apt install libpq-dev. Elsewhere: set PostgreSQL_ROOT."
  )
else()
  set(PgqueFindLibpqxx_FOUND TRUE)
endif()

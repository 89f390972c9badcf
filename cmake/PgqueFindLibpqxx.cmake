# Defines the target libpqxx::pqxx from libpqxx's own CMake package, which builds from source install, or else from
# pkg-config, which is all that distributions ship. Used by this build and, installed beside the package's config
# file, by everyone who links a static pgque.

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
if(TARGET libpqxx::pqxx)
  set(PgqueFindLibpqxx_FOUND TRUE)
else()
  set(PgqueFindLibpqxx_FOUND FALSE)
  set(PgqueFindLibpqxx_MESSAGE
      "libpqxx was found neither as a CMake package nor by pkg-config. On Debian and Ubuntu: apt install libpqxx-dev pkg-config. Elsewhere: add its installation to CMAKE_PREFIX_PATH."
  )
endif()

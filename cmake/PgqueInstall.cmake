# Installation in components: pgque_runtime is what programs that are already built need, pgque_tools the command,
# pgque_development the rest. Everything installed can be moved to another prefix.

include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(pgque_cmake_dir "${CMAKE_INSTALL_LIBDIR}/cmake/pgque")

install(
  TARGETS pgque pgque_json pgque_pqxx
  EXPORT pgque
  RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT pgque_runtime
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
          COMPONENT pgque_runtime
          NAMELINK_COMPONENT pgque_development
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT pgque_development
  INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(DIRECTORY include/pgque DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" COMPONENT pgque_development)
# The directories are the same as here, so that the links of the pages lead somewhere.
cmake_path(GET CMAKE_INSTALL_DOCDIR PARENT_PATH pgque_doc_dir)
set(pgque_guide_dir "${pgque_doc_dir}/libpgque-dev")
install(FILES README.md CHANGELOG.md CONTRIBUTING.md LICENSE DESTINATION "${pgque_guide_dir}"
        COMPONENT pgque_development)
install(
  DIRECTORY docs examples
  DESTINATION "${pgque_guide_dir}"
  COMPONENT pgque_development
  FILES_MATCHING
  REGEX "\\.(md|svg|cpp|hpp)$")
if(NOT pgque_type STREQUAL "STATIC_LIBRARY")
  # Two versions of the shared library can be installed in one prefix, so no file of one may have the path of another's.
  install(FILES LICENSE DESTINATION "${pgque_doc_dir}/libpgque${pgque_soversion}" COMPONENT pgque_runtime)
endif()

install(
  EXPORT pgque
  FILE pgqueTargets.cmake
  NAMESPACE pgque::
  DESTINATION "${pgque_cmake_dir}"
  COMPONENT pgque_development)
configure_package_config_file(
  cmake/pgqueConfig.cmake.in "${CMAKE_CURRENT_BINARY_DIR}/pgqueConfig.cmake"
  INSTALL_DESTINATION "${pgque_cmake_dir}"
  NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/pgqueConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(
  FILES "${CMAKE_CURRENT_BINARY_DIR}/pgqueConfig.cmake" "${CMAKE_CURRENT_BINARY_DIR}/pgqueConfigVersion.cmake"
        cmake/PgqueFindLibpqxx.cmake
  DESTINATION "${pgque_cmake_dir}"
  COMPONENT pgque_development)

# pgque.pc finds its prefix from where it lies, unless the directories were given as absolute paths.
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
  set(pgque_pc_prefix "${CMAKE_INSTALL_PREFIX}")
  set(pgque_pc_libdir "${CMAKE_INSTALL_LIBDIR}")
else()
  file(RELATIVE_PATH pgque_pc_up "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
  string(REGEX REPLACE "/$" "" pgque_pc_prefix "\${pcfiledir}/${pgque_pc_up}")
  set(pgque_pc_libdir "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
endif()
if(IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
  set(pgque_pc_includedir "${CMAKE_INSTALL_INCLUDEDIR}")
else()
  set(pgque_pc_includedir "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
# Requires, not Requires.private: an archive is of no use without these, and `--static` would also ask for everything
# that a static libpq needs. A shared library needs neither of them, nor their headers.
set(pgque_pc_requires "")
set(pgque_pc_libs "")
set(pgque_pc_cflags "")
if(pgque_type STREQUAL "STATIC_LIBRARY")
  set(pgque_pc_requires "libpqxx libpq")
  set(pgque_pc_libs "${CMAKE_THREAD_LIBS_INIT}")
  set(pgque_pc_cflags "-DPGQUE_STATIC_DEFINE")
endif()
configure_file(cmake/pgque.pc.in "${CMAKE_CURRENT_BINARY_DIR}/pgque.pc" @ONLY)
install(
  FILES "${CMAKE_CURRENT_BINARY_DIR}/pgque.pc"
  DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig"
  COMPONENT pgque_development)

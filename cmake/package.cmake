# The CMake package, so that plugins outside this tree are five lines (cmake/dkdmConfig.cmake.in): for the
# build tree, and installed. An installed tree may be moved: its parts find each other by where they lie.
#
#   bin/dkdm   lib/libdkdm_core.so   lib/libdkdm_metrics.a   lib/dkdm/plugins/*.so   lib/cmake/dkdm/
#   include/   share/dkdm/experiments/   share/doc/dkdm/
include(CMakePackageConfigHelpers)
string(REGEX MATCH "^[0-9]+" DKDM_COMPILER_MAJOR "${CMAKE_CXX_COMPILER_VERSION}")
set(package_dir "${CMAKE_BINARY_DIR}/cmake")

set(DKDM_PACKAGE_CMAKE "${CMAKE_SOURCE_DIR}/cmake")
set(DKDM_PACKAGE_PROGRAM "${CMAKE_BINARY_DIR}/dkdm")
set(DKDM_PACKAGE_CORE "${CMAKE_BINARY_DIR}/core/libdkdm_core.so")
set(DKDM_PACKAGE_HEADERS "${CMAKE_SOURCE_DIR}/core/include")
set(DKDM_PACKAGE_METRICS "${CMAKE_BINARY_DIR}/metrics/libdkdm_metrics.a")
set(DKDM_PACKAGE_METRICS_HEADERS "${CMAKE_SOURCE_DIR}")
configure_file(cmake/dkdmConfig.cmake.in "${package_dir}/dkdmConfig.cmake" @ONLY)

set(DKDM_PACKAGE_CMAKE "\${CMAKE_CURRENT_LIST_DIR}")
set(DKDM_PACKAGE_PROGRAM "\${CMAKE_CURRENT_LIST_DIR}/../../../bin/dkdm")
set(DKDM_PACKAGE_CORE "\${CMAKE_CURRENT_LIST_DIR}/../../libdkdm_core.so")
set(DKDM_PACKAGE_HEADERS "\${CMAKE_CURRENT_LIST_DIR}/../../../include")
set(DKDM_PACKAGE_METRICS "\${CMAKE_CURRENT_LIST_DIR}/../../libdkdm_metrics.a")
set(DKDM_PACKAGE_METRICS_HEADERS "\${CMAKE_CURRENT_LIST_DIR}/../../../include/dkdm-metrics")
configure_file(cmake/dkdmConfig.cmake.in "${package_dir}/installed/dkdmConfig.cmake" @ONLY)
write_basic_package_version_file("${package_dir}/dkdmConfigVersion.cmake"
                                 COMPATIBILITY SameMinorVersion)

get_target_property(plugins dkdm_plugins MANUALLY_ADDED_DEPENDENCIES)
# LibTorch stays where it is, so its folder is recorded; LD_LIBRARY_PATH goes before it.
set_target_properties(dkdm PROPERTIES INSTALL_RPATH "$ORIGIN/../lib;${LibTorch_LIBRARY_DIR}")
set_target_properties(dkdm_core PROPERTIES INSTALL_RPATH "$ORIGIN;${LibTorch_LIBRARY_DIR}")
set_target_properties(${plugins} PROPERTIES INSTALL_RPATH "$ORIGIN/../..;${LibTorch_LIBRARY_DIR}")

install(TARGETS dkdm RUNTIME DESTINATION bin)
install(TARGETS dkdm_core LIBRARY DESTINATION lib)
if(TARGET dkdm_cuda)
  set_target_properties(dkdm_cuda PROPERTIES INSTALL_RPATH "${LibTorch_LIBRARY_DIR}")
  install(TARGETS dkdm_cuda LIBRARY DESTINATION lib)  # beside the library that loads it
endif()
install(TARGETS dkdm_metrics ARCHIVE DESTINATION lib)
install(TARGETS ${plugins} LIBRARY DESTINATION lib/dkdm/plugins)
install(DIRECTORY core/include/ DESTINATION include)
install(DIRECTORY metrics/ DESTINATION include/dkdm-metrics/metrics FILES_MATCHING PATTERN "*.hpp")
install(FILES "${package_dir}/installed/dkdmConfig.cmake" "${package_dir}/dkdmConfigVersion.cmake"
              cmake/FindLibTorch.cmake cmake/dkdm_add_plugin.cmake DESTINATION lib/cmake/dkdm)
install(DIRECTORY experiments/ DESTINATION share/dkdm/experiments)
install(FILES plugins/README.md DESTINATION share/doc/dkdm RENAME plugins.md)
install(FILES CHANGELOG.md CITATION.cff LICENSE DESTINATION share/doc/dkdm)
install(DIRECTORY docs/examples DESTINATION share/doc/dkdm)

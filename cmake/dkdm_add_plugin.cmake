# dkdm_add_plugin(NAME SOURCE…): the loadable module NAME.so of one or more C++ files, as the target
# plugin-NAME (for target_link_libraries and its like). Outside dkdm's tree it lies in the build folder, and
# after enable_testing() ctest runs the conformance test of its kind.
function(dkdm_add_plugin name)
  set(target plugin-${name})
  add_library(${target} MODULE ${ARGN})
  set_target_properties(${target} PROPERTIES
    PREFIX "" OUTPUT_NAME ${name} DEFINE_SYMBOL ""
    CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS OFF
    CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    target_compile_options(${target} PRIVATE -O2)
  endif()
  target_link_libraries(${target} PRIVATE dkdm::core)
  if(NOT DKDM_SANITIZE)
    target_link_options(${target} PRIVATE -Wl,--no-undefined)
  endif()
  if(DKDM_PROGRAM)  # set by the package
    add_test(NAME ${name} COMMAND ${DKDM_PROGRAM} plugins check $<TARGET_FILE:${target}>)
  endif()
endfunction()

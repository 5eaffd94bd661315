# Finds LibTorch without TorchConfig.cmake, whose CUDA build asks for a CUDA toolkit.
#
# Input   LIBTORCH_ROOT   folder with include/ and lib/ (a LibTorch archive), or with torch/ (a wheel)
# Output  LibTorch::LibTorch, LibTorch_VERSION, LibTorch_LIBRARY_DIR, LibTorch_HAS_CUDA;
#         LibTorch::Cuda where it is built for CUDA and CUDA's headers are there, GPU or not
set(LIBTORCH_ROOT "$ENV{LIBTORCH_ROOT}" CACHE PATH "LibTorch 2.11 or newer")

find_path(LibTorch_INCLUDE_DIR ATen/ATen.h
          HINTS "${LIBTORCH_ROOT}/include" "${LIBTORCH_ROOT}/torch/include")
find_library(LibTorch_CPU_LIBRARY torch_cpu
             HINTS "${LIBTORCH_ROOT}/lib" "${LIBTORCH_ROOT}/torch/lib")
if(LibTorch_CPU_LIBRARY)
  get_filename_component(LibTorch_LIBRARY_DIR "${LibTorch_CPU_LIBRARY}" DIRECTORY)
  find_library(LibTorch_C10_LIBRARY c10 HINTS "${LibTorch_LIBRARY_DIR}" NO_DEFAULT_PATH)
  find_library(LibTorch_CUDA_LIBRARY torch_cuda HINTS "${LibTorch_LIBRARY_DIR}" NO_DEFAULT_PATH)
endif()
# The version header has moved between releases; its three numbers have not changed their names.
foreach(_header torch/headeronly/version.h torch/csrc/api/include/torch/version.h)
  if(LibTorch_INCLUDE_DIR AND NOT LibTorch_VERSION AND EXISTS "${LibTorch_INCLUDE_DIR}/${_header}")
    file(STRINGS "${LibTorch_INCLUDE_DIR}/${_header}" _lines
         REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) [0-9]+")
    string(REGEX MATCHALL "[0-9]+" _numbers "${_lines}")
    list(JOIN _numbers "." LibTorch_VERSION)
  endif()
endforeach()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY LibTorch_INCLUDE_DIR
  VERSION_VAR LibTorch_VERSION)

# torch_cuda registers its kernels when it is loaded and nothing refers to it by name. It is only
# worth loading where its NVIDIA libraries lie beside it (a machine with a GPU: ./dkdm fetches them).
set(LibTorch_HAS_CUDA OFF)
if(LibTorch_CUDA_LIBRARY AND DKDM_CUDA)
  set(LibTorch_HAS_CUDA ON)
endif()

if(LibTorch_FOUND AND NOT TARGET LibTorch::LibTorch)
  add_library(LibTorch::LibTorch INTERFACE IMPORTED)
  target_include_directories(LibTorch::LibTorch SYSTEM INTERFACE
    "${LibTorch_INCLUDE_DIR}" "${LibTorch_INCLUDE_DIR}/torch/csrc/api/include")
  target_link_libraries(LibTorch::LibTorch INTERFACE
    "${LibTorch_CPU_LIBRARY}" "${LibTorch_C10_LIBRARY}")
  if(LibTorch_HAS_CUDA)
    target_link_libraries(LibTorch::LibTorch INTERFACE
      "-Wl,--no-as-needed,${LibTorch_CUDA_LIBRARY},--as-needed")
  endif()
endif()

# What sees CUDA's headers: those of the wheels beside LibTorch, else of a toolkit.
if(LibTorch_FOUND AND LibTorch_CUDA_LIBRARY AND NOT TARGET LibTorch::Cuda)
  file(GLOB _wheels "${LIBTORCH_ROOT}/nvidia/*/include" "${LIBTORCH_ROOT}/../nvidia/*/include")
  find_path(LibTorch_CUDA_INCLUDE_DIR cuda_runtime_api.h
            HINTS ${_wheels} ENV CUDA_HOME PATHS /usr/local/cuda PATH_SUFFIXES include)
  find_library(LibTorch_C10_CUDA_LIBRARY c10_cuda HINTS "${LibTorch_LIBRARY_DIR}" NO_DEFAULT_PATH)
  if(LibTorch_CUDA_INCLUDE_DIR AND LibTorch_C10_CUDA_LIBRARY)
    add_library(LibTorch::Cuda INTERFACE IMPORTED)
    target_include_directories(LibTorch::Cuda SYSTEM INTERFACE "${LibTorch_CUDA_INCLUDE_DIR}")
    target_link_libraries(LibTorch::Cuda INTERFACE
      LibTorch::LibTorch "${LibTorch_CUDA_LIBRARY}" "${LibTorch_C10_CUDA_LIBRARY}")
  endif()
endif()

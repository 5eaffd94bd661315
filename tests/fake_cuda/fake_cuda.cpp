#include "fake_cuda/fake_cuda.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

FakeCudaReadable readable = nullptr;
FakeCudaFault fault = FakeCudaFault::none;
int launches = 0;
bool has_context = false;

constexpr int kRefused = 1;

// What CUDA C++ has and C++ lacks, as far as this project's kernels use it.
constexpr const char* kPrelude = R"(
#include <bit>
#include <cmath>
#include <cstdint>
struct Three { unsigned x, y, z; };
static thread_local Three threadIdx, blockIdx, blockDim;
#define __device__
#define __global__
static inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((std::uint64_t{a} * b) >> 32);
}
static inline float __fmul_rn(float a, float b) { return OFF(a * b); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsqrt_rn(float a) { return std::sqrt(a); }
static inline float __int2float_rn(int a) { return static_cast<float>(a); }
static inline int __float_as_int(float a) { return std::bit_cast<int>(a); }
static inline float __int_as_float(int a) { return std::bit_cast<float>(a); }
)";

// fake_launch_NAME(arguments, readable, blocks, threads of a block) of every kernel in `source`.
std::string launchers(const std::string& source) {
  static const std::regex kernel(R"(__global__\s+void\s+(\w+)\s*\(([^)]*)\))");
  static const std::regex parameter(R"(\s*([^,]*[\s*])\w+\s*(,|$))");
  std::string text;
  for (std::sregex_iterator it(source.begin(), source.end(), kernel), end; it != end; ++it) {
    const std::string name = (*it)[1], parameters = (*it)[2];
    std::string values;
    int place = 0;
    for (std::sregex_iterator p(parameters.begin(), parameters.end(), parameter); p != end; ++p) {
      const std::string type = (*p)[1], from = "a[" + std::to_string(place++) + "]";
      const bool address = type.find('*') != std::string::npos;
      values +=
          (values.empty() ? "" : ", ") +
          (address ? "(" + type + ")readable(*(void**)" + from + ")" : "*(" + type + "*)" + from);
    }
    text += "extern \"C\" void fake_launch_" + name +
            "(void** a, void* (*readable)(const void*), unsigned blocks, unsigned threads) {\n"
            "  blockDim = {threads, 1, 1};\n"
            "  for (unsigned b = 0; b < blocks; ++b)\n"
            "    for (unsigned t = 0; t < threads; ++t) {\n"
            "      blockIdx = {b, 0, 0};\n      threadIdx = {t, 0, 0};\n      " +
            name + "(" + values + ");\n    }\n}\n";
  }
  return text;
}

std::string content(const fs::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

struct Program {
  std::string source, code, log;
};

using Launcher = void (*)(void**, void* (*)(const void*), unsigned, unsigned);

void* as_it_is(const void* address) { return const_cast<void*>(address); }

}  // namespace

extern "C" {

void fake_cuda_serve(FakeCudaReadable by, FakeCudaFault planted) {
  readable = by;
  fault = planted;
}

int fake_cuda_launches() { return launches; }

int nvrtcCreateProgram(Program** program, const char* source, const char*, int, const char**,
                       const char**) {
  *program = new Program{source, "", ""};
  return 0;
}

int nvrtcDestroyProgram(Program** program) {
  delete *program;
  return 0;
}

// "PTX" is the name of a library in a folder of its own.
int nvrtcCompileProgram(Program* program, int, const char**) {
  if (fault == FakeCudaFault::refuses_to_compile) {
    program->log = "dkdm.cu(1): error: planted";
    return kRefused;
  }
  std::string folder = (fs::temp_directory_path() / "fake-cuda-XXXXXX").string();
  if (!mkdtemp(folder.data())) return kRefused;
  const fs::path source = fs::path(folder) / "kernel.cpp", log = fs::path(folder) / "log",
                 library = fs::path(folder) / "kernel.so";
  std::ofstream(source) << "#define OFF(x) "
                        << (fault == FakeCudaFault::rounds_otherwise
                                ? "((x) > 0.9f ? std::nextafter((x), 2.0f) : (x))"
                                : "(x)")
                        << kPrelude << program->source << launchers(program->source);
  const std::string command =
      std::string(FAKE_CUDA_COMPILER) + " -std=c++20 -O1 -w -fPIC -shared -ffp-contract=off -o '" +
      library.string() + "' '" + source.string() + "' 2> '" + log.string() + "'";
  const int result = std::system(command.c_str());
  program->log = content(log);
  program->code = library.string();
  if (result != 0) fs::remove_all(folder);
  return result == 0 ? 0 : kRefused;
}

int nvrtcGetPTXSize(Program* program, std::size_t* bytes) {
  *bytes = program->code.size() + 1;
  return 0;
}
int nvrtcGetPTX(Program* program, char* to) {
  std::strcpy(to, program->code.c_str());
  return 0;
}
int nvrtcGetProgramLogSize(Program* program, std::size_t* bytes) {
  *bytes = program->log.size() + 1;
  return 0;
}
int nvrtcGetProgramLog(Program* program, char* to) {
  std::strcpy(to, program->log.c_str());
  return 0;
}

int nvrtcGetNumSupportedArchs(int* count) {
  *count = 3;
  return 0;
}
int nvrtcGetSupportedArchs(int* archs) {
  for (const int arch : {75, 90, 120}) *archs++ = arch;
  return 0;
}

const char* nvrtcGetErrorString(int) { return "NVRTC_ERROR_COMPILATION"; }

int cuDeviceGet(int* device, int index) {
  *device = index;
  return 0;
}
int cuDeviceGetAttribute(int* value, int attribute, int) {
  *value = attribute == 75 ? 9 : 0;
  return 0;
}
int cuCtxGetCurrent(void** context) {
  *context = has_context ? &has_context : nullptr;
  return 0;
}
int cuDevicePrimaryCtxRetain(void** context, int) {
  *context = &has_context;
  return 0;
}
int cuCtxSetCurrent(void* context) {
  has_context = context == &has_context;
  return has_context ? 0 : kRefused;
}

int cuModuleLoadData(void** code, const char* ptx) {
  const fs::path folder = fs::path(ptx).parent_path();
  *code = fault == FakeCudaFault::refuses_code || !has_context
              ? nullptr
              : ::dlopen(ptx, RTLD_NOW | RTLD_LOCAL);
  fs::remove_all(folder);
  return *code ? 0 : kRefused;
}
int cuModuleUnload(void* code) { return ::dlclose(code); }
int cuModuleGetFunction(void** function, void* code, const char* name) {
  *function = ::dlsym(code, ("fake_launch_" + std::string(name)).c_str());
  return *function ? 0 : kRefused;
}
int cuLaunchKernel(void* function, unsigned blocks, unsigned, unsigned, unsigned threads, unsigned,
                   unsigned, unsigned, void*, void** arguments, void**) {
  ++launches;
  reinterpret_cast<Launcher>(function)(arguments, readable ? readable : as_it_is, blocks, threads);
  return 0;
}
int cuGetErrorString(int, const char** text) {
  *text = "planted";
  return 0;
}
}

#include "cuda/runtime.hpp"

#include <c10/core/DeviceGuard.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>

#include <algorithm>

namespace dkdm::cuda {
namespace {

// What is declared here of NVRTC and of the driver has been the same since CUDA 8.
using Program = struct ProgramOfNvrtc*;
using Context = struct ContextOfDriver*;
using Code = struct CodeOfDriver*;
using Function = struct FunctionOfDriver*;

constexpr unsigned kThreadsOfBlock = 256;

// Opened for as long as the process runs: code of a driver does not like to go.
class Opened {
 public:
  explicit Opened(const std::vector<std::string>& names) {
    for (const std::string& name : names)
      if (void* library = ::dlopen(name.c_str(), RTLD_LAZY | RTLD_LOCAL)) all_.push_back(library);
  }

  // A function by its name, in a library or in what that one needs. Throws Error.
  template <class Signature>
  Signature* function(const char* name, const char* owner) const {
    for (void* library : all_)
      if (void* address = ::dlsym(library, name)) return reinterpret_cast<Signature*>(address);
    throw Error(std::string(owner) + " is not here (no library has " + name + ")");
  }

 private:
  std::vector<void*> all_;
};

class Nvrtc {
 public:
  explicit Nvrtc(const Opened& in)
      : create_(find<int(Program*, const char*, const char*, int, const char**, const char**)>(
            in, "nvrtcCreateProgram")),
        compile_(find<int(Program, int, const char**)>(in, "nvrtcCompileProgram")),
        destroy_(find<int(Program*)>(in, "nvrtcDestroyProgram")),
        ptx_size_(find<int(Program, std::size_t*)>(in, "nvrtcGetPTXSize")),
        ptx_(find<int(Program, char*)>(in, "nvrtcGetPTX")),
        log_size_(find<int(Program, std::size_t*)>(in, "nvrtcGetProgramLogSize")),
        log_(find<int(Program, char*)>(in, "nvrtcGetProgramLog")),
        count_(find<int(int*)>(in, "nvrtcGetNumSupportedArchs")),
        archs_(find<int(int*)>(in, "nvrtcGetSupportedArchs")),
        text_(find<const char*(int)>(in, "nvrtcGetErrorString")) {}

  std::string ptx(const std::string& source, int arch) const {
    Program program = nullptr;
    check(create_(&program, source.c_str(), "dkdm.cu", 0, nullptr, nullptr));
    const std::unique_ptr<Program, int (*)(Program*)> ended(&program, destroy_);
    const std::string for_arch = "--gpu-architecture=compute_" + std::to_string(known(arch));
    std::vector<const char*> options{for_arch.c_str(), "--fmad=false", "--std=c++17"};
    if (const int code = compile_(program, static_cast<int>(options.size()), options.data()))
      throw Error("NVRTC: " + std::string(text_(code)) + ": " + text(program, log_size_, log_));
    return text(program, ptx_size_, ptx_);
  }

 private:
  template <class Signature>
  static Signature* find(const Opened& in, const char* name) {
    return in.function<Signature>(name, "NVRTC");
  }

  void check(int code) const {
    if (code != 0) throw Error(std::string("NVRTC: ") + text_(code));
  }

  // The latest architecture that this NVRTC knows up to `arch`: PTX for it runs on later ones too.
  int known(int arch) const {
    int count = 0;
    check(count_(&count));
    std::vector<int> all(static_cast<std::size_t>(count));
    check(archs_(all.data()));
    int best = 0;
    for (const int each : all)
      if (each <= arch) best = std::max(best, each);
    if (best == 0)
      throw Error("NVRTC does not know devices of compute capability " + std::to_string(arch / 10) +
                  "." + std::to_string(arch % 10));
    return best;
  }

  std::string text(Program program, int (*size)(Program, std::size_t*),
                   int (*get)(Program, char*)) const {
    std::size_t bytes = 0;
    check(size(program, &bytes));
    std::string result(bytes, '\0');
    check(get(program, result.data()));
    while (!result.empty() && result.back() == '\0') result.pop_back();
    return result;
  }

  int (*create_)(Program*, const char*, const char*, int, const char**, const char**);
  int (*compile_)(Program, int, const char**);
  int (*destroy_)(Program*);
  int (*ptx_size_)(Program, std::size_t*);
  int (*ptx_)(Program, char*);
  int (*log_size_)(Program, std::size_t*);
  int (*log_)(Program, char*);
  int (*count_)(int*);
  int (*archs_)(int*);
  const char* (*text_)(int);
};

}  // namespace

std::vector<std::string> libraries() {
  // The first brings LibTorch's NVRTC and the driver along.
  return {"libcaffe2_nvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so", "libcuda.so.1"};
}

std::string ptx(const std::vector<std::string>& libraries, const std::string& source, int arch) {
  return Nvrtc(Opened(libraries)).ptx(source, arch);
}

struct Kernels::Driver {
  Driver(const Opened& in, at::Device where)
      : device(where), get(find<int(int*, int)>(in, "cuDeviceGet")),
        attribute(find<int(int*, int, int)>(in, "cuDeviceGetAttribute")),
        current(find<int(Context*)>(in, "cuCtxGetCurrent")),
        primary(find<int(Context*, int)>(in, "cuDevicePrimaryCtxRetain")),
        set_current(find<int(Context)>(in, "cuCtxSetCurrent")),
        load(find<int(Code*, const void*)>(in, "cuModuleLoadData")),
        unload(find<int(Code)>(in, "cuModuleUnload")),
        function(find<int(Function*, Code, const char*)>(in, "cuModuleGetFunction")),
        start(find<int(Function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                       unsigned, void*, void**, void**)>(in, "cuLaunchKernel")),
        text(find<int(int, const char**)>(in, "cuGetErrorString")) {}

  template <class Signature>
  static Signature* find(const Opened& in, const char* name) {
    return in.function<Signature>(name, "the CUDA driver");
  }

  void check(int code, const char* doing) const {
    if (code == 0) return;
    const char* message = nullptr;
    text(code, &message);
    throw Error("the CUDA driver, " + std::string(doing) + ": " +
                (message ? message : "error " + std::to_string(code)));
  }

  // Of the device; a thread that LibTorch has not used for it yet has none.
  void have_context() const {
    Context context = nullptr;
    check(current(&context), "asked for its context");
    if (context) return;
    int number = 0;
    check(get(&number, device.index()), "asked for the device");
    check(primary(&context, number), "asked for its context");
    check(set_current(context), "given a context");
  }

  int capability() const {
    constexpr int kMajor = 75, kMinor = 76;  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_…
    int number = 0, major = 0, minor = 0;
    check(get(&number, device.index()), "asked for the device");
    check(attribute(&major, kMajor, number), "asked what the device can do");
    check(attribute(&minor, kMinor, number), "asked what the device can do");
    return 10 * major + minor;
  }

  at::Device device;
  int (*get)(int*, int);
  int (*attribute)(int*, int, int);
  int (*current)(Context*);
  int (*primary)(Context*, int);
  int (*set_current)(Context);
  int (*load)(Code*, const void*);
  int (*unload)(Code);
  int (*function)(Function*, Code, const char*);
  int (*start)(Function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
               void*, void**, void**);
  int (*text)(int, const char**);
  Code code = nullptr;
};

Kernels::Kernels(const std::vector<std::string>& libraries, const std::string& source,
                 at::Device device) {
  const Opened opened(libraries);
  const Nvrtc nvrtc(opened);
  auto driver = std::make_unique<Driver>(opened, device);
  const c10::DeviceGuard guard(device);
  driver->have_context();
  const std::string code = nvrtc.ptx(source, driver->capability());
  driver->check(driver->load(&driver->code, code.c_str()), "given code");
  driver_ = std::move(driver);
}

Kernels::~Kernels() { driver_->unload(driver_->code); }

void Kernels::launch(const char* kernel, std::int64_t threads, std::vector<void*> arguments) const {
  const Driver& driver = *driver_;
  const c10::DeviceGuard guard(driver.device);
  driver.have_context();
  Function function = nullptr;
  driver.check(driver.function(&function, driver.code, kernel), "asked for a kernel");
  const c10::Stream stream =
      c10::impl::VirtualGuardImpl(driver.device.type()).getStream(driver.device);
  const std::int64_t blocks = (threads + kThreadsOfBlock - 1) / kThreadsOfBlock;
  constexpr std::int64_t kMostBlocks = 0x7fffffff;
  if (blocks > kMostBlocks)
    throw Error(std::string(kernel) + ": " + std::to_string(threads) + " threads in one launch");
  driver.check(driver.start(function, static_cast<unsigned>(blocks), 1, 1, kThreadsOfBlock, 1, 1,
                            /*shared memory=*/0, stream.native_handle(), arguments.data(), nullptr),
               "started a kernel");
}

}  // namespace dkdm::cuda

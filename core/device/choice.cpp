#include "device/choice.hpp"

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <dlfcn.h>
#include <torch/version.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <regex>

namespace dkdm::device {
namespace {

constexpr const char* kForms = "expected auto, cpu, cuda or cuda:N";

// Without float64 neither the random numbers nor the schedules come out.
bool is_useful(at::DeviceType type) { return type != at::kMPS; }

// The device that a word names, there or not.
at::Device named(const Asked& asked) {
  try {
    const at::Device device(asked.word);
    return device.is_cpu() || device.has_index() ? device : at::Device(device.type(), 0);
  } catch (const c10::Error&) {
    throw ConfigError(asked.where, "there is no device \"" + asked.word + "\", " + kForms);
  }
}

std::string type_name(at::DeviceType type) {
  return c10::DeviceTypeName(type, /*lower_case=*/true);
}

// Why an accelerator of this kind cannot be used here.
std::string reason(at::DeviceType type) {
  const std::string libtorch = std::string("LibTorch ") + TORCH_VERSION;
  if (type != at::kCUDA) return libtorch + " has no support for it";
  if (!at::globalContext().hasCUDA() && !at::detail::getCUDAHooks().hasCUDART())
    return libtorch + " is a build for the CPU; build with a LibTorch for CUDA (README, GPU)";
  return libtorch + " is built for CUDA and finds no GPU: nvidia-smi shows what the driver sees, " +
         "CUDA_VISIBLE_DEVICES what this process may";
}

c10::DeviceAllocator* counting_allocator(at::Device device) {
  if (device.is_cpu()) return nullptr;
  return dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(device.type()));
}

// Of the CUDA driver's own library, which LibTorch has loaded: it counts devices as LibTorch does.
std::string cuda_name(int index) {
  void* library = ::dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (!library) return "";
  using Get = int (*)(int*, int);
  using Name = int (*)(char*, int, int);
  const auto get = reinterpret_cast<Get>(::dlsym(library, "cuDeviceGet"));
  const auto name = reinterpret_cast<Name>(::dlsym(library, "cuDeviceGetName"));
  std::array<char, 256> text{};
  int device = 0;
  const bool known = get && name && get(&device, index) == 0 &&
                     name(text.data(), static_cast<int>(text.size()), device) == 0;
  ::dlclose(library);
  return known ? text.data() : "";
}

std::string nvidia_driver() {
  std::ifstream file("/proc/driver/nvidia/version");
  std::string line;
  std::getline(file, line);
  static const std::regex version(R"(\b\d+(\.\d+)+\b)");
  std::smatch found;
  return std::regex_search(line, found, version) ? found.str() : "";
}

}  // namespace

void check_word(const Asked& asked) {
  if (asked.word != "auto") named(asked);
}

at::Device chosen(const Asked& asked) {
  const auto there = at::getAccelerator();
  const int count = there ? at::accelerator::deviceCount() : 0;
  if (asked.word == "auto")
    return count > 0 && is_useful(*there) ? at::Device(*there, 0) : at::Device(at::kCPU);
  const at::Device device = named(asked);
  if (device.is_cpu()) return device;
  const std::string refused = "device " + device.str() + " cannot be used: ";
  if (!is_useful(device.type()))
    throw ConfigError(asked.where, refused +
                                       "it has no float64, which random numbers and "
                                       "schedules need; device = \"cpu\" computes here");
  if (!there || *there != device.type() || count == 0)
    throw ConfigError(asked.where, refused + reason(device.type()));
  if (device.index() >= count)
    throw ConfigError(asked.where, refused + "there " +
                                       (count == 1 ? "is 1 device"
                                                   : "are " + std::to_string(count) + " devices") +
                                       " of that kind, counted from " + type_name(*there) + ":0");
  return device;
}

Description describe(at::Device device) {
  Description about;
  if (device.is_cpu()) return about;
  about.name = device.is_cuda() ? cuda_name(device.index()) : type_name(device.type());
  if (device.is_cuda()) about.driver = nvidia_driver();
  at::globalContext().lazyInitDevice(device.type());
  if (auto* allocator = counting_allocator(device)) {
    try {
      about.memory_bytes =
          static_cast<std::int64_t>(allocator->getMemoryInfo(device.index()).second);
    } catch (const c10::Error&) {  // this kind of device does not say
    }
  }
  return about;
}

std::optional<double> peak_bytes(at::Device device) {
  auto* allocator = counting_allocator(device);
  if (!allocator || !allocator->initialized()) return std::nullopt;
  constexpr auto kAll = static_cast<std::size_t>(at::CachingAllocator::StatType::AGGREGATE);
  return static_cast<double>(allocator->getDeviceStats(device.index()).allocated_bytes[kAll].peak);
}

void restart_peak(at::Device device) {
  auto* allocator = counting_allocator(device);
  if (allocator && allocator->initialized()) allocator->resetPeakStats(device.index());
}

void set_arithmetic(bool fast) {
  auto& context = at::globalContext();
  context.setFloat32Precision(at::Float32Backend::CUDA, at::Float32Op::ALL,
                              at::Float32Precision::IEEE);
  context.setAllowTF32CuDNN(false);
  context.setDeterministicCuDNN(!fast);
  context.setBenchmarkCuDNN(fast);
  // What has no repeatable kernel warns and goes on. Memory that is not filled yet needs no NaNs.
  context.setDeterministicAlgorithms(!fast, /*warn_only=*/true);
  context.setDeterministicFillUninitializedMemory(false);
  // cuBLAS is repeatable with a workspace of its own alone, and reads this when it is first used.
  if (!fast) ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
}

bool is_repeatable() { return at::globalContext().deterministicAlgorithms(); }

}  // namespace dkdm::device

#include "random/kernel.hpp"

#include <ATen/ATen.h>

#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "error_text.hpp"
#include "log/log.hpp"
#include "random/fill.hpp"
#include "random/kernel_source.hpp"

namespace dkdm::random {
namespace {

// Never freed: the driver may be gone before.
struct Known {
  std::mutex mutex;
  std::vector<std::string> libraries = cuda::libraries();
  at::DeviceType type = at::kCUDA;
  std::map<at::DeviceIndex, std::unique_ptr<const NumberKernels>> of_device;
};

Known& known() {
  static auto* const kKnown = new Known;
  return *kKnown;
}

// Blocks that a row of `length` elements takes, of `group_size` elements a group.
std::int64_t blocks_of(std::int64_t length, std::int64_t group_size) {
  return (length + group_size - 1) / group_size * kLanes;
}

template <class... Arguments>
std::vector<void*> addresses(Arguments&... arguments) {
  return {const_cast<void*>(static_cast<const void*>(&arguments))...};
}

const std::int64_t* address_of(const Step& step) {
  return step.on_device.defined() ? step.on_device.const_data_ptr<std::int64_t>() : nullptr;
}

}  // namespace

NumberKernels::NumberKernels(const std::vector<std::string>& libraries, at::Device device)
    : device_(device), kernels_(libraries, kKernelSource, device) {}

const NumberKernels* NumberKernels::of(at::Device device) {
  Known& all = known();
  const std::scoped_lock lock(all.mutex);
  if (device.type() != all.type) return nullptr;
  const auto [found, is_new] = all.of_device.try_emplace(device.index());
  if (!is_new) return found->second.get();
  std::string wrong;
  try {
    std::unique_ptr<const NumberKernels> made(new NumberKernels(all.libraries, device));
    wrong = made->trial();
    if (wrong.empty()) found->second = std::move(made);
  } catch (const std::exception& error) {
    wrong = error_text(error);
  }
  if (!wrong.empty())
    log::warn("random", "numbers are made on " + device.str() +
                            " by LibTorch's operators, which takes longer: " + wrong);
  return found->second.get();
}

void NumberKernels::look_in(std::vector<std::string> libraries, at::DeviceType type) {
  Known& all = known();
  const std::scoped_lock lock(all.mutex);
  all.libraries = std::move(libraries);
  all.type = type;
  all.of_device.clear();
}

at::Tensor NumberKernels::normal(const Key& key, const Step& step, const at::Tensor& samples,
                                 std::int64_t length) const {
  const at::Tensor contiguous = samples.contiguous();
  std::int64_t rows = samples.size(0), blocks = blocks_of(length, kNormalGroup);
  const at::Tensor result = at::empty({rows, length}, samples.options().dtype(at::kFloat));
  if (result.numel() == 0) return result;
  const std::int64_t* step_at = address_of(step);
  const std::int64_t* sample = contiguous.const_data_ptr<std::int64_t>();
  float* out = result.mutable_data_ptr<float>();
  kernels_.launch(
      "dkdm_normal", rows * blocks,
      addresses(key.word0, key.word1, step.number, step_at, sample, rows, length, blocks, out));
  return result;
}

at::Tensor NumberKernels::uniform(const Key& key, const Step& step, std::int64_t first,
                                  std::int64_t count) const {
  const at::Tensor result =
      at::empty({count}, at::TensorOptions().dtype(at::kDouble).device(device_));
  if (count == 0) return result;
  std::uint32_t block = kUniformBlock;
  const std::int64_t* step_at = address_of(step);
  double* out = result.mutable_data_ptr<double>();
  kernels_.launch("dkdm_uniform", count,
                  addresses(key.word0, key.word1, step.number, step_at, first, count, block, out));
  return result;
}

at::Tensor NumberKernels::mask(const Key& key, const Step& step, std::uint32_t layer,
                               std::int64_t first, std::int64_t rows, std::int64_t length,
                               std::uint32_t threshold, float scale) const {
  const at::Tensor result =
      at::empty({rows, length}, at::TensorOptions().dtype(at::kFloat).device(device_));
  if (result.numel() == 0) return result;
  std::int64_t blocks = blocks_of(length, kMaskGroup);
  const std::int64_t* step_at = address_of(step);
  float* out = result.mutable_data_ptr<float>();
  kernels_.launch("dkdm_mask", rows * blocks,
                  addresses(key.word0, key.word1, step.number, step_at, layer, first, rows, length,
                            blocks, threshold, scale, out));
  return result;
}

std::string NumberKernels::trial() const {
  constexpr std::int64_t kRows = 4, kLength = 1000;
  const Key key{0x243F6A88U, 0x85A308D3U};
  const auto there = at::TensorOptions().dtype(at::kLong).device(device_);
  const std::int64_t far = (std::int64_t{1} << 40) - 2;
  const at::Tensor samples = at::arange(kRows, there) + far;
  const Step told{7, {}}, kept{0, at::full({}, std::int64_t{7}, there)};
  if (!at::equal(uniform(key, kept, far, kLength),
                 portable_uniform(key, kept, far, kLength, device_)) ||
      !at::equal(normal(key, told, samples, kLength),
                 portable_normal(key, told, samples, kLength)) ||
      !at::equal(mask(key, kept, 3, 5, kRows, kLength, 20000, 1.5F),
                 portable_mask(key, kept, 3, 5, kRows, kLength, 20000, 1.5F, device_)))
    return "the CUDA kernels give other bits";
  return "";
}

}  // namespace dkdm::random

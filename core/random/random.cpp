// Random: tensors of Philox numbers. Work is split by rows and groups of a row; every group is a
// pure function of its place, so the split does not show in the result.
#include "dkdm/random.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <cmath>
#include <numeric>
#include <unordered_map>
#include <utility>
#include <vector>

#include "random/fill.hpp"
#include "random/kernel.hpp"
#include "random/philox.hpp"
#include "random/portable.hpp"

namespace dkdm {
namespace {

constexpr std::int64_t kElementsPerTask = 1 << 15;  // below this, waking a thread costs more

std::uint64_t high_and_low(const std::array<std::uint32_t, 4>& w) {
  return (std::uint64_t{w[0]} << 32) | w[1];
}

// floor(bound * word / 2^64): uniform on 0 … bound-1 but for a bias of at most bound / 2^64.
std::uint64_t bounded(std::uint64_t word, std::uint64_t bound) {
  return static_cast<std::uint64_t>((static_cast<unsigned __int128>(word) * bound) >> 64);
}

// fill(row, first group, element count, destination) over all rows of `length` elements.
template <typename Fill>
void for_rows(std::int64_t rows, std::int64_t length, std::int64_t group_size, float* out,
              const Fill& fill) {
  if (rows == 0 || length == 0) return;
  const std::int64_t groups = (length + group_size - 1) / group_size;
  const std::int64_t grain = std::max<std::int64_t>(1, kElementsPerTask / group_size);
  at::parallel_for(0, rows * groups, grain, [&](std::int64_t begin, std::int64_t end) {
    while (begin < end) {
      const std::int64_t row = begin / groups, group = begin % groups;
      const std::int64_t last = std::min(groups, group + end - begin);
      const std::int64_t first_element = group * group_size;
      fill(row, static_cast<std::uint32_t>(group),
           std::min(length, last * group_size) - first_element, out + row * length + first_element);
      begin += last - group;
    }
  });
}

// A number of 16 bits below the threshold drops an element, the others are scaled.
struct Dropping {
  std::uint32_t threshold;
  float scale;
};

Dropping dropping(double p) {
  if (!(p >= 0 && p < 1)) {
    throw Error("dropout: p is " + std::to_string(p) + ", expected 0 <= p < 1");
  }
  const auto threshold = static_cast<std::uint32_t>(std::min(65535L, std::lround(p * 65536)));
  return {threshold, static_cast<float>(65536.0 / (65536.0 - threshold))};
}

std::vector<std::int64_t> with_rows(std::int64_t rows, at::IntArrayRef shape) {
  std::vector<std::int64_t> sizes{rows};
  sizes.insert(sizes.end(), shape.begin(), shape.end());
  return sizes;
}

}  // namespace

random::Key random::key_of(std::uint64_t seed, Stream stream) {
  const std::uint64_t key = splitmix64(splitmix64(seed) ^ static_cast<std::uint64_t>(stream));
  return {static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)};
}

Random::Random(std::uint64_t seed, Stream stream) {
  const random::Key key = random::key_of(seed, stream);
  key0_ = key.word0;
  key1_ = key.word1;
}

std::array<std::uint32_t, 4> Random::words(std::uint32_t step, std::uint64_t sample,
                                           std::uint32_t block) const {
  return random::philox(
      {block, step, static_cast<std::uint32_t>(sample), static_cast<std::uint32_t>(sample >> 32)},
      {key0_, key1_});
}

at::Tensor random::normal(const Key& key, const Step& step, const at::Tensor& index,
                          at::IntArrayRef shape) {
  if (index.dim() != 1 || index.scalar_type() != at::kLong) {
    throw Error("random normal: sample indices must be int64 [n]");
  }
  const std::int64_t length = c10::multiply_integers(shape);
  // A shape alone; what numbers are made of would count as memory of the network's.
  if (index.is_meta())
    return at::empty(with_rows(index.size(0), shape), index.options().dtype(at::kFloat));
  if (makes_numbers(index.device())) {
    const auto* kernels = NumberKernels::of(index.device());
    return (kernels ? kernels->normal(key, step, index, length)
                    : portable_normal(key, step, index, length))
        .view(with_rows(index.size(0), shape));
  }
  const at::Tensor samples = index.to(at::kCPU).contiguous();
  const std::int64_t* sample = samples.const_data_ptr<std::int64_t>();
  at::Tensor result = at::empty(with_rows(index.size(0), shape), at::kFloat);
  for_rows(index.size(0), length, kNormalGroup, result.mutable_data_ptr<float>(),
           [&](std::int64_t row, std::uint32_t group, std::int64_t count, float* out) {
             const auto id = static_cast<std::uint64_t>(sample[row]);
             fill_normal({key.word0, key.word1, step.number, static_cast<std::uint32_t>(id),
                          static_cast<std::uint32_t>(id >> 32)},
                         group, count, out);
           });
  return result.to(index.device());
}

at::Tensor Random::normal(std::uint32_t step, const at::Tensor& index,
                          at::IntArrayRef shape) const {
  return random::normal({key0_, key1_}, {step, {}}, index, shape);
}

at::Tensor Random::normal(std::uint32_t step, std::int64_t first, std::int64_t count,
                          at::IntArrayRef shape) const {
  at::Tensor index = at::empty({count}, at::kLong);
  std::int64_t* out = index.mutable_data_ptr<std::int64_t>();
  std::iota(out, out + count, first);
  return normal(step, index, shape);
}

at::Tensor Random::uniform(std::uint32_t step, std::int64_t first, std::int64_t count) const {
  at::Tensor result = at::empty({count}, at::kDouble);
  double* out = result.mutable_data_ptr<double>();
  for (std::int64_t i = 0; i < count; ++i) {
    const auto w = words(step, static_cast<std::uint64_t>(first + i), random::kUniformBlock);
    out[i] = static_cast<double>(high_and_low(w) >> 11) * 0x1p-53;
  }
  return result;
}

at::Tensor random::uniform(std::uint64_t seed, Stream stream, const Step& step, std::int64_t first,
                           std::int64_t count, at::Device device) {
  if (device.is_meta())
    return at::empty({count}, at::TensorOptions().dtype(at::kDouble).device(device));
  if (!makes_numbers(device))
    return Random(seed, stream).uniform(step.number, first, count).to(device);
  const auto* kernels = NumberKernels::of(device);
  const Key key = key_of(seed, stream);
  return kernels ? kernels->uniform(key, step, first, count)
                 : portable_uniform(key, step, first, count, device);
}

at::Tensor Random::integers(std::uint32_t step, std::int64_t first, std::int64_t count,
                            std::int64_t bound) const {
  if (bound < 1 || bound > (std::int64_t{1} << 32)) {
    throw Error("random integers: bound is " + std::to_string(bound) + ", expected 1 to 2^32");
  }
  at::Tensor result = at::empty({count}, at::kLong);
  std::int64_t* out = result.mutable_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < count; ++i) {
    const auto w = words(step, static_cast<std::uint64_t>(first + i), random::kIntegerBlock);
    out[i] = static_cast<std::int64_t>(bounded(high_and_low(w), static_cast<std::uint64_t>(bound)));
  }
  return result;
}

at::Tensor Random::choice(std::uint32_t step, std::int64_t n, std::int64_t count) const {
  if (count < 0 || count > n) {
    throw Error("random choice: cannot take " + std::to_string(count) + " distinct integers of " +
                std::to_string(n));
  }
  at::Tensor result = at::empty({count}, at::kLong);
  std::int64_t* out = result.mutable_data_ptr<std::int64_t>();
  // Fisher-Yates from the front. Few of many: only the places that were touched are stored.
  const auto shuffle = [&](const auto& at_place) {
    for (std::int64_t i = 0; i < count; ++i) {
      const auto w = words(step, static_cast<std::uint64_t>(i), random::kChoiceBlock);
      const auto jump = bounded(high_and_low(w), static_cast<std::uint64_t>(n - i));
      std::int64_t& chosen = at_place(i + static_cast<std::int64_t>(jump));
      std::int64_t& front = at_place(i);
      std::swap(chosen, front);
      out[i] = front;
    }
  };
  if (count > n / 4) {
    std::vector<std::int64_t> all(static_cast<std::size_t>(n));
    std::iota(all.begin(), all.end(), std::int64_t{0});
    shuffle(
        [&](std::int64_t place) -> std::int64_t& { return all[static_cast<std::size_t>(place)]; });
  } else {
    std::unordered_map<std::int64_t, std::int64_t> touched;
    touched.reserve(static_cast<std::size_t>(2 * count));
    shuffle([&](std::int64_t place) -> std::int64_t& {
      return touched.try_emplace(place, place).first->second;
    });
  }
  return result;
}

at::Tensor Random::dropout_mask(std::uint32_t step, std::uint32_t layer, std::int64_t first,
                                at::IntArrayRef sizes, double p) const {
  const auto [threshold, scale] = dropping(p);
  const auto format =
      sizes.size() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
  at::Tensor mask = at::empty(sizes, at::TensorOptions().dtype(at::kFloat).memory_format(format));
  const std::int64_t rows = sizes.empty() ? 1 : sizes[0];
  const std::int64_t length = rows == 0 ? 0 : mask.numel() / rows;
  for_rows(rows, length, random::kMaskGroup, mask.mutable_data_ptr<float>(),
           [&](std::int64_t row, std::uint32_t group, std::int64_t count, float* out) {
             // The counter's last word separates layers; samples of one step number below 2^32.
             random::fill_mask({key0_, key1_, step, static_cast<std::uint32_t>(first + row), layer},
                               group, count, threshold, scale, out);
           });
  return mask;
}

at::Tensor random::dropout_mask(std::uint64_t seed, Stream stream, const Step& step,
                                std::uint32_t layer, std::int64_t first, at::IntArrayRef sizes,
                                double p, at::Device device) {
  if (device.is_meta()) {
    const auto format =
        sizes.size() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
    return at::empty(sizes,
                     at::TensorOptions().dtype(at::kFloat).device(device).memory_format(format));
  }
  if (!makes_numbers(device))
    return Random(seed, stream).dropout_mask(step.number, layer, first, sizes, p).to(device);
  const auto [threshold, scale] = dropping(p);
  const std::int64_t rows = sizes.empty() ? 1 : sizes[0];
  const std::int64_t length = rows == 0 ? 0 : c10::multiply_integers(sizes) / rows;
  const auto* kernels = NumberKernels::of(device);
  const Key key = key_of(seed, stream);
  const at::Tensor mask =
      kernels ? kernels->mask(key, step, layer, first, rows, length, threshold, scale)
              : portable_mask(key, step, layer, first, rows, length, threshold, scale, device);
  if (sizes.size() != 4) return mask.view(sizes);
  return mask.view({sizes[0], sizes[2], sizes[3], sizes[1]}).permute({0, 3, 1, 2});
}

}  // namespace dkdm

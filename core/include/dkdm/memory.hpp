// The size of a network before there is one. A network that cannot fit this machine is refused by
// its size, instead of filling memory until the kernel ends the process.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "dkdm/error.hpp"

namespace dkdm {

// What this process may use: physical memory, or the limit of its control group where that is
// lower.
DKDM_API std::int64_t machine_memory();

struct NetworkSize {
  std::int64_t parameters = 0;
  std::int64_t bytes = 0;  // of parameters and buffers
};

// Copies of the weights that training keeps: weights, gradients, AdamW's two moments, the average.
inline constexpr std::int64_t kTrainingCopies = 5;

// The size of what `make` makes, without touching memory for its weights: their initialisation is
// left out, so that pages are asked for and never written, and what was made is dropped. Throws
// ConfigError that begins with `what` (a file's section, a plugin's name) as soon as `copies` of
// the weights so far are more than machine_memory(); besides that, what `make` throws.
DKDM_API NetworkSize
measured_network(const std::function<std::shared_ptr<torch::nn::Module>()>& make,
                 std::int64_t copies, const std::string& what);

// Throws ConfigError unless `bytes` are at most machine_memory(): "WHAT needs 12 GiB of memory,
// this machine has 8.0 GiB; REMEDY".
DKDM_API void require_memory(double bytes, const std::string& what, const std::string& remedy);

}  // namespace dkdm

// The choice of the device that networks compute on, and what is known of it.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <optional>
#include <string>

#include "dkdm/error.hpp"

namespace dkdm::device {

// What a person asked for, and where: "--device", "$DKDM_DEVICE", "file:line:column".
struct Asked {
  std::string word = "auto";
  std::string where;
};

// "auto" (the first accelerator that LibTorch can use here, else the CPU), "cpu", "cuda" (the first
// of that kind) or "cuda:N", on this machine; instead of "cuda" any other accelerator that this
// LibTorch was built or extended for. Throws ConfigError(asked.where) for another word, for a
// device that is not there and for one without float64: what there is, and why not that. A process
// that is to fork does not call it: looking at a GPU takes hold of it.
DKDM_API at::Device chosen(const Asked& asked);

// Whether the word has one of the forms above, whatever this machine has. Throws as `chosen`.
DKDM_API void check_word(const Asked& asked);

struct Description {
  std::string name;               // "NVIDIA H200"; "" = not known
  std::string driver;             // its version, "" = not known
  std::int64_t memory_bytes = 0;  // its own, 0 = not known or the machine's
};
// Of the CPU nothing.
DKDM_API Description describe(at::Device device);

// Most bytes of `device` that LibTorch's tensors held at once since `restart_peak`; none where it
// does not count them, as on the CPU.
DKDM_API std::optional<double> peak_bytes(at::Device device);
DKDM_API void restart_peak(at::Device device);

// float32 is IEEE's on every device (no TF32), and an operator that has a repeatable kernel takes
// it, `fast` = the fastest instead. Of the whole process.
DKDM_API void set_arithmetic(bool fast);
DKDM_API bool is_repeatable();

}  // namespace dkdm::device

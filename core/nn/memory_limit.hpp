// Work that could take more memory than there is, such as the forward of an image that nobody can
// mean.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "dkdm/error.hpp"

namespace dkdm::nn {

// Bytes of tensors that a thread made, but of the smallest: the most at once, and what is still
// there.
struct Allocated {
  double most = 0, alive = 0;
};

// Runs `work`; throws ConfigError("WHAT needs more than 15 GiB of memory, all that this machine
// has; REMEDY") instead of the allocation with which the tensors that this thread made in it, and
// still has, would be more than machine_memory(). Of memory that others have nothing is known.
Allocated within_memory(const std::function<void()>& work, const std::string& what,
                        const std::string& remedy);
// The same of so many bytes; nothing where they are not enough.
std::optional<Allocated> within_bytes(const std::function<void()>& work, double bytes);

// While it lives, measured_network and require_memory of this thread refuse nothing that a machine
// elsewhere could hold.
class DKDM_API AnyMachine {
 public:
  AnyMachine();
  ~AnyMachine();
  AnyMachine(const AnyMachine&) = delete;
  AnyMachine& operator=(const AnyMachine&) = delete;

 private:
  bool before_;
};

}  // namespace dkdm::nn

// Work that could take more memory than there is, such as the forward of an image that nobody can
// mean.
#pragma once

#include <functional>
#include <string>

namespace dkdm::nn {

// Bytes of large tensors that a thread made: the most at once, and what is still there.
struct Allocated {
  double most = 0, alive = 0;
};

// Runs `work`; throws ConfigError("WHAT needs more than 15 GiB of memory, all that this machine
// has; REMEDY") instead of the allocation with which the tensors that this thread made in it, and
// still has, would be more than machine_memory(). Of memory that others have nothing is known.
Allocated within_memory(const std::function<void()>& work, const std::string& what,
                        const std::string& remedy);

}  // namespace dkdm::nn

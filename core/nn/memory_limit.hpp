// Work that could take more memory than there is, such as the forward of an image that nobody can
// mean.
#pragma once

#include <functional>
#include <string>

namespace dkdm::nn {

// Runs `work`; throws ConfigError("WHAT needs more than 15 GiB of memory, all that this machine
// has; REMEDY") instead of the allocation with which the tensors that this thread made in it, and
// still has, would be more than machine_memory(). Of memory that others have nothing is known.
void within_memory(const std::function<void()>& work, const std::string& what,
                   const std::string& remedy);

}  // namespace dkdm::nn

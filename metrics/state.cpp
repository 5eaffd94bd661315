// Definition: state.hpp.
#include "metrics/state.hpp"

#include <ATen/ATen.h>

#include <sstream>
#include <stdexcept>

namespace dkdm::metrics {

at::Tensor state_tensor(const std::map<std::string, at::Tensor>& state, const std::string& key,
                        at::ScalarType type, const std::vector<std::int64_t>& shape) {
  const auto found = state.find(key);
  if (found == state.end() || !found->second.defined())
    throw std::invalid_argument("state: '" + key + "' is missing");
  const at::Tensor& tensor = found->second;
  bool same = tensor.scalar_type() == type && tensor.dim() == std::int64_t(shape.size());
  for (std::size_t i = 0; same && i < shape.size(); ++i)
    same = shape[i] == -1 || shape[i] == tensor.size(std::int64_t(i));
  if (!same) {
    std::ostringstream text;
    text << "state: '" << key << "' is " << tensor.scalar_type() << ' ' << tensor.sizes()
         << "; expected " << type << ' ' << at::IntArrayRef(shape);
    throw std::invalid_argument(text.str());
  }
  return tensor.to(at::kCPU);
}

}  // namespace dkdm::metrics

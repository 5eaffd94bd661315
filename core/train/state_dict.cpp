#include "train/state_dict.hpp"

#include <sstream>

namespace dkdm::train {

void copy_strictly(const std::map<std::string, at::Tensor>& source,
                   const std::map<std::string, at::Tensor>& target, const std::string& where) {
  std::vector<std::string> problems;
  for (const auto& [name, tensor] : target) {
    const auto found = source.find(name);
    if (found == source.end()) {
      problems.push_back("missing " + name);
    } else if (found->second.sizes() != tensor.sizes()) {
      std::ostringstream line;
      line << name << " has shape " << found->second.sizes() << ", expected " << tensor.sizes();
      problems.push_back(line.str());
    }
  }
  for (const auto& [name, tensor] : source)
    if (!target.contains(name)) problems.push_back("unexpected " + name);
  if (!problems.empty()) {
    constexpr std::size_t kListed = 10;
    std::string text = "tensors do not fit the network: ";
    for (std::size_t i = 0; i < std::min(kListed, problems.size()); ++i)
      text += (i ? "; " : "") + problems[i];
    if (problems.size() > kListed)
      text += "; and " + std::to_string(problems.size() - kListed) + " more";
    throw DataError(where, text);
  }
  at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : target) tensor.copy_(source.at(name));
}

}  // namespace dkdm::train

#include "model/state_dict.hpp"

#include <torch/nn/module.h>

#include <algorithm>
#include <map>
#include <sstream>

#include "dkdm/checkpoint.hpp"
#include "io/array/tensor_types.hpp"

namespace dkdm::model {

void copy_strictly(const std::map<std::string, at::Tensor>& source,
                   const std::map<std::string, at::Tensor>& target, const std::string& where) {
  std::vector<std::string> problems;
  std::size_t missing = 0, misshapen = 0, unexpected = 0;
  for (const auto& [name, tensor] : target) {
    const auto found = source.find(name);
    if (found == source.end()) {
      problems.push_back("missing " + name);
      ++missing;
    } else if (found->second.sizes() != tensor.sizes()) {
      std::ostringstream line;
      line << name << " has shape " << found->second.sizes() << ", expected " << tensor.sizes();
      problems.push_back(line.str());
      ++misshapen;
    }
  }
  for (const auto& [name, tensor] : source) {
    if (target.contains(name)) continue;
    problems.push_back("unexpected " + name);
    ++unexpected;
  }
  if (!problems.empty()) {
    constexpr std::size_t kListed = 10;
    std::string text = "tensors do not fit the network (" + std::to_string(missing) + " missing, " +
                       std::to_string(misshapen) + " misshapen, " + std::to_string(unexpected) +
                       " unexpected): ";
    for (std::size_t i = 0; i < std::min(kListed, problems.size()); ++i)
      text += (i ? "; " : "") + problems[i];
    if (problems.size() > kListed)
      text += "; and " + std::to_string(problems.size() - kListed) + " more";
    throw DataError(where, text);
  }
  at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : target) tensor.copy_(source.at(name));
}

}  // namespace dkdm::model

namespace dkdm::io {

namespace {

// A module's own parameters, then its buffers, then its children's, as PyTorch's state_dict() goes.
void collect(const torch::nn::Module& module, const std::string& prefix, NamedTensors& out) {
  for (const auto& entry : module.named_parameters(/*recurse=*/false))
    out.emplace_back(prefix + entry.key(), entry.value());
  for (const auto& entry : module.named_buffers(/*recurse=*/false))
    out.emplace_back(prefix + entry.key(), entry.value());
  for (const auto& child : module.named_children())
    collect(*child.value(), prefix + child.key() + ".", out);
}

}  // namespace

NamedTensors state_of(const torch::nn::Module& network) {
  NamedTensors tensors;
  collect(network, "", tensors);
  return tensors;
}

void load_strictly(const NamedTensors& tensors, torch::nn::Module& network,
                   const std::string& where) {
  for (const auto& [name, tensor] : tensors) {
    if (tensor.scalar_type() == at::kFloat4_e2m1fn_x2) {
      throw DataError(where, "tensor '" + name +
                                 "' is of 4-bit floats, two a byte, which are not "
                                 "converted here: save it as float32");
    }
  }
  const NamedTensors target = state_of(network);
  const std::map<std::string, at::Tensor> given(tensors.begin(), tensors.end());
  for (const auto& [name, tensor] : target) {
    const auto found = given.find(name);
    if (found == given.end() || !tensor.is_floating_point() || found->second.is_floating_point())
      continue;
    // Integers are a quantised network's codes, whose scales are not here.
    throw DataError(
        where, "tensor '" + name + "' holds " + std::string(item_of(found->second, where).torch) +
                   " where the network has real numbers (a quantised file?): save it as float32");
  }
  model::copy_strictly(given, {target.begin(), target.end()}, where);
}

}  // namespace dkdm::io

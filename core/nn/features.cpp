// Listening to a network's activations (dkdm/features.hpp).
#include "dkdm/features.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "dkdm/device.hpp"
#include "dkdm/nearest.hpp"
#include "dkdm/nn.hpp"
#include "dkdm/params.hpp"

namespace dkdm {

void Denoiser::feature(const char* name, const torch::Tensor& activation) {
  if (listener_) listener_->hear(name, activation);
}

void Denoiser::feature(const char* part, std::size_t index, const torch::Tensor& activation) {
  if (listener_) listener_->hear(std::string(part) + '.' + std::to_string(index), activation);
}

std::vector<std::string> Denoiser::features_asked() const {
  return listener_ ? listener_->names_ : std::vector<std::string>();
}

Features::Features(Denoiser& network, std::vector<std::string> names) : names_(std::move(names)) {
  const auto listen = [&](Denoiser& to) {
    before_.emplace_back(&to, to.listener_);
    to.listener_ = this;
  };
  listen(network);
  for (const auto& module : network.modules(/*include_self=*/false))
    if (auto* inner = dynamic_cast<Denoiser*>(module.get())) listen(*inner);
}

Features::~Features() {
  for (const auto& [network, listener] : before_) network->listener_ = listener;
}

void Features::hear(const std::string& name, const torch::Tensor& activation) {
  if (std::find(offered_.begin(), offered_.end(), name) == offered_.end()) offered_.push_back(name);
  if (names_.empty() || std::find(names_.begin(), names_.end(), name) != names_.end())
    heard_[name] = nn::in_full(activation);  // losses compute in float32
}

TensorMap Features::take() {
  for (const std::string& name : names_) {
    if (heard_.contains(name)) continue;
    const std::string near = nearest_name(name, offered_);
    std::string there;
    for (const std::string& each : offered_) there += (there.empty() ? "" : ", ") + each;
    throw ConfigError(
        "the network has no feature \"" + name + '"' +
        (near.empty() ? "" : ", did you mean \"" + near + "\"?") +
        (there.empty() ? "; its forward offers none (Denoiser::feature)" : "; it offers " + there));
  }
  offered_.clear();
  return std::exchange(heard_, {});
}

TensorMap example_features(Denoiser& network, const SampleShape& shape,
                           std::vector<std::string> names) {
  const bool training = network.is_training();
  network.eval();
  const at::NoGradGuard no_grad;
  Features features(network, std::move(names));
  const auto there = at::TensorOptions().device(device_of(network));
  network.forward(at::zeros(shape.batch(1), there), at::zeros({1}, there.dtype(at::kLong)));
  network.train(training);
  return features.take();
}

}  // namespace dkdm

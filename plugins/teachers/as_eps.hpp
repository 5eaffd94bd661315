// A network that predicts something else than eps, or counts time otherwise, made a Denoiser of
// eps. With a = sqrt(alpha_bar_t), b = sqrt(1 - alpha_bar_t): eps = (x_t - a x0) / b; v = a eps - b
// x0 (Salimans & Ho 2022), so eps = a v + b x_t.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <string>
#include <vector>

#include "dkdm/denoiser.hpp"
#include "dkdm/diffusion.hpp"

namespace dkdm::teachers {

enum class Prediction { eps, sample, v };

class AsEps final : public Denoiser {
 public:
  // `time_scale` multiplies the step index before the network sees it.
  AsEps(std::shared_ptr<Denoiser> network, Prediction prediction, DiffusionConfig diffusion,
        double time_scale)
      : network_(register_module("network", std::move(network))), prediction_(prediction),
        time_scale_(time_scale) {
    diffusion.respacing.clear();
    const GaussianDiffusion process(diffusion);
    // Buffers: they move with the network.
    const auto table = [](const std::vector<double>& values) {
      return at::tensor(values, at::kDouble).to(at::kFloat);
    };
    a_ = register_buffer("sqrt_alpha_bar", table(process.tables().sqrt_alpha_bar));
    b_ = register_buffer("sqrt_one_minus_alpha_bar",
                         table(process.tables().sqrt_one_minus_alpha_bar));
  }

  at::Tensor forward(const at::Tensor& x_t, const at::Tensor& t) override {
    const at::Tensor time = time_scale_ == 1 ? t : t.to(at::kFloat) * time_scale_;
    const at::Tensor out = network_->forward(x_t, time);
    if (prediction_ == Prediction::eps) return out;
    auto parts = out.split(x_t.size(1), 1);
    const at::Tensor step = t.to(at::kLong);
    const auto at_step = [&](const at::Tensor& table) {
      return table.index_select(0, step).view({-1, 1, 1, 1});
    };
    const at::Tensor a = at_step(a_), b = at_step(b_);
    parts[0] = prediction_ == Prediction::v ? a * parts[0] + b * x_t : (x_t - a * parts[0]) / b;
    return parts.size() == 1 ? parts[0] : at::cat(parts, 1);
  }

 private:
  std::shared_ptr<Denoiser> network_;
  Prediction prediction_;
  double time_scale_;
  at::Tensor a_, b_;  // of every step before respacing
};

// `network` itself when it already is as it should be.
inline std::shared_ptr<Denoiser> as_eps(std::shared_ptr<Denoiser> network, Prediction prediction,
                                        const DiffusionConfig& diffusion, double time_scale = 1) {
  if (prediction == Prediction::eps && time_scale == 1) return network;
  return std::make_shared<AsEps>(std::move(network), prediction, diffusion, time_scale);
}

}  // namespace dkdm::teachers

#include "dkdm/optimizer.hpp"

#include <cmath>
#include <cstdio>
#include <numbers>
#include <optional>

#include "model/state_dict.hpp"

namespace dkdm::train {

namespace {
constexpr const char* kPartPrefix = "method/";  // no parameter of a network has such a name
}

double learning_rate(const Params& settings, std::int64_t step) {
  const double lr = settings.real("lr");
  const auto warmup = settings.integer("warmup_steps");
  if (step < warmup) return lr * double(step + 1) / double(warmup);
  const auto steps = settings.integer("steps");
  const double done = double(step - warmup) / double(std::max<std::int64_t>(1, steps - warmup));
  const auto& decay = settings.text("lr_decay");
  if (decay == "cosine") return lr * 0.5 * (1 + std::cos(std::numbers::pi * done));
  if (decay == "linear") return lr * (1 - done);
  return lr;
}

double ema_decay(const Params& settings, std::int64_t step) {
  const double decay = settings.real("ema");
  const Value& warmup = settings.values().at("ema_warmup");
  if (warmup == Value(false)) return decay;
  const auto n = double(warmup == Value(std::string("ldm")) ? step + 1 : step);
  return std::min(decay, (1 + n) / (10 + n));
}

double ema_remainder(const Params& settings) {
  double remainder = 1;
  // Below this nothing of them shows in float32.
  constexpr double kNothing = 1e-12;
  for (std::int64_t step = 0; step < settings.integer("steps") && remainder > kNothing; ++step)
    remainder *= ema_decay(settings, step);
  return remainder;
}

std::string ema_warning(const Params& settings) {
  constexpr double kShort = 0.1, kFitting = 0.01;
  const double remainder = ema_remainder(settings);
  if (remainder <= kShort) return "";
  const double fitting = std::pow(kFitting, 1 / double(settings.integer("steps")));
  char text[256];
  std::snprintf(
      text, sizeof text,
      "ema = %g over %lld steps leaves %.0f %% of the initial weights in the EMA weights; ema = "
      "%.4g leaves 1 %%, and ema_warmup = true fits any budget",
      settings.real("ema"), static_cast<long long>(settings.integer("steps")), 100 * remainder,
      std::floor(fitting * 1e4) / 1e4);
  return text;
}

Optimizer::Optimizer(torch::nn::Module& network, const Params& settings, const TrainedPart& part)
    : settings_(settings) {
  add(network, "", /*averaged=*/true);
  network_count_ = names_.size();
  if (part.network) add(*part.network, kPartPrefix, part.ema);
  // One count for all, beside the parameters: the fused kernel reads it and does not advance it.
  if (parameters_.empty()) return;
  const auto there = parameters_.front().options();
  step_count_.assign(parameters_.size(), at::zeros({}, there.dtype(at::kFloat)));
  if (settings.text("precision") != "fp16") return;
  constexpr double kFirstLog2 = 20;
  log2_scale_ = at::full({}, kFirstLog2, there.dtype(at::kDouble));
  skipped_ = at::zeros({}, there.dtype(at::kFloat));
}

void Optimizer::add(torch::nn::Module& network, const std::string& prefix, bool averaged) {
  for (const auto& entry : network.named_parameters()) {
    const at::Tensor& parameter = entry.value();
    if (parameter.requires_grad()) {
      trained_.push_back(names_.size());
      parameters_.push_back(parameter.detach());
      exp_avg_.push_back(at::zeros_like(parameters_.back()));
      exp_avg_sq_.push_back(at::zeros_like(parameters_.back()));
    }
    if (averaged) {
      averaged_.push_back(names_.size());
      averaged_values_.push_back(parameter.detach());
      ema_.push_back(parameter.detach().clone());
    }
    names_.push_back(prefix + entry.key());
    all_.push_back(parameter);
    values_.push_back(parameter.detach());
  }
}

std::vector<at::Tensor> Optimizer::gradients() const {
  std::vector<at::Tensor> gradients;
  gradients.reserve(trained_.size());
  for (std::size_t i : trained_) {
    const at::Tensor& gradient = all_[i].grad();
    gradients.push_back(gradient.defined() ? gradient : at::zeros_like(all_[i].detach()));
  }
  return gradients;
}

at::Tensor Optimizer::scaled(const at::Tensor& loss) const {
  return log2_scale_.defined() ? loss * log2_scale_.exp2().to(loss.scalar_type()) : loss;
}

at::Tensor Optimizer::grad_norm() const {
  at::NoGradGuard no_grad;
  const at::Tensor norm = at::stack(at::_foreach_norm(gradients(), 2)).norm();
  return log2_scale_.defined() ? norm * (-log2_scale_).exp2().to(at::kFloat) : norm;
}

void Optimizer::step(std::int64_t step, const at::Tensor& norm) {
  at::NoGradGuard no_grad;
  auto gradients = this->gradients();
  const bool scales = log2_scale_.defined();
  std::optional<at::Tensor> overflow;  // 1 or 0
  if (scales) {
    overflow = norm.isfinite().logical_not().to(at::kFloat);
    at::_foreach_mul_(gradients, (-log2_scale_).exp2().to(at::kFloat));
  }
  const double clip = settings_.real("grad_clip");
  if (clip > 0) at::_foreach_mul_(gradients, (clip / (norm + 1e-6)).clamp_max(1.0));
  if (!step_count_.empty()) step_count_.front().fill_(double(step + 1));
  if (scales) step_count_.front().sub_(skipped_);
  at::_fused_adamw_(parameters_, gradients, exp_avg_, exp_avg_sq_, /*max_exp_avg_sqs=*/{},
                    step_count_, learning_rate(settings_, step), settings_.real("beta1"),
                    settings_.real("beta2"), settings_.real("weight_decay"),
                    settings_.real("adam_eps"), /*amsgrad=*/false, /*maximize=*/false,
                    /*grad_scale=*/std::nullopt, /*found_inf=*/overflow);
  const double towards = 1.0 - ema_decay(settings_, step);
  if (scales) {
    const auto change = at::_foreach_sub(averaged_values_, ema_);
    at::_foreach_mul_(change, (1 - *overflow) * towards);
    at::_foreach_add_(ema_, change);
    constexpr double kGrowth = 0.001;
    skipped_.add_(*overflow);
    log2_scale_.copy_(at::where(*overflow > 0, log2_scale_ - 1, log2_scale_ + kGrowth));
  } else {
    at::_foreach_lerp_(ema_, averaged_values_, towards);
  }
  for (std::size_t i : trained_) all_[i].mutable_grad().reset();
}

std::vector<std::pair<std::string, std::vector<at::Tensor>>> Optimizer::slots() const {
  return {
      {"param/", values_}, {"ema/", ema_}, {"exp_avg/", exp_avg_}, {"exp_avg_sq/", exp_avg_sq_}};
}

std::map<std::string, at::Tensor> Optimizer::state() const {
  std::map<std::string, at::Tensor> state;
  for (const auto& [prefix, tensors] : slots()) {
    const auto index = [&, &prefix = prefix](std::size_t i) {
      return prefix == "param/" ? i : prefix == "ema/" ? averaged_[i] : trained_[i];
    };
    for (std::size_t i = 0; i < tensors.size(); ++i) state[prefix + names_[index(i)]] = tensors[i];
  }
  if (log2_scale_.defined()) {
    state["loss_scale/log2"] = log2_scale_;
    state["loss_scale/skipped"] = skipped_;
  }
  return state;
}

void Optimizer::restore(const std::map<std::string, at::Tensor>& state, const std::string& where) {
  model::copy_strictly(state, this->state(), where);
}

std::map<std::string, at::Tensor> Optimizer::weights(bool ema) const {
  std::map<std::string, at::Tensor> weights;
  for (std::size_t i = 0; i < network_count_; ++i) weights[names_[i]] = ema ? ema_[i] : values_[i];
  return weights;
}

std::map<std::string, at::Tensor> Optimizer::part_weights() const {
  const std::string prefix = kPartPrefix;
  std::map<std::string, at::Tensor> weights;
  for (std::size_t i = network_count_; i < names_.size(); ++i)
    weights[names_[i].substr(prefix.size())] = values_[i];
  for (std::size_t i = network_count_; i < averaged_.size(); ++i)
    weights["ema/" + names_[averaged_[i]].substr(prefix.size())] = ema_[i];
  return weights;
}

}  // namespace dkdm::train

// How the evaluator `classifier` trains a network on a dataset's labels, and measures one.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "classifier_network.hpp"
#include "dkdm/dataset.hpp"
#include "dkdm/device.hpp"
#include "dkdm/host.hpp"
#include "metrics/moments.hpp"
#include "one_behind.hpp"

namespace dkdm::classifier {

constexpr std::int64_t kBatch = 256;  // features are always computed in batches of this size
constexpr std::int64_t kHeldOutShare = 12;
constexpr std::int64_t kCachedBytes = std::int64_t{1} << 30;
constexpr std::uint32_t kHoldOutStep =
    0xffffffff;  // of the stream whose other steps order the epochs

struct FeatureMoments {
  metrics::Moments pooled, spatial;
  void add(const Features& features) {
    pooled.add(features.pooled);
    spatial.add(features.spatial);
  }
};

struct Recipe {
  std::int64_t epochs, batch;
  double lr;  // of Adam at the start; falls to 0 as a cosine
};

// A dataset's images, kept in memory where they are at most 1 GiB: training asks for them in random
// order, which files and archives are slow at.
class Images {
 public:
  Images(const Dataset& data, Host& host) : data_(data) {
    const auto spec = data.spec();
    const auto bytes = data.size() * spec.values();
    if (bytes > kCachedBytes) return;
    at::Tensor all = at::empty(spec.batch(data.size()), at::kByte);
    for (std::int64_t first = 0; first < data.size(); first += kBatch) {
      host.progress("images to train on", first, data.size());
      const auto last = std::min(first + kBatch, data.size());
      all.slice(0, first, last).copy_(data.images(at::arange(first, last, at::kLong)));
    }
    cached_ = all;
  }

  Tensor images(const Tensor& index) const {
    return cached_.defined() ? cached_.index_select(0, index) : data_.images(index);
  }
  Tensor labels(const Tensor& index) const { return data_.labels(index); }
  // A batch in the order that its dataset is quickest at.
  Tensor in_order(const Tensor& index) const {
    return cached_.defined() ? index : std::get<0>(index.sort());
  }

 private:
  const Dataset& data_;
  Tensor cached_;
};

// int64: images that take no part in training, drawn at random since files are often sorted by
// class.
struct Split {
  Tensor trained, held_out;  // ascending
  Split(std::int64_t count, std::uint64_t seed) {
    const auto order = Random(seed, Stream::evaluator).choice(kHoldOutStep, count, count);
    const auto held = std::max<std::int64_t>(1, count / kHeldOutShare);
    held_out = std::get<0>(order.slice(0, 0, held).sort());
    trained = std::get<0>(order.slice(0, held).sort());
  }
};

// Adam (Kingma & Ba 2015) on the cross-entropy of images `which`.
inline void learn(Network& network, const Images& data, const Tensor& which, const Recipe& recipe,
                  std::uint64_t seed, Host& host) {
  const at::Device device = device_of(network);
  const evaluators::ExactFloats exact(device);
  network.train();
  const Random order(seed, Stream::evaluator);
  const std::int64_t count = which.size(0), batch = std::min(recipe.batch, count);
  const std::int64_t per_epoch = count / batch, steps = recipe.epochs * per_epoch;
  const auto parameters = network.parameters();
  // One count for all, beside the parameters: the fused kernel reads it and does not advance it.
  const std::vector<Tensor> step_count(
      parameters.size(), at::zeros({}, at::TensorOptions().dtype(at::kFloat).device(device)));
  std::vector<Tensor> values, gradients(parameters.size()), mean, square;
  for (const auto& parameter : parameters) {
    values.push_back(parameter.detach());
    mean.push_back(at::zeros_like(values.back()));
    square.push_back(at::zeros_like(values.back()));
  }
  Tensor permutation;
  for (std::int64_t step = 0; step < steps; ++step) {
    host.progress("classifier steps", step, steps);
    if (step % per_epoch == 0)
      permutation = which.index_select(
          0, order.choice(static_cast<std::uint32_t>(step / per_epoch), count, count));
    const Tensor index = data.in_order(permutation.narrow(0, step % per_epoch * batch, batch));
    at::cross_entropy_loss(network.logits(sent_to(data.images(index), device)),
                           sent_to(data.labels(index), device))
        .backward();
    for (std::size_t i = 0; i < parameters.size(); ++i) gradients[i] = parameters[i].grad();
    step_count.front().fill_(double(step + 1));
    const double done = double(step) / double(steps);
    const double lr = recipe.lr * 0.5 * (1 + std::cos(std::numbers::pi * done));
    at::NoGradGuard no_grad;
    at::_fused_adam_(values, gradients, mean, square, {}, step_count, lr, 0.9, 0.999,
                     /*weight_decay=*/0, 1e-8, /*amsgrad=*/false, /*maximize=*/false);
    for (const auto& parameter : parameters) parameter.mutable_grad().reset();
  }
  host.progress("classifier steps", steps, steps);
  network.eval();
}

// Of all images of `data`, in evaluation mode.
inline FeatureMoments feature_moments(Network& network, const Dataset& data, Host& host) {
  const at::Device device = device_of(network);
  FeatureMoments moments;
  evaluators::OneBehind behind;
  for (std::int64_t first = 0; first < data.size(); first += kBatch) {
    host.progress("reference images", first, data.size());
    const Tensor index = at::arange(first, std::min(first + kBatch, data.size()), at::kLong);
    const Features features = network.features(sent_to(data.images(index), device));
    behind.push({features.pooled, features.spatial},
                [&](const std::vector<Tensor>& all) { moments.add({all[0], all[1], {}}); });
  }
  behind.finish();
  host.progress("reference images", data.size(), data.size());
  return moments;
}

struct Accuracy {
  double right = 0;   // share classified rightly
  double chance = 0;  // share of the most frequent class
};

inline Accuracy accuracy(Network& network, const Images& data, const Tensor& which) {
  const at::Device device = device_of(network);
  Tensor right = at::zeros({}, at::TensorOptions().dtype(at::kLong).device(device));
  for (const Tensor& index : which.split(kBatch))
    right += network.features(sent_to(data.images(index), device))
                 .probabilities.argmax(1)
                 .eq(sent_to(data.labels(index), device))
                 .sum();
  const auto most = at::bincount(data.labels(which)).max().item<std::int64_t>();
  const double count = double(which.size(0));
  return {double(right.item<std::int64_t>()) / count, double(most) / count};
}

}  // namespace dkdm::classifier

// What the datasets share that are two tensors, images and labels, in memory or mapped.
#pragma once

#include <ATen/ATen.h>

#include <utility>

#include "dkdm/dataset.hpp"

namespace dkdm::datasets {

class InMemory : public Dataset {
 public:
  ImageSpec spec() const final { return {channels_, images_.size(2), images_.size(3)}; }
  std::int64_t size() const final { return images_.size(0); }
  std::int64_t num_classes() const final { return classes_; }

  at::Tensor images(const at::Tensor& index) const final {
    const at::Tensor chosen = images_.index_select(0, index);
    return chosen.expand({-1, channels_, -1, -1}).contiguous();
  }
  at::Tensor labels(const at::Tensor& index) const final {
    return labels_.defined() ? labels_.index_select(0, index) : at::Tensor();
  }

 protected:
  // images uint8 [N,C,H,W], C = channels, or 1 and repeated on the way out; labels [N] in
  // [0, classes), or undefined with classes = 0.
  void hold(at::Tensor images, at::Tensor labels, std::int64_t channels, std::int64_t classes) {
    images_ = std::move(images);
    labels_ = labels.defined() ? labels.to(at::kLong) : labels;
    channels_ = channels;
    classes_ = classes;
  }

 private:
  at::Tensor images_, labels_;
  std::int64_t channels_ = 1, classes_ = 0;
};

}  // namespace dkdm::datasets

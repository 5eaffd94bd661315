// Images by index. Threads: `images` may be called by a reader of its own, one call at a time.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "dkdm/shape.hpp"

namespace dkdm {

class Host;  // dkdm/host.hpp: of a plugin's constructor

class DKDM_API Dataset {
 public:
  virtual ~Dataset();
  virtual ImageSpec spec() const = 0;
  virtual std::int64_t size() const = 0;                  // images
  virtual std::int64_t num_classes() const { return 0; }  // 0 = no labels
  // index int64 [n] -> uint8 [n,C,H,W] / int64 [n] (undefined where there are no labels).
  virtual at::Tensor images(const at::Tensor& index) const = 0;
  virtual at::Tensor labels(const at::Tensor& index) const;
  // Changes whenever an image, its order or its preparation does. Input of content keys; must be
  // cheap (hash the files' bytes or their identity, not every decoded pixel).
  virtual std::string fingerprint() const = 0;
};

// Some images of a dataset: index int64 [n]. The dataset must outlive its users.
struct ImageSource {
  const Dataset* dataset = nullptr;
  at::Tensor index;
};

// All images of `dataset`.
DKDM_API ImageSource all_images(const Dataset& dataset);

}  // namespace dkdm

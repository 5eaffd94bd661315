// What the weights of FID's Inception-v3 are called: pytorch-fid's state dict, and the frozen
// TensorFlow graph that it was converted from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "metrics/inception.hpp"

namespace dkdm::metrics {

// One convolution with its batch norm, on maps of `side` x `side`.
struct InceptionLayer {
  std::string name;        // "Mixed_6b.branch7x7_2"
  std::string tensorflow;  // "mixed_4/tower/conv_1"
  std::int64_t side, in, out, kernel_h, kernel_w;
  std::int64_t stride = 1, pad_h = 0, pad_w = 0;
};

// All 94, in the order of the state dict.
const std::vector<InceptionLayer>& inception_layers();

// A state dict from the graph's constants by name. Those of other names are left out. Throws
// std::invalid_argument naming the first constant that is missing or misshapen.
StateDict from_tensorflow(const StateDict& constants);

}  // namespace dkdm::metrics

// Floating-point operations of a network, counted by watching which operators its forward calls:
// nothing is assumed of its architecture.
#pragma once

#include <cstdint>
#include <functional>

#include "dkdm/denoiser.hpp"

namespace dkdm::model {

// Operations of the matrix products, convolutions and attentions that `work` calls on this thread:
// a multiplication and its addition are two, so the figure is twice what papers call MACs (and some
// FLOPs). Biases, normalisation, activations and softmax are not counted: a few percent at most.
DKDM_API std::int64_t count_flops(const std::function<void()>& work);

// count_flops of the forward of one image. No gradient; the network is left in its mode.
DKDM_API std::int64_t forward_flops(Denoiser& network, const SampleShape& shape);

}  // namespace dkdm::model

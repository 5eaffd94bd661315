// LibTorch's device of tensors without memory: what a forward's shapes and types are, at no cost.
#pragma once

namespace torch::nn {
class Module;
}

namespace dkdm::model {

// Parameters and buffers of `network` become tensors of that device, the same objects, which
// Module::to refuses. Its layers compute there from then on.
void to_meta(torch::nn::Module& network);

}  // namespace dkdm::model

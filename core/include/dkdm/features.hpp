// Features: activations inside a network, for a loss that looks at them. A network offers them by
// name in its forward (Denoiser::feature). The shipped UNets have "down.0" … (the blocks on the way
// down), "middle" and "up.0" …, [N,C,H,W]; the transformers and the mixer "block.0" …,
// [N,tokens,width].
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "dkdm/denoiser.hpp"

namespace dkdm {

// Listens to the forwards of a network, and of networks inside it, on their thread, while it lives.
// One at a time: a second one on the same network takes over until it ends. The network must
// outlive it.
class DKDM_API Features {
 public:
  // `names` empty = all that are offered.
  explicit Features(Denoiser& network, std::vector<std::string> names = {});
  ~Features();
  Features(const Features&) = delete;
  Features& operator=(const Features&) = delete;

  // What the last forward offered under the names, with its graph where there was one, and forgets
  // it. Throws ConfigError for a name that was not offered, with the names that were.
  TensorMap take();

 private:
  friend class Denoiser;
  void hear(const std::string& name, const torch::Tensor& activation);

  std::vector<std::string> names_, offered_;
  std::vector<std::pair<Denoiser*, Features*>> before_;  // networks, and who listened until now
  TensorMap heard_;
};

// `names` of `network` for one image of zeros at step 0: their shapes are [1,…]. No gradient; the
// network is left in its mode. Throws as `take`.
DKDM_API TensorMap example_features(Denoiser& network, const SampleShape& shape,
                                    std::vector<std::string> names = {});

}  // namespace dkdm

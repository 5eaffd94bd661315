// A student or teacher network. Threads: one at a time calls a network, two networks run at once.
#pragma once

#include <torch/nn/module.h>

#include <map>
#include <string>
#include <vector>

#include "dkdm/diffusion_types.hpp"
#include "dkdm/error.hpp"
#include "dkdm/shape.hpp"

namespace dkdm {

using TensorMap = std::map<std::string, at::Tensor>;

class Features;  // dkdm/features.hpp

// What a student is made for. Its t counts steps of the whole process, whatever the respacing.
struct StudentContext {
  SampleShape shape;
  DiffusionConfig diffusion;
};

class DKDM_API Denoiser : public torch::nn::Module {
 public:
  Denoiser();
  ~Denoiser() override;

  // x_t [N,C,H,W] f32, t [N] int64 or f32: original step index, 0 (least noise) … steps - 1.
  // Returns [N,2C,H,W]: eps, then the variance fraction v (-1 … 1 spans posterior … beta), or
  // [N,C,H,W]: eps alone. Row n depends on row n of the input only. What is drawn in training comes
  // from the layers of dkdm/nn.hpp. What is made in it follows x_t.options(), its device above all.
  virtual torch::Tensor forward(const torch::Tensor& x_t, const torch::Tensor& t) = 0;

 protected:
  // Offers an activation [N,…] to losses that look inside (dkdm/features.hpp), from within forward:
  // feature("middle", h), feature("down", i, h) for "down.0", … Free where nobody listens.
  void feature(const char* name, const torch::Tensor& activation);
  void feature(const char* part, std::size_t index, const torch::Tensor& activation);
  // For a network that has no names of its own: those that are listened for, empty = all or none.
  std::vector<std::string> features_asked() const;
  bool is_listened_to() const { return listener_ != nullptr; }

 private:
  friend class Features;
  Features* listener_ = nullptr;
};

}  // namespace dkdm

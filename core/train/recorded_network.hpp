// Networks whose forward (and backward) passes an accelerator records once and then does by one
// launch each (device/graph.hpp). The first passes of a shape are as always; then one is recorded;
// on the next inputs what the recording gives is compared with what the network gives, and taken
// from then on. Whatever cannot be recorded, or gives something else, is done as always for good,
// and outcome() says why. Inputs of another shape than the recorded one are done as always.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "device/graph.hpp"
#include "device/precision.hpp"
#include "dkdm/denoiser.hpp"

namespace dkdm::train {

// What a forward pass gave: [N,C or 2C,H,W] f32, and the features that were asked for.
struct Forward {
  at::Tensor output;
  TensorMap features;
};

// "recorded"; "not recorded: …"; before the comparison "not recorded: too few steps".
using Outcome = std::string;

// A network in evaluation mode without gradients: the teacher.
class DKDM_API RecordedTeacher {
 public:
  // The network outlives it. `said` gets what a person should know.
  RecordedTeacher(Denoiser& network, device::Precision precision,
                  std::function<void(const std::string&)> said);
  ~RecordedTeacher();

  // As plugin::predict in `precision`, with `features`, which are the same in every call.
  Forward forward(const at::Tensor& x_t, const at::Tensor& t,
                  const std::vector<std::string>& features);
  Outcome outcome() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// A network in training.
class DKDM_API RecordedStudent {
 public:
  // `seed`: of its layers' random numbers. The network outlives it.
  RecordedStudent(Denoiser& network, device::Precision precision, std::vector<std::string> features,
                  std::uint64_t seed, std::function<void(const std::string&)> said);
  ~RecordedStudent();

  // Of training step `step`, for which the layers have been seeded. What comes back has a gradient:
  // the loss's backward pass goes as far as it is known on the host, backward() does the rest.
  Forward forward(const at::Tensor& x_t, const at::Tensor& t, std::int64_t step);
  // After the loss's backward pass: the parameters have their gradients.
  void backward();
  Outcome outcome() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace dkdm::train

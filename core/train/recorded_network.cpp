#include "train/recorded_network.hpp"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <optional>
#include <utility>

#include "dkdm/device.hpp"
#include "dkdm/features.hpp"
#include "dkdm/nn.hpp"
#include "error_text.hpp"
#include "plugin/call.hpp"
#include "random/step.hpp"

namespace dkdm::train {
namespace {

using at::Tensor;
using Tensors = std::vector<Tensor>;
using Said = std::function<void(const std::string&)>;

// Passes of a shape, one after another, before one is recorded: what a network, a library or an
// allocator makes once is there then, and the shape has come to stay. (A batch set is prepared in
// batches of many sizes.)
constexpr int kPassesBefore = 8;

// What to do with a pass.
enum class Phase { as_always, to_record, to_compare, recorded };

struct Shape {
  std::vector<std::int64_t> sizes, strides;
  at::ScalarType dtype = at::kFloat;
  bool operator==(const Shape&) const = default;
};
Shape shape_of(const Tensor& tensor) {
  return {tensor.sizes().vec(), tensor.strides().vec(), tensor.scalar_type()};
}
using Shapes = std::pair<Shape, Shape>;  // of x_t and t

// A copy with the same strides.
Tensor copied(const Tensor& tensor) {
  return at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options()).copy_(tensor);
}

Forward pass(Denoiser& network, device::Precision precision, const Tensor& x_t, const Tensor& t,
             const std::vector<std::string>& names) {
  const device::PrecisionScope scope(precision, x_t.device());
  if (names.empty()) return {plugin::predict(network, x_t, t), {}};
  Features features(network, names);
  Tensor output = plugin::predict(network, x_t, t);
  return {std::move(output), features.take()};
}

Tensors tensors_of(const Forward& forward) {
  Tensors all{forward.output};
  for (const auto& [name, tensor] : forward.features) all.push_back(tensor);
  return all;
}

// Whether `got` is `expected` but for the rounding of another kernel for the same operator; a
// recording with a number of its own step in it is further off. Makes the host wait.
bool agrees(const Tensors& got, const Tensors& expected, device::Precision precision) {
  const bool full = precision == device::Precision::fp32;
  const double rounding = full ? 1e-4 : 1e-2;
  Tensors off, size;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (!got[i].defined() || !expected[i].defined()) {
      if (got[i].defined() != expected[i].defined()) return false;
      continue;
    }
    off.push_back((got[i] - expected[i]).to(at::kFloat).norm().square());
    size.push_back(expected[i].to(at::kFloat).norm().square());
  }
  const Tensor error = at::stack(off).sum().sqrt(), scale = at::stack(size).sum().sqrt();
  return (error <= rounding * scale).item<bool>();
}

bool finite(const Tensors& tensors) {
  Tensors norms;
  for (const Tensor& tensor : tensors)
    if (tensor.defined()) norms.push_back(tensor.norm());
  return norms.empty() || at::stack(norms).isfinite().all().item<bool>();
}

// Puts back what a further forward pass changes of a network: statistics of a normalisation.
class KeptBuffers {
 public:
  explicit KeptBuffers(const torch::nn::Module& network) : buffers_(network.buffers()) {
    for (const Tensor& buffer : buffers_) before_.push_back(copied(buffer));
  }
  ~KeptBuffers() {
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < buffers_.size(); ++i) buffers_[i].copy_(before_[i]);
  }
  KeptBuffers(const KeptBuffers&) = delete;
  KeptBuffers& operator=(const KeptBuffers&) = delete;

 private:
  Tensors buffers_, before_;
};

// The way from the first passes to a recording that is trusted, for both kinds of network.
struct Course {
  Course(Denoiser& of, device::Precision in, Said to)
      : network(of), precision(in), device(device_of(of)), said(std::move(to)) {
    if (const std::string reason = device::Graph::why_not(device); !reason.empty()) give_up(reason);
  }
  virtual ~Course() = default;

  virtual void forget() {
    forward_graph.reset();
    made = {};
  }

  void give_up(const std::string& reason) {
    phase = Phase::as_always;
    why = reason;
    forget();
    said("launches one operator after another: " + reason);
  }

  // What to do with this pass. Its inputs are where a recording reads them, unless as always.
  Phase next(const Tensor& x, const Tensor& time) {
    if (phase == Phase::as_always) return phase;
    const Shapes shapes{shape_of(x), shape_of(time)};
    if (shapes != recorded_shapes) {
      passes = shapes == last_shapes ? passes + 1 : 1;
      last_shapes = shapes;
      if (passes <= kPassesBefore) return Phase::as_always;
      forget();
      recorded_shapes = shapes;
      x_t = copied(x);
      t = copied(time);
      phase = Phase::to_record;
    }
    x_t.copy_(x);
    t.copy_(time);
    return phase;
  }

  Outcome outcome() const {
    if (phase == Phase::recorded) return "recorded";
    return "not recorded: " + (phase == Phase::as_always ? why : "too few steps");
  }

  Denoiser& network;
  const device::Precision precision;
  const at::Device device;
  const Said said;
  Phase phase = Phase::to_record;
  std::string why;
  int passes = 0;
  Shapes last_shapes, recorded_shapes;
  Tensor x_t, t;  // what the recording reads
  std::optional<device::Graph> forward_graph;
  Forward made;  // by the recording
};

constexpr const char* kOther = "its recording gives other numbers than it does";

}  // namespace

struct RecordedTeacher::State : Course {
  using Course::Course;

  void record(const std::vector<std::string>& features) {
    try {
      forward_graph.emplace(device);
      forward_graph->record([&] { made = pass(network, precision, x_t, t, features); });
      phase = Phase::to_compare;
    } catch (const std::exception& error) {
      give_up(error_text(error));
    }
  }
};

RecordedTeacher::RecordedTeacher(Denoiser& network, device::Precision precision, Said said)
    : state_(new State(network, precision, std::move(said))) {}
RecordedTeacher::~RecordedTeacher() = default;
Outcome RecordedTeacher::outcome() const { return state_->outcome(); }

Forward RecordedTeacher::forward(const Tensor& x_t, const Tensor& t,
                                 const std::vector<std::string>& features) {
  State& state = *state_;
  const auto as_always = [&] { return pass(state.network, state.precision, x_t, t, features); };
  if (at::GradMode::is_enabled()) return as_always();
  const Phase phase = state.next(x_t, t);
  if (phase == Phase::as_always) return as_always();
  if (phase == Phase::to_record) {
    state.record(features);
    return as_always();
  }
  state.forward_graph->replay();
  if (phase == Phase::to_compare) {
    Forward given = as_always();
    if (agrees(tensors_of(state.made), tensors_of(given), state.precision))
      state.phase = Phase::recorded;
    else state.give_up(kOther);
    return given;
  }
  // The next replay writes over what this one made.
  Forward given{copied(state.made.output), {}};
  for (const auto& [name, tensor] : state.made.features) given.features[name] = copied(tensor);
  return given;
}

struct RecordedStudent::State : Course {
  State(Denoiser& of, device::Precision in, std::vector<std::string> names, std::uint64_t its_seed,
        Said to)
      : Course(of, in, std::move(to)), features(std::move(names)), seed(its_seed) {
    for (const Tensor& parameter : network.parameters())
      if (parameter.requires_grad()) trained.push_back(parameter);
  }

  void forget() override {
    Course::forget();
    backward_graph.reset();
    gradients.clear();
    arriving.clear();
  }

  // Before the passes of a step: a network whose graph is still held somewhere would tie the
  // recording to the stream that this graph was made on.
  void record() {
    const KeptBuffers kept(network);
    try {
      on_device = at::full({}, step, at::TensorOptions().dtype(at::kLong).device(device));
      nn::seed_layers(network, seed, step);
      forward_graph.emplace(device);
      forward_graph->record([&] {
        const random::StepOnDevice every_step(on_device);
        const at::AutoGradMode with_grad(true);
        made = pass(network, precision, x_t, t, features);
      });
      for (const Tensor& tensor : tensors_of(made))
        arriving.push_back(at::zeros_like(tensor.detach()));
      backward_graph.emplace(device, &*forward_graph);
      backward_graph->record([&] {
        const device::PrecisionScope scope(device::backward_of(precision), device);
        gradients = torch::autograd::grad(tensors_of(made), trained, arriving,
                                          /*retain_graph=*/false, /*create_graph=*/false,
                                          /*allow_unused=*/true);
        // As LibTorch lays out a parameter's gradient.
        for (std::size_t i = 0; i < trained.size(); ++i)
          if (gradients[i].defined() && gradients[i].strides() != trained[i].strides())
            gradients[i] =
                at::empty_strided(trained[i].sizes(), trained[i].strides(), gradients[i].options())
                    .copy_(gradients[i]);
      });
      made.output = made.output.detach();
      for (auto& [name, tensor] : made.features) tensor = tensor.detach();
      phase = Phase::to_compare;
    } catch (const std::exception& error) {
      give_up(error_text(error));
    }
    nn::seed_layers(network, seed, step);  // for the pass that follows
  }

  // Compares the recording with this step, whose backward pass is over.
  void compare() {
    const KeptBuffers kept(network);
    Tensors outputs, expected;
    for (const Tensor& tensor : tensors_of(now)) outputs.push_back(tensor.detach());
    for (const Tensor& parameter : trained) expected.push_back(parameter.grad());
    // An overflow of fp16 tells nothing.
    if (!finite(expected)) return;
    const at::NoGradGuard no_grad;
    on_device.fill_(step);
    forward_graph->replay();
    const bool same_outputs = agrees(tensors_of(made), outputs, precision);
    replay_backward(now);
    if (same_outputs && agrees(gradients, expected, precision)) phase = Phase::recorded;
    else give_up(kOther);
  }

  // `forward`'s tensors have the gradients that the loss gave them.
  void replay_backward(const Forward& forward) {
    const Tensors given = tensors_of(forward);
    for (std::size_t i = 0; i < given.size(); ++i) {
      if (given[i].grad().defined()) arriving[i].copy_(given[i].grad());
      else arriving[i].zero_();
    }
    backward_graph->replay();
  }

  std::vector<std::string> features;
  const std::uint64_t seed;
  Tensors trained;
  std::int64_t step = 0;
  Tensor on_device;   // step, as the recording reads it
  Forward now;        // of this step
  Tensors arriving;   // gradients of what the forward pass gives; the recording reads them
  Tensors gradients;  // of `trained`, made by the recording
  std::optional<device::Graph> backward_graph;
};

RecordedStudent::RecordedStudent(Denoiser& network, device::Precision precision,
                                 std::vector<std::string> features, std::uint64_t seed, Said said)
    : state_(new State(network, precision, std::move(features), seed, std::move(said))) {}
RecordedStudent::~RecordedStudent() = default;
Outcome RecordedStudent::outcome() const { return state_->outcome(); }

Forward RecordedStudent::forward(const Tensor& x_t, const Tensor& t, std::int64_t step) {
  State& state = *state_;
  state.step = step;
  state.now = {};
  const auto as_always = [&] {
    return pass(state.network, state.precision, x_t, t, state.features);
  };
  const Phase phase = state.next(x_t, t);
  if (phase == Phase::as_always) return as_always();
  if (phase == Phase::to_record) {
    state.record();
    return as_always();
  }
  if (phase == Phase::to_compare) {
    state.now = as_always();
    for (const Tensor& tensor : tensors_of(state.now))
      if (tensor.requires_grad()) tensor.retain_grad();
    return state.now;
  }
  state.on_device.fill_(step);
  state.forward_graph->replay();
  const auto as_leaf = [](const Tensor& tensor) { return tensor.detach().requires_grad_(true); };
  state.now.output = as_leaf(state.made.output);
  for (const auto& [name, tensor] : state.made.features) state.now.features[name] = as_leaf(tensor);
  return state.now;
}

void RecordedStudent::backward() {
  State& state = *state_;
  if (!state.now.output.defined()) return;
  if (state.phase == Phase::to_compare) {
    state.compare();
  } else {
    const at::NoGradGuard no_grad;
    state.replay_backward(state.now);
    for (std::size_t i = 0; i < state.trained.size(); ++i) {
      Tensor& gradient = state.trained[i].mutable_grad();
      // A loss may ask the student for more than its output.
      gradient = gradient.defined() && state.gradients[i].defined()
                     ? gradient + state.gradients[i]
                     : (gradient.defined() ? gradient : state.gradients[i]);
    }
  }
  state.now = {};
}

}  // namespace dkdm::train

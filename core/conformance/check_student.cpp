// What a student promises (dkdm/denoiser.hpp), and what the trainer and the model folder rely on.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <map>

#include "conformance/check_support.hpp"
#include "dkdm/io.hpp"
#include "dkdm/nn.hpp"
#include "model/flops.hpp"
#include "model/model_folder.hpp"
#include "model/state_dict.hpp"
#include "record/clock.hpp"
#include "record/environment.hpp"

namespace dkdm::conformance {
namespace {

using at::Tensor;
using Tensors = std::map<std::string, Tensor>;

constexpr std::uint64_t kSeed = 1;

// The first is where costs are taken and everything but shapes is checked, if the network takes it.
constexpr ImageSpec kSpecs[] = {{3, 32, 32}, {3, 16, 16}, {1, 28, 28},
                                {1, 8, 8},   {1, 64, 64}, {3, 32, 16}};

constexpr const char* kThrew =
    "let forward take [N,C,H,W] of every size that the constructor takes";

bool is_refusal(const PluginError& error) { return error.exit_code() == ExitCode::usage; }

// Parameters as the suite saves them (buffers are not part of a model folder).
Tensors parameters_of(const Denoiser& network) {
  Tensors tensors;
  for (const auto& entry : network.named_parameters())
    tensors[entry.key()] = entry.value().detach();
  return tensors;
}

Tensors buffers_of(const Denoiser& network) {
  Tensors tensors;
  for (const auto& entry : network.named_buffers())
    tensors[entry.key()] = entry.value().detach().clone();
  return tensors;
}

bool equal(const Tensors& a, const Tensors& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](auto& x, auto& y) {
           return x.first == y.first && at::equal(x.second, y.second);
         });
}

// A little noise on every weight: layers that start at zero would hide what lies behind them.
void perturb_weights(Denoiser& network) {
  const at::NoGradGuard no_grad;
  const at::Generator generator = at::detail::createCPUGenerator(kSeed);
  for (const auto& entry : network.named_parameters()) {
    Tensor parameter = entry.value();
    if (!parameter.requires_grad()) continue;
    parameter.add_(at::empty_like(parameter).normal_(0, 0.02, generator));
  }
}

class StudentChecks {
 public:
  StudentChecks(const Subject& subject, Checklist& list) : subject_(subject), list_(list) {}

  // What the others build on comes first: whether it can be made, whether it is a function; then
  // shapes.
  void run() {
    const bool made = list_.run("image sizes", [&] { return image_sizes(); });
    if (!spec_) {
      for (const char* name : {"seed", "evaluation mode", "training mode", "random numbers",
                               "output", "input and output", "initial output", "gradient",
                               "batch neighbours", "save and load", "device", "size"})
        list_.skip(name, made ? "no size" : "it takes no image size that was tried");
      return;
    }
    x_ = noisy_images(*spec_, 0, 3);
    t_ = spread_steps(0, 3);
    check("seed", &StudentChecks::seed);
    network_ = make(kSeed);
    perturb_weights(*network_);
    check("evaluation mode", &StudentChecks::evaluation_mode);
    check("training mode", &StudentChecks::training_mode);
    check("random numbers", &StudentChecks::random_numbers);
    list_.run("output", [&] { return output(); });
    check("input and output", &StudentChecks::input_and_output);
    check("initial output", &StudentChecks::initial_output);
    check("gradient", &StudentChecks::gradient);
    check("batch neighbours", &StudentChecks::batch_neighbours);
    check("save and load", &StudentChecks::save_and_load);
    check("device", &StudentChecks::device);
    check("size", &StudentChecks::size);
  }

 private:
  void check(const char* name, std::string (StudentChecks::*body)()) {
    list_.run(name, [&] {
      return located("at " + text_of(*spec_) + ": ", kThrew, [&] { return (this->*body)(); });
    });
  }

  std::shared_ptr<Denoiser> make(std::uint64_t seed) const { return make(seed, *spec_); }
  std::shared_ptr<Denoiser> make(std::uint64_t seed, const ImageSpec& spec) const {
    auto network = subject_.registry.student(subject_.choice(), {spec, {}}, seed);
    model::to_channels_last(*network);
    return network;
  }

  // Copies: a forward that changes its arguments is one check's business.
  Tensor evaluated(Denoiser& network) const {
    const at::NoGradGuard no_grad;
    network.eval();
    return network.forward(x_.clone(), t_.clone());
  }

  // As the training loop does at step `step`.
  static void enter_training(Denoiser& network, std::int64_t step) {
    network.train();
    nn::seed_layers(network, kSeed, step);
  }

  // Every size is taken or refused with a ConfigError that says which can be.
  std::string image_sizes() {
    const std::vector<ImageSpec> usual(std::begin(kSpecs), std::end(kSpecs));
    shapes_ = taken_shapes(subject_.specs.empty() ? usual : subject_.specs,
                           [&](const ImageSpec& spec) { return refusal(spec); });
    if (!shapes_.taken.empty()) spec_ = shapes_.taken.front();
    require(shapes_.broken.empty(), shapes_.broken,
            "an unsupported size should throw a dkdm::ConfigError that says which can");
    require(
        spec_.has_value(),
        "channels x side: none of " + shapes_.refused +
            " is taken, nor a size "
            "that it names: " +
            shapes_.reason,
        "let it take one of them at its defaults, name one that it takes in the message, or give "
        "other parameters by --set");
    std::string taken;
    for (const ImageSpec& spec : shapes_.taken) taken += " " + text_of(spec);
    return "channels x side:" + taken + " are taken" +
           (shapes_.refused.empty() ? "" : "; refused clearly: " + shapes_.refused);
  }

  std::string refusal(const ImageSpec& spec) const {
    try {
      make(kSeed, spec);
    } catch (const PluginError& error) {
      if (!is_refusal(error)) throw;
      return error.what();
    }
    return "";
  }

  // At every size that it takes, whatever happens at the others.
  std::string output() const {
    std::string wrong, right;
    for (const ImageSpec& spec : shapes_.taken) {
      try {
        located("at " + text_of(spec) + ": ", kThrew, [&] {
          const auto network = make(kSeed, spec);
          const at::NoGradGuard no_grad;
          network->eval();
          for (const std::int64_t batch : {1, 3}) {
            const Tensor x =
                noisy_images(spec, 0, batch).contiguous(at::MemoryFormat::ChannelsLast);
            require_output(network->forward(x, spread_steps(0, batch)), x);
          }
          return std::string();
        });
        right += " " + text_of(spec);
      } catch (const Error& error) {
        if (error.exit_code() == ExitCode::missing || error.exit_code() == ExitCode::interrupted)
          throw;
        wrong += (wrong.empty() ? "" : "; ") + std::string(error.what());
      }
    }
    if (!wrong.empty()) throw Error(wrong);
    return "right for one image and for three at" + right;
  }

  std::string input_and_output() {
    const auto network = make(kSeed);
    const at::NoGradGuard no_grad;
    network->eval();
    const Tensor x = x_.clone(), t = t_.clone(), out = network->forward(x, t);
    require_output(out, x_);
    require(at::equal(x, x_) && at::equal(t, t_), "forward changed its arguments",
            "use no in-place operation on x_t or t");
    require(close(out, network->forward(x_.clone(), t_.to(at::kFloat))),
            "t as float32 gives another output than as int64", "take both: t.to(at::kFloat)");
    return text_of(x_) + " -> " + text_of(out);
  }

  std::string initial_output() {
    const auto network = make(kSeed);
    for (const auto& [name, parameter] : parameters_of(*network))
      require(parameter.isfinite().all().item<bool>(),
              "the initial weights of " + name + " are not finite",
              "initialise every parameter in the constructor");
    const at::NoGradGuard no_grad;
    double largest = 0;
    for (const bool training : {false, true}) {
      if (training) enter_training(*network, 0);
      else network->eval();
      for (const std::int64_t step : {0, 999}) {
        const Tensor out = network->forward(x_, at::full({x_.size(0)}, step, at::kLong));
        require_output(out, x_);
        largest = std::max(largest, out.abs().max().item<double>());
      }
    }
    return c10::str("finite from step 0 to 999, at most ", largest);
  }

  std::string seed() {
    const auto first = parameters_of(*make(kSeed));
    require(!first.empty(), "it has no parameters",
            "register them with register_module or "
            "register_parameter: the optimiser sees nothing else");
    require(equal(first, parameters_of(*make(kSeed))), "one seed gave two sets of initial weights",
            "draw them from LibTorch's default generator alone, as its layers do");
    require(!equal(first, parameters_of(*make(kSeed + 1))),
            "two seeds gave the same initial weights",
            "draw them from LibTorch's default generator, which the host seeds");
    return "decides the initial weights";
  }

  std::string gradient() {
    network_->zero_grad();
    enter_training(*network_, 0);
    const Tensor out = network_->forward(x_, t_);
    require(out.requires_grad(), "the output has no gradient",
            "use no NoGradGuard, detach or data()");
    (out * noisy_images({out.size(1), out.size(2), out.size(3)}, 50, out.size(0))).sum().backward();
    std::string without;
    int missing = 0, trained = 0;
    for (const auto& entry : network_->named_parameters()) {
      if (!entry.value().requires_grad()) continue;
      ++trained;
      const Tensor grad = entry.value().grad();
      if (grad.defined() && grad.ne(0).any().item<bool>()) {
        require(grad.isfinite().all().item<bool>(),
                "the gradient of " + entry.key() + " is not finite",
                "look for a square root or a division at zero");
        continue;
      }
      if (++missing <= 5) without += " " + entry.key();
    }
    require(missing == 0, std::to_string(missing) + " parameters get no gradient:" + without,
            "use them in forward, or register them with requires_grad = false");
    network_->zero_grad();
    return "reaches all " + std::to_string(trained) + " parameter tensors";
  }

  std::string evaluation_mode() {
    const Tensor out = evaluated(*network_);
    require(at::equal(out, evaluated(*network_)), "the same input gave two outputs",
            "keep nothing from call to call, and let dropout be off in evaluation mode");
    return "the same input gives the same bits";
  }

  std::string training_mode() {
    const auto buffers = buffers_of(*network_);
    const Tensor before = evaluated(*network_);
    const at::NoGradGuard no_grad;
    const auto trained = [&] {
      enter_training(*network_, 5);
      return network_->forward(x_, t_);
    };
    require(
        at::equal(trained(), trained()), "two passes of one training step differ",
        "take dropout and all that is drawn from the layers of dkdm/nn.hpp (Dropout, RandomLayer): "
        "they depend on seed, step and sample alone");
    require(equal(buffers, buffers_of(*network_)) && at::equal(before, evaluated(*network_)),
            "a pass in training mode changed the network",
            "keep no running statistics: a network is its parameters, nothing else is saved");
    return "a step is repeatable and leaves nothing behind";
  }

  std::string batch_neighbours() {
    const at::NoGradGuard no_grad;
    network_->eval();
    require_independent_rows(*network_, *spec_, 1000, [] {});
    require_independent_rows(*network_, *spec_, 1000, [&] { enter_training(*network_, 5); });
    network_->eval();
    const Tensor alone = network_->forward(x_.narrow(0, 1, 1), t_.narrow(0, 1, 1));
    require(close(alone, evaluated(*network_).narrow(0, 1, 1)),
            "an image alone has another output than in a batch of three",
            "let nothing depend on the batch size");
    return "a row depends on itself alone, in both modes";
  }

  std::string random_numbers() {
    const at::NoGradGuard no_grad;
    at::Generator global = at::detail::getDefaultCPUGenerator();
    const auto state = [&] {
      const std::scoped_lock lock(global.mutex());
      return global.get_state();
    };
    const Tensor before = state();
    network_->eval();
    network_->forward(x_, t_);
    enter_training(*network_, 5);
    network_->forward(x_, t_);
    require(
        at::equal(before, state()), "forward draws from LibTorch's global generator",
        "take dkdm::nn::Dropout instead of torch::nn::Dropout, and dkdm::nn::RandomLayer for other "
        "random numbers");
    return "forward draws none from the global generator";
  }

  std::string save_and_load() {
    const TemporaryFolder folder;
    const auto file = folder.path() / "weights.safetensors";
    io::save_tensors(file, parameters_of(*network_));
    const auto copy = make(kSeed + 1);
    model::copy_strictly(io::load_tensors(file), parameters_of(*copy), file.string());
    require(
        at::equal(evaluated(*network_), evaluated(*copy)),
        "a network loaded from the saved parameters gives another output",
        "register everything that is learnt or drawn as a parameter (requires_grad = false where "
        "it is not trained): buffers and plain tensors are not saved");
    return "the same bits after loading";
  }

  std::string device() {
    const auto network = make(kSeed);
    return follow_inputs(subject_, *network, *spec_, 1000,
                         {[&] { network->eval(); }, [&] { enter_training(*network, 5); }});
  }

  std::string size() {
    const auto count = model::count_parameters(*network_);
    const auto flops = model::forward_flops(*network_, *spec_);
    require(flops > 0, "forward calls no matrix product and no convolution", "is it a network?");
    return c10::str(double(count) / 1e6, " M parameters, ", double(flops) / 1e9,
                    " GFLOPs a forward of one ", text_of(*spec_), " image");
  }

  const Subject& subject_;
  Checklist& list_;
  Shapes shapes_;
  std::optional<ImageSpec> spec_;
  Tensor x_, t_;
  std::shared_ptr<Denoiser> network_;
};

}  // namespace

void check_student(const Subject& subject, Checklist& list) {
  StudentChecks(subject, list).run();
  check_shapes(subject, list);
}

ImageSpec usual_spec(const plugin::Registry& registry, const plugin::PluginChoice& student) {
  const Shapes shapes = taken_shapes({std::begin(kSpecs), std::end(kSpecs)},
                                     [&](const ImageSpec& spec) -> std::string {
                                       try {
                                         registry.check_size(student, {spec, {}});
                                       } catch (const PluginError& error) {
                                         if (!is_refusal(error)) throw;
                                         return error.what();
                                       }
                                       return "";
                                     });
  return shapes.taken.empty() ? kSpecs[0] : shapes.taken.front();
}

StudentCost student_cost(const plugin::Registry& registry, const plugin::PluginChoice& student,
                         const ImageSpec& spec, std::int64_t batch) {
  const auto network = registry.student(student, {spec, {}}, kSeed);
  model::to_channels_last(*network);
  StudentCost cost;
  cost.parameters = model::count_parameters(*network);
  cost.forward_flops = model::forward_flops(*network, spec);
  network->train();
  const Tensor x = noisy_images(spec, 0, batch).contiguous(at::MemoryFormat::ChannelsLast);
  const Tensor t = spread_steps(0, batch);
  constexpr int kRepeats = 2;  // the first prepares kernels and touches memory
  cost.step_s = 1e9;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    const auto start = record::Clock::now();
    nn::seed_layers(*network, kSeed, repeat);
    network->forward(x, t).square().mean().backward();
    cost.step_s = std::min(cost.step_s, record::seconds_since(start));
    network->zero_grad();
  }
  cost.peak_bytes = record::peak_resident_bytes();
  return cost;
}

}  // namespace dkdm::conformance

#include "run/cost.hpp"

#include <algorithm>
#include <limits>

#include "dkdm/device.hpp"
#include "error_text.hpp"
#include "model/flops.hpp"
#include "model/model_folder.hpp"
#include "nn/memory_limit.hpp"
#include "nn/meta.hpp"
#include "plugin/call.hpp"
#include "record/clock.hpp"
#include "stages/determinants.hpp"

namespace dkdm::run {
namespace {

// A large network shows its rate with few images, and large images do; small ones need a batch.
std::int64_t measured_batch(const SampleShape& shape, std::int64_t parameters) {
  constexpr std::int64_t kValues = 1 << 20, kLarge = 5'000'000;
  return std::clamp<std::int64_t>(kValues / (shape.values()), 1, parameters > kLarge ? 2 : 32);
}

at::Tensor forward(Denoiser& network, const SampleShape& shape, std::int64_t batch) {
  const auto there = at::TensorOptions().device(device_of(network));
  const auto x_t = at::zeros(shape.batch(batch), there).contiguous(at::MemoryFormat::ChannelsLast);
  return plugin::predict(network, x_t, at::zeros({batch}, there.dtype(at::kLong)));
}

// Seconds of one image in batches of so many.
double timed_forward(Denoiser& network, const SampleShape& shape, std::int64_t batch) {
  const at::NoGradGuard no_grad;
  constexpr double kEnough_s = 1;
  double best = 1e9;  // the first calls prepare kernels and read the library's pages
  double all = 0;
  for (int repeat = 0; repeat < 6 && all < kEnough_s; ++repeat) {
    const auto start = record::Clock::now();
    forward(network, shape, batch).sum().item<float>();  // waits for an accelerator
    const double elapsed = record::seconds_since(start);
    all += elapsed;
    best = std::min(best, elapsed);
  }
  return best / double(batch);
}

// Of the first of the two forwards that are counted.
std::int64_t counted_images(const SampleShape& shape, std::int64_t parameters) {
  return std::max<std::int64_t>(1, measured_batch(shape, parameters) / 2);
}

// What a forward may take to be counted in memory, beside `weights`: of what others have of this
// machine's nothing is known.
double spare_bytes(double weights) { return static_cast<double>(machine_memory()) / 2 - weights; }

// Of what fails in a forward: the stage says it, with the plugin's name.
constexpr Activations kUnknown{std::numeric_limits<double>::quiet_NaN(),
                               std::numeric_limits<double>::quiet_NaN()};

constexpr const char* kRemedy = "give it smaller images, or fewer or narrower layers";

}  // namespace

void CostModel::set_device(at::Device device) {
  if (device != device_) measured_.clear();
  device_ = device;
}

CostModel::Measured& CostModel::entry(const plugin::PluginChoice& student,
                                      const StudentContext& context) {
  const std::string name = student.name + '\n' + student.params.canonical() + '\n' +
                           text_of(context.shape) + '\n' + stages::describe(context.diffusion);
  if (const auto found = measured_.find(name); found != measured_.end()) return found->second;
  const NetworkSize size = registry_.check_size(student, context);
  return measured_[name] = {.size = size};
}

std::int64_t CostModel::parameters(const plugin::PluginChoice& student,
                                   const StudentContext& context) {
  return entry(student, context).size.parameters;
}

NetworkSize CostModel::size(const plugin::PluginChoice& student, const StudentContext& context) {
  return entry(student, context).size;
}

double CostModel::forward_s(Denoiser& network, const SampleShape& shape,
                            std::int64_t parameters) const {
  if (tflops_ > 0) return double(model::forward_flops(network, shape)) / (tflops_ * 1e12);
  for (auto batch = measured_batch(shape, parameters);; batch /= 2) {
    try {
      return timed_forward(network, shape, batch);
    } catch (const c10::OutOfMemoryError& error) {
      // A device that is too small for a batch is warned of, not the end of a plan.
      if (batch > 1) continue;
      throw Error("device " + device_.str() + ": " + error_text(error) +
                      ", measuring what a forward of one image of " + text_of(shape) + " costs; " +
                      kRemedy + ", or choose another device (--device)",
                  ExitCode::run_failed);
    }
  }
}

Activations CostModel::activations(Denoiser& network, const SampleShape& shape,
                                   std::int64_t parameters, device::Precision precision) const {
  const auto images = counted_images(shape, parameters);
  try {
    if (device_of(network).is_cpu())
      if (const auto counted = activations_on_cpu(network, shape, images, Pass::evaluation,
                                                  precision, spare_bytes(0)))
        return *counted;
    const nn::OnMeta there(network);
    return activations_on_meta(network, shape, images, Pass::evaluation, precision);
  } catch (const Interrupted&) {
    throw;
  } catch (const Error&) {
    return kUnknown;
  }
}

double CostModel::training_s(const plugin::PluginChoice& student, const StudentContext& context) {
  // In forwards: measured, 3.0 to 3.6; in operations, a backward is two.
  constexpr double kMeasured = 3.3, kOperations = 3;
  return (tflops_ > 0 ? kOperations : kMeasured) * forward_s(student, context);
}

Activations CostModel::activations(const plugin::PluginChoice& student,
                                   const StudentContext& context, Pass pass,
                                   device::Precision precision) {
  auto& measured = entry(student, context);
  const auto found = measured.activations.find({pass, precision});
  if (found != measured.activations.end()) return found->second;
  auto& result = measured.activations[{pass, precision}];
  const auto images = counted_images(context.shape, measured.size.parameters);
  const double spare = spare_bytes(static_cast<double>(measured.size.bytes));
  const auto prepare = [&](Denoiser& network) {
    model::to_channels_last(network);
    if (pass == Pass::training) return;
    // As where it is loaded: autocast keeps what it rounds of weights that are trained.
    for (auto& parameter : network.parameters()) parameter.set_requires_grad(false);
  };
  try {
    if (device_.is_cpu() && spare > 0) {
      const auto network = registry_.student(student, context, /*seed=*/0);
      prepare(*network);
      if (const auto counted =
              activations_on_cpu(*network, context.shape, images, pass, precision, spare))
        return result = *counted;
    }
    const auto network =
        nn::made_on_meta([&] { return registry_.student(student, context, /*seed=*/0); });
    prepare(*network);
    return result = activations_on_meta(*network, context.shape, images, pass, precision);
  } catch (const Interrupted&) {
    throw;
  } catch (const Error&) {
    return result = kUnknown;
  }
}

double CostModel::forward_s(const plugin::PluginChoice& student, const StudentContext& context) {
  auto& measured = entry(student, context);
  if (measured.forward_s >= 0) return measured.forward_s;
  const auto measure = [&] {
    const auto network = registry_.student(student, context, /*seed=*/0);
    model::to_channels_last(*network);
    network->to(device_);
    network->eval();
    measured.forward_s = forward_s(*network, context.shape, measured.size.parameters);
  };
  nn::within_memory(measure,
                    "student " + student.name + ": a forward of " +
                        std::to_string(measured_batch(context.shape, measured.size.parameters)) +
                        " images of " + text_of(context.shape),
                    kRemedy);
  return measured.forward_s;
}

}  // namespace dkdm::run

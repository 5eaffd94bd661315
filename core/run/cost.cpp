#include "run/cost.hpp"

#include <algorithm>

#include "dkdm/device.hpp"
#include "dkdm/nn.hpp"
#include "error_text.hpp"
#include "model/flops.hpp"
#include "model/model_folder.hpp"
#include "nn/memory_limit.hpp"
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
  return measured_[name] = {size};
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
  at::NoGradGuard no_grad;
  const auto batch = measured_batch(shape, parameters);
  constexpr double kEnough_s = 1;
  double best = 1e9;  // the first calls prepare kernels and read the library's pages
  double all = 0;
  for (int repeat = 0; repeat < 6 && all < kEnough_s; ++repeat) {
    const auto start = record::Clock::now();
    try {
      forward(network, shape, batch).sum().item<float>();  // waits for an accelerator
    } catch (const c10::OutOfMemoryError& error) {
      throw Error("device " + device_.str() + ": " + error_text(error) +
                      ", measuring what a forward costs of " + std::to_string(batch) +
                      " images of " + text_of(shape) + "; " + kRemedy +
                      ", or choose another device (--device)",
                  ExitCode::run_failed);
    }
    const double elapsed = record::seconds_since(start);
    all += elapsed;
    best = std::min(best, elapsed);
  }
  return best / double(batch);
}

double CostModel::forward_bytes(Denoiser& network, const SampleShape& shape,
                                std::int64_t parameters) const {
  at::NoGradGuard no_grad;
  const auto batch = measured_batch(shape, parameters);
  const auto allocated = nn::within_memory([&] { forward(network, shape, batch); },
                                           "a forward of images of " + text_of(shape), kRemedy);
  return allocated.most / double(batch);
}

double CostModel::training_s(const plugin::PluginChoice& student, const StudentContext& context) {
  // In forwards: measured, 3.0 to 3.6; in operations, a backward is two.
  constexpr double kMeasured = 3.3, kOperations = 3;
  return (tflops_ > 0 ? kOperations : kMeasured) * forward_s(student, context);
}

double CostModel::training_bytes(const plugin::PluginChoice& student,
                                 const StudentContext& context) {
  return measured(student, context, /*training=*/true).training_bytes;
}

double CostModel::forward_bytes(const plugin::PluginChoice& student,
                                const StudentContext& context) {
  return measured(student, context, /*training=*/false).forward_bytes;
}

double CostModel::forward_s(const plugin::PluginChoice& student, const StudentContext& context) {
  return measured(student, context, /*training=*/false).forward_s;
}

CostModel::Measured& CostModel::measured(const plugin::PluginChoice& student,
                                         const StudentContext& context, bool training) {
  auto& measured = entry(student, context);
  if (measured.forward_s >= 0 && (measured.training_bytes >= 0 || !training)) return measured;
  const auto batch = measured_batch(context.shape, measured.size.parameters);
  const std::string what = "student " + student.name + ": a forward of " + std::to_string(batch) +
                           " images of " + text_of(context.shape);
  std::shared_ptr<Denoiser> network;
  const auto measure = [&] {
    network = registry_.student(student, context, /*seed=*/0);
    model::to_channels_last(*network);
    network->to(device_);
    network->eval();
    measured.forward_s = forward_s(*network, context.shape, measured.size.parameters);
  };
  nn::within_memory(measure, what, kRemedy);
  measured.forward_bytes = forward_bytes(*network, context.shape, measured.size.parameters);
  if (!training) return measured;
  network->train();
  nn::seed_layers(*network, /*seed=*/0, /*step=*/0);
  at::Tensor output;  // holds what the backward would need
  const auto learn = [&] {
    at::AutoGradMode with_grad(true);
    output = forward(*network, context.shape, batch);
  };
  measured.training_bytes = nn::within_memory(learn, what, kRemedy).alive / double(batch);
  return measured;
}

}  // namespace dkdm::run

#include "run/cost.hpp"

#include <algorithm>
#include <chrono>

#include "model/model_folder.hpp"
#include "nn/memory_limit.hpp"
#include "plugin/call.hpp"
#include "run/determinants.hpp"

namespace dkdm::run {

CostModel::Measured& CostModel::entry(const plugin::PluginChoice& student,
                                      const StudentContext& context) {
  const std::string name = student.name + '\n' + student.params.canonical() + '\n' +
                           describe(context.spec) + '\n' + describe(context.diffusion);
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

double CostModel::forward_s(const plugin::PluginChoice& student, const StudentContext& context) {
  auto& measured = entry(student, context);
  if (measured.forward_s >= 0) return measured.forward_s;
  // A large network shows its rate with few images, and large images do; small ones need a batch.
  constexpr std::int64_t kValues = 1 << 20;
  const ImageSpec& spec = context.spec;
  const std::int64_t batch =
      std::clamp<std::int64_t>(kValues / (spec.channels * spec.size * spec.size), 1,
                               measured.size.parameters > 5'000'000 ? 2 : 32);
  double best = 1e9;  // the first calls prepare kernels and read the library's pages
  const auto measure = [&] {
    const auto network = registry_.student(student, context, /*seed=*/0);
    model::to_channels_last(*network);
    network->eval();
    at::NoGradGuard no_grad;
    const auto x_t = at::zeros({batch, spec.channels, spec.size, spec.size})
                         .contiguous(at::MemoryFormat::ChannelsLast);
    const auto t = at::zeros({batch}, at::kLong);
    constexpr double kEnough_s = 1;
    double all = 0;
    for (int repeat = 0; repeat < 6 && all < kEnough_s; ++repeat) {
      const auto start = std::chrono::steady_clock::now();
      plugin::predict(*network, x_t, t);
      const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
      all += elapsed.count();
      best = std::min(best, elapsed.count());
    }
  };
  nn::within_memory(measure,
                    "student " + student.name + ": a forward of " + std::to_string(batch) +
                        " images of " + text_of(spec),
                    "give it smaller images, or fewer or narrower layers");
  return measured.forward_s = best / double(batch);
}

}  // namespace dkdm::run

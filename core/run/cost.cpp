#include "run/cost.hpp"

#include <chrono>

#include "run/determinants.hpp"
#include "run/model_folder.hpp"

namespace dkdm::run {

CostModel::Measured& CostModel::entry(const plugin::PluginChoice& student,
                                      const StudentContext& context) {
  const std::string name = student.name + '\n' + student.params.canonical() + '\n' +
                           describe(context.spec) + '\n' + describe(context.diffusion);
  const auto [found, added] = measured_.try_emplace(name);
  if (added)
    found->second.parameters = count_parameters(*registry_.student(student, context, /*seed=*/0));
  return found->second;
}

std::int64_t CostModel::parameters(const plugin::PluginChoice& student,
                                   const StudentContext& context) {
  return entry(student, context).parameters;
}

double CostModel::forward_s(const plugin::PluginChoice& student, const StudentContext& context) {
  auto& measured = entry(student, context);
  if (measured.forward_s >= 0) return measured.forward_s;
  const auto network = registry_.student(student, context, /*seed=*/0);
  to_channels_last(*network);
  network->eval();
  at::NoGradGuard no_grad;
  // A large network shows its rate with few images; a small one needs a batch.
  const std::int64_t batch = measured.parameters > 5'000'000 ? 2 : 32;
  const ImageSpec& spec = context.spec;
  const auto x_t = at::zeros({batch, spec.channels, spec.size, spec.size})
                       .contiguous(at::MemoryFormat::ChannelsLast);
  const auto t = at::zeros({batch}, at::kLong);
  double best = 1e9;  // the first calls prepare kernels and read the library's pages
  for (int repeat = 0; repeat < 6; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    network->forward(x_t, t);
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return measured.forward_s = best / double(batch);
}

}  // namespace dkdm::run

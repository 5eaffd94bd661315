// What only a machine with an accelerator can say, as one JSON object: device-check DEVICE [small].
// Whether its numbers are the CPU's, how fast a training step of the paper's CIFAR10 setting is in
// each precision, with how much memory, and whether samples drawn there are those of the CPU.
// "small": other networks, sizes and counts, to check the checks. Exit code 1 where something
// differs by more than it may.
#include <ATen/ATen.h>

#include <cmath>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "config/experiment.hpp"
#include "device/choice.hpp"
#include "device/graph.hpp"
#include "device/precision.hpp"
#include "dkdm/device.hpp"
#include "dkdm/diffusion.hpp"
#include "dkdm/image.hpp"
#include "dkdm/io.hpp"
#include "dkdm/nn.hpp"
#include "dkdm/random.hpp"
#include "dkdm/sampler.hpp"
#include "error_text.hpp"
#include "fixtures/analytic.hpp"
#include "fixtures/students.hpp"
#include "plugin/call.hpp"
#include "random/kernel.hpp"
#include "record/clock.hpp"
#include "train/recorded_network.hpp"
#include "train/trainer.hpp"

namespace {

using namespace dkdm;
using Json = nlohmann::ordered_json;
using Values = std::map<std::string, Value>;

struct Setting {
  at::Device device;
  bool small = false;

  SampleShape shape() const { return small ? SampleShape{3, 16, 16} : SampleShape{3, 32, 32}; }
  std::int64_t batch() const { return small ? 4 : 128; }
  std::int64_t steps() const { return small ? 20 : 200; }
  std::int64_t images() const { return small ? 8 : 2000; }
  std::int64_t compared() const { return small ? 4 : 64; }

  std::shared_ptr<Denoiser> network(const char* preset, std::uint64_t seed) const {
    const Values tiny{{"model_channels", std::int64_t{32}},
                      {"num_res_blocks", std::int64_t{1}},
                      {"channel_mult", std::vector<std::int64_t>{1, 2}},
                      {"attention_resolutions", std::vector<std::int64_t>{8}},
                      {"dropout", 0.3}};
    const Values named{{"preset", std::string(preset)}};
    auto made = fixtures::student("adm-unet", small ? tiny : named, shape(), seed);
    // As after some training: at first its last layers are zero.
    const at::NoGradGuard no_grad;
    for (auto& parameter : made->parameters())
      if (parameter.dim() > 1)
        parameter.copy_(golden::u_fill(static_cast<std::int64_t>(seed), parameter.sizes(), 1.0) *
                        std::sqrt(1.0 / double(parameter.numel() / parameter.size(0))));
    return made;
  }
};

double relative(const at::Tensor& there, const at::Tensor& here) {
  const at::Tensor expected = here.to(at::kDouble);
  return ((there.to(at::kCPU).to(at::kDouble) - expected).norm() / expected.norm().clamp_min(1e-30))
      .item<double>();
}

// Normals and dropout masks: the same bits.
Json random_numbers(const Setting& setting) {
  const std::int64_t rows = 64, length = setting.small ? 1000 : 3 * 64 * 64;
  const at::Tensor index = at::arange(rows, at::kLong) * 12345 + (std::int64_t{1} << 33);
  const Random random(7, Stream::pool_noise);
  const bool normals = at::equal(random.normal(5, index.to(setting.device), {length}).to(at::kCPU),
                                 random.normal(5, index, {length}));
  const std::vector<std::int64_t> sizes{rows, 8, 12, 12};
  const bool masks =
      at::equal(random::dropout_mask(7, Stream::dropout, {5, {}}, 3, 9, sizes, 0.3, setting.device)
                    .to(at::kCPU),
                Random(7, Stream::dropout).dropout_mask(5, 3, 9, sizes, 0.3));
  return {{"normals_equal", normals},
          {"masks_equal", masks},
          {"by_kernels", random::NumberKernels::of(setting.device) != nullptr},
          {"ok", normals && masks}};
}

// A forward and backward in evaluation mode, in float32.
Json network(const Setting& setting) {
  const auto run = [&](at::Device device) {
    const auto network = setting.network("14M-CNN", 3);
    network->to(device);
    network->eval();
    const at::Tensor x =
        golden::u_fill(7, setting.shape().batch(4), 1.5).contiguous(at::MemoryFormat::ChannelsLast);
    const at::Tensor t = (at::arange(4) * 150 + 7).to(device);
    const at::Tensor y = plugin::predict(*network, x.to(device), t);
    y.square().mean().backward();
    std::vector<at::Tensor> gradients;
    for (const auto& parameter : network->parameters())
      gradients.push_back(parameter.grad().flatten());
    return std::pair(y.detach().to(at::kCPU), at::cat(gradients).to(at::kCPU));
  };
  const auto here = run(at::kCPU), there = run(setting.device);
  const double forward = relative(there.first, here.first);
  const double gradient = relative(there.second, here.second);
  return {{"forward_relative", forward},
          {"gradient_relative", gradient},
          {"ok", forward < 1e-5 && gradient < 1e-4}};
}

class TimingHost final : public fixtures::HostOn {
 public:
  TimingHost(at::Device device, std::int64_t steps) : HostOn(device), steps_(steps) {}
  void progress(const std::string& unit, std::int64_t done, std::int64_t) override {
    if (unit != "steps") return;
    const std::int64_t first = steps_ / 10;
    if (done != first && done != steps_) return;
    at::zeros({1}, at::TensorOptions().device(device())).item<float>();  // waits
    if (done == first) start_ = record::Clock::now();
    else seconds_per_step = record::seconds_since(start_) / double(steps_ - first);
  }
  double seconds_per_step = 0;

 private:
  std::int64_t steps_;
  record::Clock::time_point start_{};
};

// A teacher as the program gives it to methods.
class InPrecision final : public Denoiser {
 public:
  InPrecision(std::shared_ptr<Denoiser> network, const std::string& precision, bool graphs)
      : network_(register_module("network", std::move(network))),
        precision_(device::precision_named(precision)) {
    if (graphs) recorded_.emplace(*network_, precision_, [](const std::string&) {});
  }
  std::string graphs() const { return recorded_ ? recorded_->outcome() : ""; }
  at::Tensor forward(const at::Tensor& x_t, const at::Tensor& t) override {
    if (recorded_) return recorded_->forward(x_t, t, {}).output;
    const device::PrecisionScope scope(precision_, x_t.device());
    return plugin::predict(*network_, x_t, t);
  }

 private:
  std::shared_ptr<Denoiser> network_;
  device::Precision precision_;
  std::optional<train::RecordedTeacher> recorded_;
};

struct Trained {
  double seconds_per_step = 0, last_loss = 0;
  std::optional<double> first_loss;  // none where fp16 began with an overflow
  std::optional<double> peak_bytes;
  std::string graphs;  // of student and teacher; "" = not asked for
};

// Dynamic distillation of a 14M network from a 57M one, in a chain of 50 steps: a step costs the
// same in one of 1000, whose batch set would take longer to prepare.
Trained train(const Setting& setting, at::Device device, const std::string& precision,
              std::int64_t steps, bool graphs = false) {
  TimingHost host(device, steps);
  TrainedModel teacher{setting.network("57M-CNN", 3), {"cosine", 1000, ""}, setting.shape()};
  teacher.network->to(device);
  const auto student = setting.network("14M-CNN", 4);
  student->to(device);
  const Params settings(config::train_table(),
                        {{"steps", steps},
                         {"batch", setting.batch()},
                         {"lr", 1e-4},
                         {"precision", precision},
                         {"graphs", graphs},
                         {"log_every", std::int64_t{1}},
                         {"checkpoint_every", std::int64_t{1'000'000}}},
                        "device-check");
  const auto given = std::make_shared<InPrecision>(teacher.network, precision, graphs);
  teacher.network = given;
  teacher.network->eval();
  MethodContext context{host, {"cosine", 1000, ""}, setting.shape(), setting.batch(), 1};
  context.teacher = &teacher;
  context.student = student.get();
  const auto& info = fixtures::registry().find("method", "dynamic");
  const auto method =
      fixtures::registry().method({info.kind, info.name, info.version,
                                   Params(info.params, {{"prepare", std::string("streaming")},
                                                        {"respacing", std::string("50")},
                                                        {"lambda", 0.05},
                                                        {"student_clip", true}})},
                                  host);
  const fixtures::ScratchFolder folder;
  device::restart_peak(device);
  method->start(context, "");
  Trained result;
  const auto done = train::train(*student, *method, host, settings, 5, folder.path,
                                 [&](const std::vector<record::CurvePoint>& points) {
                                   for (const auto& point : points) {
                                     if (point.name != "loss") continue;
                                     if (point.step == 1) result.first_loss = point.value;
                                     result.last_loss = point.value;
                                   }
                                 });
  if (graphs) result.graphs = "student " + done.graphs + ", teacher " + given->graphs();
  result.seconds_per_step = host.seconds_per_step;
  result.peak_bytes = device::peak_bytes(device);
  return result;
}

Json training(const Setting& setting) {
  Json all = Json::object();
  const std::int64_t compared = 3;
  const auto here = train(setting, at::kCPU, "fp32", compared);
  const auto there = train(setting, setting.device, "fp32", compared);
  const double difference = std::abs(there.last_loss - here.last_loss) / std::abs(here.last_loss);
  all["loss_after_3_steps_relative"] = difference;
  bool ok = difference < 1e-3;
  constexpr double kApart = 0.25;  // of the last losses: of one batch, after many roundings
  double fp32 = 0;
  const auto add = [&](const std::string& precision, bool graphs) {
    const auto trained = train(setting, setting.device, precision, setting.steps(), graphs);
    if (precision == "fp32" && !graphs) fp32 = trained.last_loss;
    Json& row = all[precision + (graphs ? " graphs" : "")];
    row = {{"seconds_per_step", trained.seconds_per_step},
           {"examples_per_s", double(setting.batch()) / trained.seconds_per_step},
           {"last_loss", trained.last_loss}};
    if (trained.first_loss) row["first_loss"] = *trained.first_loss;
    if (trained.peak_bytes) row["peak_bytes"] = *trained.peak_bytes;
    if (graphs) row["graphs"] = trained.graphs;
    ok = ok && std::isfinite(trained.last_loss) &&
         std::abs(trained.last_loss - fp32) < kApart * std::abs(fp32) &&
         (!graphs || trained.graphs == "student recorded, teacher recorded");
  };
  for (const auto& precision : device::precision_names())
    if (precision != "tf32" || setting.device.is_cuda()) add(precision, false);
  // What a recording saves is launches; where it cannot be had, a training goes on without.
  if (const auto reason = device::Graph::why_not(setting.device); reason.empty()) {
    add("fp32", true);
    add("bf16", true);
  } else {
    all["graphs"] = reason;
  }
  all["ok"] = ok;
  return all;
}

// Images drawn there, and the first of them on the CPU: a chain magnifies rounding, and few pixels
// may end in a neighbouring grey level.
Json sampling(const Setting& setting) {
  const GaussianDiffusion process({"cosine", 1000, setting.small ? "10" : "50"});
  SamplerConfig config;
  config.sampler = "ddim";
  const auto network = setting.network("14M-CNN", 3);
  const at::Tensor here =
      to_uint8(sample(*network, process, config, setting.shape(), 3, 0, setting.compared()));
  network->to(setting.device);
  const auto start = record::Clock::now();
  at::Tensor first;
  constexpr std::int64_t kAtOnce = 250;
  for (std::int64_t done = 0; done < setting.images(); done += kAtOnce) {
    const auto count = std::min(kAtOnce, setting.images() - done);
    const at::Tensor some =
        to_uint8(sample(*network, process, config, setting.shape(), 3, done, count)).to(at::kCPU);
    if (done == 0) first = some.narrow(0, 0, setting.compared());
  }
  const double seconds = record::seconds_since(start);
  const at::Tensor apart = (first.to(at::kInt) - here.to(at::kInt)).abs();
  const double mean = apart.to(at::kDouble).mean().item<double>();
  return {
      {"images", setting.images()},         {"images_per_s", double(setting.images()) / seconds},
      {"compared", setting.compared()},     {"mean_grey_levels_apart", mean},
      {"largest", apart.max().item<int>()}, {"ok", mean < 0.05}};
}

}  // namespace

int main(int argc, char** argv) {
  const bool small = argc == 3 && std::string(argv[2]) == "small";
  if (argc != 2 && !small) {
    std::fprintf(stderr, "usage: device-check DEVICE [small]\n");
    return 2;
  }
  try {
    const Setting setting{device::chosen({argv[1], "device-check"}), small};
    if (!setting.device.is_cpu()) device::set_arithmetic(/*fast=*/false);
    const auto about = device::describe(setting.device);
    Json report = {{"device", setting.device.str()},
                   {"name", about.name},
                   {"driver", about.driver},
                   {"memory_bytes", about.memory_bytes},
                   {"small", small}};
    bool ok = true;
    const std::pair<const char*, Json (*)(const Setting&)> parts[] = {{"random", random_numbers},
                                                                      {"network", network},
                                                                      {"training", training},
                                                                      {"sampling", sampling}};
    for (const auto& [name, part] : parts) {
      try {
        report[name] = part(setting);
        ok = ok && report[name]["ok"] == true;
      } catch (const std::exception& error) {
        report[name] = {{"ok", false}, {"error", error_text(error)}};
        ok = false;
      }
      std::fprintf(stderr, "%s: %s\n", name, report[name].dump().c_str());
    }
    report["ok"] = ok;
    std::cout << report.dump(2) << std::endl;
    return ok ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "device-check: %s\n", error_text(error).c_str());
    return 2;
  }
}

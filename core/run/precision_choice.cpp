#include "run/precision_choice.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdio>

#include "config/resolved.hpp"
#include "device/precision.hpp"
#include "dkdm/documents.hpp"
#include "dkdm/files.hpp"
#include "dkdm/json.hpp"
#include "model/model_folder.hpp"
#include "plugin/call.hpp"
#include "record/clock.hpp"
#include "record/content_key.hpp"
#include "run/sources.hpp"
#include "stages/determinants.hpp"

namespace dkdm::run {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kAuto = "auto";
constexpr const char* kPrecision = "precision";

Params with(const Params& params, const ParamTable& table, const std::string& word) {
  auto values = params.values();
  values[kPrecision] = word;
  return Params(table, values);
}

class Choice {
 public:
  Choice(std::optional<at::Device> device, const stages::StageContext& context,
         const fs::path& home)
      : device_(device), context_(context), sources_(context), folder_(home / kPrecision) {}

  void settle(config::Training& training, const config::Row& row, const std::string& where) {
    if (training.train.text(kPrecision) == kAuto)
      training.train =
          with(training.train, config::train_table(), of_training(training.student, row));
    check(training.train, kPrecision, where);
    check(training.train, "teacher_precision", where);
  }

  void settle(Params& drawing, const ParamTable& table, const std::string& where) {
    if (drawing.text(kPrecision) == kAuto) drawing = with(drawing, table, "fp32");
    check(drawing, kPrecision, where);
  }

 private:
  void check(const Params& params, const std::string& name, const std::string& where) const {
    const auto& word = params.text(name);
    if (device_ && !word.empty())
      device::check_precision(device::precision_named(word), *device_, where + '.' + name);
  }

  std::string of_training(const plugin::PluginChoice& student, const config::Row& row) {
    const StudentContext context{sources_.spec(row), row.diffusion};
    if (context.shape.values() == 0) return "fp32";  // absent files would say: nothing can be run
    const record::KeyParts parts{{"student", stages::describe(student)},
                                 {"image", text_of(context.shape)},
                                 {"diffusion", stages::describe(context.diffusion)}};
    const fs::path file = folder_ / (record::content_key(parts) + ".json");
    if (fs::exists(file)) {
      try {
        const auto chosen =
            io::as<std::string>(Json::parse(io::read_document(file)).at(kPrecision));
        device::precision_named(chosen);
        return chosen;
      } catch (const std::exception&) {  // damaged: measured again
      }
    }
    if (!device_) return "fp32";
    Json about = {{kPrecision, "bf16"}, {"device", device_->str()}};
    if (!device_->is_cuda()) measure(student, context, about);
    for (const auto& [name, value] : parts) about[name] = value;
    fs::create_directories(folder_);
    io::write_text(file, about.dump(2) + "\n");
    return io::as<std::string>(about.at(kPrecision));
  }

  void measure(const plugin::PluginChoice& student, const StudentContext& context,
               Json& about) const {
    const double fp32 = step_s(student, context, device::Precision::fp32);
    const double bf16 = step_s(student, context, device::Precision::bf16);
    constexpr double kWorthIt = 0.9;
    const std::string chosen = bf16 < kWorthIt * fp32 ? "bf16" : "fp32";
    char text[160];
    std::snprintf(text, sizeof text,
                  "a training example takes %.3g s in fp32, %.3g s in bf16: %s from now on", fp32,
                  bf16, chosen.c_str());
    context_.host.log(kPrecision, "student " + student.name + ": " + text);
    about[kPrecision] = chosen;
    about["fp32_s"] = fp32;
    about["bf16_s"] = bf16;
  }

  // Of one example of a step, the best of a few.
  double step_s(const plugin::PluginChoice& student, const StudentContext& context,
                device::Precision precision) const {
    context_.registry.check_size(student, context);
    const auto network = context_.registry.student(student, context, /*seed=*/0);
    model::to_channels_last(*network);
    network->to(*device_);
    network->eval();  // what is drawn in training is no product
    const auto batch =
        std::clamp<std::int64_t>((std::int64_t{1} << 18) / context.shape.values(), 1, 16);
    const auto there = at::TensorOptions().device(*device_);
    const auto x_t =
        at::zeros(context.shape.batch(batch), there).contiguous(at::MemoryFormat::ChannelsLast);
    const auto t = at::zeros({batch}, there.dtype(at::kLong));
    const at::AutoGradMode with_grad(true);
    double best = 1e9;
    for (int repeat = 0; repeat < 4; ++repeat) {
      const auto start = record::Clock::now();
      at::Tensor output;
      {
        const device::PrecisionScope scope(precision, *device_);
        output = plugin::predict(*network, x_t, t);
      }
      output.square().mean().backward();
      network->parameters().front().grad().sum().item<float>();  // waits for an accelerator
      best = std::min(best, record::seconds_since(start));
      network->zero_grad();
    }
    return best / double(batch);
  }

  const std::optional<at::Device> device_;
  const stages::StageContext& context_;
  Sources sources_;
  const fs::path folder_;
};

}  // namespace

void settle_precision(config::Experiment& experiment, std::optional<at::Device> device,
                      const stages::StageContext& context, const fs::path& home) {
  Choice choice(device, context, home);
  for (config::Row& row : experiment.rows) {
    const std::string where = experiment.file.string() + ": row " + row.id;
    if (row.training) choice.settle(*row.training, row, where + ".train");
    if (row.teacher && row.teacher->training)
      choice.settle(*row.teacher->training, row, where + ".teacher.train");
    choice.settle(row.sample, config::sample_table(), where + ".sample");
    choice.settle(row.synthetic, config::synthetic_table(), where + ".synthetic");
  }
  experiment.resolved = config::resolved_text(experiment);
}

}  // namespace dkdm::run

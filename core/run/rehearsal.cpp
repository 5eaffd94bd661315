#include "run/rehearsal.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <set>

#include "dkdm/random.hpp"
#include "dkdm/store_error.hpp"
#include "error_text.hpp"
#include "nn/meta.hpp"
#include "plugin/announce.hpp"
#include "plugin/call.hpp"
#include "record/clock.hpp"
#include "record/environment.hpp"

namespace dkdm::run {
namespace {

namespace fs = std::filesystem;
using Outcome = RehearsedStage::Outcome;

constexpr std::int64_t kSteps = 2, kBatch = 2, kSamples = 8, kSynthetic = 32;
constexpr std::int64_t kImages = 256;  // of a dataset
constexpr std::int64_t kCalls = 2, kRows = 2;

Params with(const Params& params, const ParamTable& table,
            const std::map<std::string, std::int64_t>& changed) {
  auto values = params.values();
  for (const auto& [name, value] : changed) values[name] = value;
  return Params(table, values);
}

std::int64_t at_most(const Params& params, const std::string& name, std::int64_t most) {
  return std::min(params.integer(name), most);
}

void cut_training(config::Training& training) {
  auto& train = training.train;
  train = with(train, config::train_table(),
               {{"steps", at_most(train, "steps", kSteps)},
                {"batch", at_most(train, "batch", kBatch)},
                {"checkpoint_every", 1},
                {"log_every", 1}});
}

// Runs its network in the first calls, on the first rows of each, and answers zeros for the rest.
// Where a loss listens to the network's features it runs it whole, every time.
class FirstCalls final : public Denoiser {
 public:
  explicit FirstCalls(std::shared_ptr<Denoiser> network)
      : network_(register_module("network", std::move(network))) {
    train(network_->is_training());
  }

  at::Tensor forward(const at::Tensor& x_t, const at::Tensor& t) override {
    if (!features_asked().empty()) {
      at::Tensor whole = plugin::predict(*network_, x_t, t);
      channels_ = whole.size(1);
      return whole;
    }
    const auto rows = std::min(x_t.size(0), kRows);
    at::Tensor first;
    if (calls_++ < kCalls) {
      first =
          plugin::predict(*network_, x_t.narrow(0, 0, rows).contiguous(x_t.suggest_memory_format()),
                          t.narrow(0, 0, rows));
      channels_ = first.size(1);
    }
    auto shape = x_t.sizes().vec();
    shape[1] = channels_;
    at::Tensor all = at::zeros(shape, x_t.options());
    if (first.defined()) all.narrow(0, 0, rows).copy_(first);
    return all;
  }

 private:
  std::shared_ptr<Denoiser> network_;
  std::int64_t calls_ = 0, channels_ = 0;
};

TrainedModel spared(TrainedModel model) {
  model.network = std::make_shared<FirstCalls>(std::move(model.network));
  return model;
}

// The first images of a dataset.
class FirstImages final : public Dataset {
 public:
  explicit FirstImages(std::shared_ptr<Dataset> whole) : whole_(std::move(whole)) {}
  ImageSpec spec() const override { return whole_->spec(); }
  std::int64_t size() const override { return std::min(whole_->size(), kImages); }
  std::int64_t num_classes() const override { return whole_->num_classes(); }
  at::Tensor images(const at::Tensor& index) const override {
    return plugin::images_of(*whole_, index);
  }
  at::Tensor labels(const at::Tensor& index) const override { return whole_->labels(index); }
  std::string fingerprint() const override { return whole_->fingerprint(); }

 private:
  std::shared_ptr<Dataset> whole_;
};

// Noise around a brightness, which is the label: an evaluator that learns labels can learn these.
class RandomImages final : public Dataset {
 public:
  RandomImages(const ImageSpec& spec, std::string fingerprint)
      : spec_(spec), fingerprint_(std::move(fingerprint)) {}
  ImageSpec spec() const override { return spec_; }
  std::int64_t size() const override { return kImages; }
  std::int64_t num_classes() const override { return kClasses; }
  at::Tensor images(const at::Tensor& index) const override {
    constexpr double kDarkest = 20, kApart = 21, kNoise = 10;
    const at::Tensor brightness = kDarkest + kApart * labels(index).view({-1, 1, 1, 1});
    const at::Tensor noise = Random(0, Stream::augment).normal(0, index, spec_.sizes());
    return (brightness + kNoise * noise).clamp(0, 255).to(at::kByte);
  }
  at::Tensor labels(const at::Tensor& index) const override { return index.remainder(kClasses); }
  std::string fingerprint() const override { return fingerprint_; }

 private:
  static constexpr std::int64_t kClasses = 10;
  const ImageSpec spec_;
  const std::string fingerprint_;
};

TrainedModel teacher_of(const plugin::Registry& registry, Host& host,
                        const plugin::PluginChoice& choice) {
  const auto announced = plugin::announced(registry, choice);
  if (announced.absent.empty()) return spared(registry.teacher(choice, host)->load());
  const auto& [student, values, context] = announced.network.value();
  return spared({host.student(student, values, context), context.diffusion, context.shape});
}

class Rehearsal {
 public:
  Rehearsal(const Plan& plan, stages::StageContext& context, record::ArtifactStore& store)
      : plan_(plan), context_(context), store_(store), outcomes_(plan.stages.size()),
        last_use_(plan.stages.size()) {
    for (const auto& need : plan.needs) {
      const bool is_measure = need.kind == "evaluator" || need.kind == "statistics";
      if (is_measure) measures_.insert(need.title());
      else if (!need.is_known) unknown_.insert(need.title());
    }
    for (std::size_t i = 0; i < plan.stages.size(); ++i) {
      last_use_[i] = i;
      for (const auto input : plan.stages[i].inputs) last_use_[input] = i;
    }
  }

  void run(const std::function<void(const std::string&)>& begun,
           const std::function<void(const RehearsedStage&)>& ended) {
    for (std::size_t i = 0; i < plan_.stages.size(); ++i) {
      const auto& stage = plan_.stages[i];
      if (stage.streamed && is_drawn_elsewhere(i)) continue;
      RehearsedStage made{.label = stage.label};
      begun(stage.label);
      made.message = obstacle(i, made.outcome);
      if (made.message.empty()) make(stage, made);
      outcomes_[i] = made.outcome;
      ended(made);
      for (std::size_t input = 0; input <= i; ++input)
        if (last_use_[input] == i) forget(plan_.stages[input]);
    }
  }

 private:
  // Samples go straight into their evaluation, where there is one.
  bool is_drawn_elsewhere(std::size_t sample) const {
    for (const auto& run : plan_.runs)
      if (run.sample_stage == sample)
        for (const auto input : plan_.stages[run.evaluate_stage].inputs)
          if (plan_.stages[input].kind == stages::StageKind::evaluator)
            return outcomes_[input] == Outcome::ok;
    return false;
  }

  static bool measures(const stages::Stage& stage) {
    using stages::StageKind;
    return stage.kind == StageKind::evaluator || stage.kind == StageKind::evaluate ||
           stage.kind == StageKind::snapshots || stage.kind == StageKind::select;
  }

  // Why the stage cannot be made, and what is said of it then; "" = it can.
  std::string obstacle(std::size_t index, Outcome& outcome) const {
    const auto& stage = plan_.stages[index];
    for (const auto& title : stage.needs) {
      if (measures(stage) && measures_.contains(title)) {
        outcome = Outcome::left_out;
        return title + " is absent";
      }
      if (unknown_.contains(title)) {
        outcome = Outcome::failed;
        return title + " is absent, and nothing says what it would hold";
      }
    }
    for (const auto input : stage.inputs) {
      if (outcomes_[input] == Outcome::ok) continue;
      outcome = Outcome::not_reached;
      return "needs \"" + plan_.stages[input].label + "\"";
    }
    return "";
  }

  void make(const stages::Stage& stage, RehearsedStage& made) {
    const auto start = record::Clock::now();
    record::restart_peak_resident();
    try {
      record::Manifest manifest;
      manifest.plugin = stage.plugin;
      manifest.parts = stage.parts;
      const auto work = [&](const fs::path& folder, record::Manifest& filled) {
        const plugin::CallScope scope(stage.plugin, stages::name_of(stage.kind),
                                      plugin::Care::process);
        plugin::settle_workers();
        stage.work(context_, folder, filled);
      };
      store_.make(stages::name_of(stage.kind), stage.key, manifest, work,
                  [](const std::string&) {});
    } catch (const Interrupted&) {
      throw;
    } catch (const StoreError&) {
      throw;
    } catch (...) {
      made.outcome = Outcome::failed;
      made.message = current_error_text();
    }
    made.seconds = record::seconds_since(start);
    made.peak_bytes = double(record::peak_resident_bytes());
  }

  void forget(const stages::Stage& stage) {
    std::error_code ignored;
    fs::remove_all(stage.folder(store_), ignored);
  }

  const Plan& plan_;
  stages::StageContext& context_;
  record::ArtifactStore& store_;
  std::vector<Outcome> outcomes_;
  std::vector<std::size_t> last_use_;         // by a later stage, or its own number
  std::set<std::string> measures_, unknown_;  // titles of needs
};

}  // namespace

config::Experiment cut_down(const config::Experiment& experiment) {
  auto cut = experiment;
  cut.scale = "desk";
  for (auto& row : cut.rows) {
    if (row.training) cut_training(*row.training);
    if (row.teacher && row.teacher->training) cut_training(*row.teacher->training);
    const auto samples = at_most(row.sample, "count", kSamples);
    row.sample = with(row.sample, config::sample_table(),
                      {{"count", samples}, {"batch", at_most(row.sample, "batch", samples)}});
    // 0 stays, as many as the dataset's first images are; behind statistics there are any number.
    const bool of_statistics = row.synthetic.integer("count") == 0 && !row.statistics.empty();
    const auto synthetic = of_statistics ? kSynthetic : at_most(row.synthetic, "count", kSynthetic);
    row.synthetic =
        with(row.synthetic, config::synthetic_table(),
             {{"count", synthetic}, {"batch", at_most(row.synthetic, "batch", kImages)}});
    row.evaluate = with(row.evaluate, config::evaluate_table(),
                        {{"every", row.evaluate.integer("every") > 0 ? 1 : 0},
                         {"count", at_most(row.evaluate, "count", kSamples)}});
  }
  return cut;
}

std::string cuts_text() {
  const auto text = [](std::int64_t count) { return std::to_string(count); };
  return "Cut down: " + text(kSteps) + " training steps in batches of " + text(kBatch) + ", " +
         text(kSamples) + " samples, " + text(kSynthetic) + " synthetic images, the first " +
         text(kImages) + " images of a dataset; sampling networks and teachers run in the first " +
         text(kCalls) + " calls of a stage on " + text(kRows) +
         " images and answer zeros after that. Networks, image sizes and chains are the true ones; "
         "true batches are checked by their shapes. One seed.";
}

void RehearsalHost::log(const std::string& component, const std::string& line) {
  if (component != "evaluator") host_.log(component, line);  // that samples are few is known
}

void RehearsalHost::progress(const std::string& unit, std::int64_t done, std::int64_t total) {
  host_.progress(unit, done, total);
}

TrainedModel RehearsalHost::load_model(const fs::path& folder, const std::string& weights) {
  return spared(host_.load_model(folder, weights));
}

std::shared_ptr<Denoiser> RehearsalHost::student(const std::string& name,
                                                 const std::map<std::string, Value>& values,
                                                 const StudentContext& context) {
  return host_.student(name, values, context);
}

stages::StageContext rehearsal_context(const plugin::Registry& registry, RehearsalHost& host,
                                       const stages::OpenDataset& whole,
                                       record::Recorder& recorder) {
  stages::StageContext context{registry, host, {}, &recorder};
  context.dataset = [whole](const plugin::PluginChoice& choice) {
    return std::make_shared<FirstImages>(whole(choice));
  };
  context.absent_images = [](const Announced& announced,
                             const std::string& fingerprint) -> std::shared_ptr<Dataset> {
    return std::make_shared<RandomImages>(announced.spec, fingerprint);
  };
  context.load_teacher = [&registry, &host](const plugin::PluginChoice& choice) {
    return teacher_of(registry, host, choice);
  };
  return context;
}

void rehearse(const Plan& plan, stages::StageContext& context, record::ArtifactStore& store,
              const std::function<void(const std::string& label)>& begun,
              const std::function<void(const RehearsedStage&)>& ended) {
  Rehearsal(plan, context, store).run(begun, ended);
}

BatchCheck check_batch(const plugin::PluginChoice& student, const StudentContext& context,
                       std::int64_t batch, const plugin::Registry& registry) {
  const auto network =
      nn::made_on_meta([&] { return registry.student(student, context, /*seed=*/0); });
  network->eval();
  const auto attempt = [&](std::int64_t images) -> std::string {
    try {
      const at::NoGradGuard no_grad;
      const auto meta = at::TensorOptions().device(at::kMeta);
      const auto x_t = at::empty(context.shape.batch(images), meta.dtype(at::kFloat));
      const auto out = network->forward(x_t, at::empty({images}, meta.dtype(at::kLong)));
      auto expected = context.shape.batch(images);
      if (out.dim() == 4 && out.size(1) == 2 * expected[1]) expected[1] *= 2;
      if (out.sizes() == at::IntArrayRef(expected)) return "";
      return "gives " + c10::str(out.sizes()) + " for a batch of " + std::to_string(images);
    } catch (...) {
      return "a batch of " + std::to_string(images) + ": " + current_error_text();
    }
  };
  if (const auto refusal = attempt(kBatch); !refusal.empty()) return {false, refusal};
  return {true, attempt(batch)};
}

}  // namespace dkdm::run

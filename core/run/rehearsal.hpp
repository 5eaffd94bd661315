// A rehearsal of an experiment (`dkdm run --dry-run`): every stage with its true networks, image
// sizes and chains, and next to no work. It finds in minutes what a first real run would meet after
// hours. Batches, steps and sets are cut down; networks run in the first calls of a stage; random
// weights and images take the place of files that are absent. Nothing of it is worth keeping.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "config/experiment.hpp"
#include "run/plan.hpp"
#include "stages/stage.hpp"

namespace dkdm::run {

// The experiment with two training steps, a snapshot after the first where there are any, and sets
// of a few images; at scale "desk", which allows that.
DKDM_API config::Experiment cut_down(const config::Experiment& experiment);
// What cut_down and the host below do, for a person.
DKDM_API std::string cuts_text();

// The host of a rehearsal: `host`, but the networks that it loads are spared after their first
// calls.
class DKDM_API RehearsalHost final : public Host {
 public:
  explicit RehearsalHost(Host& host) : host_(host) {}
  void log(const std::string& component, const std::string& line) override;
  void progress(const std::string& unit, std::int64_t done, std::int64_t total) override;
  TrainedModel load_model(const std::filesystem::path& folder, const std::string& weights) override;
  std::shared_ptr<Denoiser> student(const std::string& name,
                                    const std::map<std::string, Value>& values,
                                    const StudentContext& context) override;
  at::Device device() const override { return host_.device(); }

 private:
  Host& host_;
};

// Stages under `host`, with the first images of each dataset that `whole` opens and, where files
// are absent, random ones and random weights. References outlive it.
DKDM_API stages::StageContext rehearsal_context(const plugin::Registry& registry,
                                                RehearsalHost& host,
                                                const stages::OpenDataset& whole,
                                                record::Recorder& recorder);

struct RehearsedStage {
  enum class Outcome { ok, failed, left_out, not_reached };
  std::string label;
  Outcome outcome = Outcome::ok;
  double seconds = 0, peak_bytes = 0;  // of this process, while it was at the stage
  std::string message;                 // why not, one line
};

// Runs the stages of `plan`, each whatever became of those that do not feed it; `begun` and `ended`
// hear of each. Outputs are removed as soon as no later stage reads them. Evaluations are left out
// where the evaluator's weights or the reference's statistics are absent; then samples are drawn by
// themselves. Throws Interrupted and StoreError.
DKDM_API void rehearse(const Plan& plan, stages::StageContext& context,
                       record::ArtifactStore& store,
                       const std::function<void(const std::string& label)>& begun,
                       const std::function<void(const RehearsedStage&)>& ended);

// Whether a student takes a batch of so many images: shapes alone, without memory or arithmetic (on
// LibTorch's meta device).
struct BatchCheck {
  bool possible = true;  // false: the network does not run on that device, whatever the batch
  std::string message;   // what it says, "" = it takes the batch
};
DKDM_API BatchCheck check_batch(const plugin::PluginChoice& student, const StudentContext& context,
                                std::int64_t batch, const plugin::Registry& registry);

}  // namespace dkdm::run

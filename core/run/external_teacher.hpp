// A teacher that was not trained here, as a plan sees it. Each question is answered once.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "dkdm/announced.hpp"
#include "run/cost.hpp"
#include "run/footprint.hpp"
#include "stages/stage.hpp"

namespace dkdm::run {

// References outlive it.
class ExternalTeacher {
 public:
  // `announced`: by its plugin; where its files are absent `stand_in` takes the place of what they
  // would say in keys.
  ExternalTeacher(const plugin::PluginChoice& choice, const stages::StageContext& context,
                  Announced announced, std::string stand_in)
      : choice_(choice), context_(context), announced_(std::move(announced)) {
    if (!announced_.absent.empty()) fingerprint_ = std::move(stand_in);
  }

  // The name of what is absent, "" where nothing is.
  std::string stand_in() const { return announced_.absent.empty() ? "" : fingerprint_; }

  // Without loading it: the hash of its weights; and what they are, for its plugin or kUnlabelled.
  // [sample] weights chooses among those of networks trained here and says nothing of a file's.
  const std::string& fingerprint();
  std::string weights() const;

  // The SHA-256 of its weights; of shards that of the lines "HASH  NAME" that sha256sum prints of
  // them, sorted by name. "" where files are absent or its plugin does not say which they are.
  const std::string& sha256();
  // Whether it says that its network draws latents; false where files are absent.
  bool draws_latents();
  // For a person: its file, of shards the first.
  std::string file();
  // The dataset whose images its network draws, as the model folder around its weights has it, ""
  // where there is none or it does not say.
  std::string images();

  // What it was trained for. Loads it; of absent files what is announced, nothing where nothing is.
  // Throws what its plugin throws.
  std::optional<StudentContext> made_for();
  // The same of its network; 0 and NaN where nothing is known.
  std::int64_t parameters(CostModel& cost);
  double forward_s(CostModel& cost);  // of one image
  NetworkBytes bytes(CostModel& cost, device::Precision precision);

 private:
  const TrainedModel& model();
  const std::vector<std::filesystem::path>& files();
  // Of the announced network.
  plugin::PluginChoice student() const;

  const plugin::PluginChoice& choice_;
  const stages::StageContext& context_;
  const Announced announced_;
  std::string fingerprint_, sha256_;
  std::optional<std::vector<std::filesystem::path>> files_;
  bool draws_latents_ = false;  // known with files_
  std::optional<TrainedModel> model_;
  double forward_s_ = -1;
};

}  // namespace dkdm::run

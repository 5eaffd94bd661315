// A teacher that was not trained here, as a plan sees it. Each question is answered once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "run/cost.hpp"
#include "stages/stage.hpp"

namespace dkdm::run {

// References outlive it.
class ExternalTeacher {
 public:
  ExternalTeacher(const plugin::PluginChoice& choice, const stages::StageContext& context)
      : choice_(choice), context_(context) {}

  // Without loading it: the hash of its weights; and what they are, for its plugin or kUnlabelled.
  // [sample] weights chooses among those of networks trained here and says nothing of a file's.
  const std::string& fingerprint();
  std::string weights() const;

  // Loads it. Throws what its plugin throws.
  const TrainedModel& model();
  std::int64_t parameters();
  double forward_s(const CostModel& cost);  // of one image

 private:
  const plugin::PluginChoice& choice_;
  const stages::StageContext& context_;
  std::string fingerprint_;
  std::optional<TrainedModel> model_;
  double forward_s_ = -1;
};

}  // namespace dkdm::run

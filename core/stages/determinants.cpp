#include "stages/determinants.hpp"

#include "config/experiment.hpp"
#include "config/settings.hpp"
#include "diffusion/sampler_kind.hpp"

namespace dkdm::stages {

std::string describe(const plugin::PluginChoice& choice) {
  std::string text = choice.name + " " + choice.version + "\n";
  // What a teacher reads is in its fingerprint; where that lies is no difference.
  const bool is_teacher = choice.kind == "teacher";
  for (const auto& [name, value] : choice.params.determining())
    text += name + " = " + (is_teacher && name == "path" ? "\"\"" : to_text(value)) + "\n";
  return text;
}

std::string describe(const DiffusionConfig& config) {
  return config::diffusion_settings().describe(config);
}

std::string describe(const SamplingSpec& spec) {
  const auto& kind = diffusion::sampler_kind(spec.sampler.sampler);
  const auto reads = [&](const std::string& setting) {
    if (setting == "eta") return kind.uses_eta;
    if (setting == "solver_steps") return kind.uses_solver_steps;
    if (setting == "steps_offset" || setting == "set_alpha_to_one") return kind.uses_offset;
    return true;
  };
  std::string text = config::sampler_settings().describe(spec.sampler, reads);
  if (kind.uses_respacing) text += "respacing = " + to_text(Value(spec.respacing)) + "\n";
  if (spec.precision != "fp32") text += "precision = " + spec.precision + "\n";
  return text + "count = " + std::to_string(spec.count) + "\nseed = " + std::to_string(spec.seed) +
         "\n";
}

std::string describe_training(const Params& train) {
  // In the table's order, which keys have had from the first.
  const auto determining = train.determining();
  std::string text;
  for (const Param& param : config::train_table())
    if (const auto found = determining.find(param.name); found != determining.end())
      text += param.name + " = " + to_text(found->second) + "\n";
  return text;
}

void add_teacher_precision(const Params& train, record::KeyParts& parts) {
  const std::string precision = config::teacher_precision(train);
  if (precision != "fp32") parts.emplace_back("teacher precision", precision);
}

}  // namespace dkdm::stages

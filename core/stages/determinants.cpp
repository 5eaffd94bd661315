#include "stages/determinants.hpp"

#include "diffusion/sampler_kind.hpp"

namespace dkdm::stages {

std::string describe(const plugin::PluginChoice& choice) {
  std::string text = choice.name + " " + choice.version + "\n";
  // What a teacher reads is in its fingerprint; where that lies is no difference.
  const bool is_teacher = choice.kind == "teacher";
  for (const auto& [name, value] : choice.params.values())
    text += name + " = " + (is_teacher && name == "path" ? "\"\"" : to_text(value)) + "\n";
  return text;
}

std::string describe(const DiffusionConfig& config) {
  std::string text = config.schedule + " " + std::to_string(config.steps);
  if (config.beta_start != 0) text += " beta_start " + to_text(Value(config.beta_start));
  if (config.beta_end != 0) text += " beta_end " + to_text(Value(config.beta_end));
  if (config.variance != DiffusionConfig().variance) text += " variance " + config.variance;
  if (config.variance_range != DiffusionConfig().variance_range)
    text += " variance_range " + config.variance_range;
  return text;
}

std::string describe(const ImageSpec& spec) {
  return std::to_string(spec.channels) + "x" + std::to_string(spec.size);
}

std::string describe(const SamplingSpec& spec) {
  const auto& kind = diffusion::sampler_kind(spec.sampler.sampler);
  std::string text = kind.name + " clip " + to_text(Value(spec.sampler.clip_denoised));
  if (kind.uses_eta) text += " eta " + to_text(Value(spec.sampler.eta));
  if (kind.uses_respacing) text += " respacing " + spec.respacing;
  if (kind.uses_solver_steps) text += " steps " + std::to_string(spec.sampler.solver_steps);
  return text + " count " + std::to_string(spec.count) + " seed " + std::to_string(spec.seed);
}

std::string describe_training(const Params& train) {
  std::string text;
  for (const auto& [name, value] : train.values())
    if (name != "checkpoint_every" && name != "log_every") text += name + " = " + to_text(value) + "\n";
  return text;
}

}  // namespace dkdm::stages

#include "run/stage_list.hpp"

#include <set>

#include "record/content_key.hpp"

namespace dkdm::run {

using stages::Stage;

void StageChain::add(const std::string& name, std::size_t stage) {
  for (const auto& [_, present] : named_)
    if (present == stage) return;
  named_.emplace_back(name, stage);
}

void StageChain::add(const StageChain& others) {
  for (const auto& [name, stage] : others.named_) add(name, stage);
}

std::vector<std::size_t> StageChain::indices() const {
  std::vector<std::size_t> result;
  for (const auto& [_, stage] : named_) result.push_back(stage);
  return result;
}

std::size_t StageList::add(Stage stage, std::vector<std::size_t> inputs) {
  stage.key = record::content_key(stage.parts);
  stage.needs = needs_of(stage.parts);
  if (!stage.needs.empty()) {
    stage.key = "unknown-" + stage.key;
    unknown_keys_[stage.key] = stage.needs;
  }
  stage.inputs = std::move(inputs);
  for (std::size_t i = 0; i < stages_.size(); ++i)
    if (stages_[i].kind == stage.kind && stages_[i].key == stage.key) {
      stages_[i].streamed = stages_[i].streamed && stage.streamed;
      if (stage.footprint.memory() > stages_[i].footprint.memory())
        take_memory(stage.footprint, stages_[i].footprint);  // of the largest batch
      return i;
    }
  stages_.push_back(std::move(stage));
  return stages_.size() - 1;
}

stages::StageInput StageList::output_of(std::size_t stage) const {
  return {stages_[stage].folder(store_), stages_[stage].key};
}

// What is absent of all that `parts` are made of: a key is unknown where any part of it is.
std::vector<std::string> StageList::needs_of(const record::KeyParts& parts) const {
  std::set<std::string> titles;
  for (const auto& [_, text] : parts) {
    for (const auto& [stand_in, need] : sources_.needs())
      if (text.find(stand_in) != std::string::npos) titles.insert(need.title());
    for (const auto& [key, needs] : unknown_keys_)
      if (text.find(key) != std::string::npos) titles.insert(needs.begin(), needs.end());
  }
  return {titles.begin(), titles.end()};
}

void add_unknown(Stage& stage, const char* what, const std::string& stand_in) {
  if (!stand_in.empty()) stage.parts.emplace_back(what, stand_in);
}

void take_memory(const stages::Footprint& from, stages::Footprint& to) {
  to.parts = from.parts;
  to.remedy = from.remedy;
}

}  // namespace dkdm::run

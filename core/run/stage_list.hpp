// The stages of a plan, each once, and what of them only absent files would say.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "record/artifact_store.hpp"
#include "run/sources.hpp"
#include "stages/stages.hpp"

namespace dkdm::run {

// The stages that a run or a stage depends on, by their names in a run's record, in the order of
// making.
class StageChain {
 public:
  // Once, under its first name.
  void add(const std::string& name, std::size_t stage);
  void add(const StageChain& others);

  const std::vector<std::pair<std::string, std::size_t>>& named() const { return named_; }
  std::vector<std::size_t> indices() const;

 private:
  std::vector<std::pair<std::string, std::size_t>> named_;
};

// References outlive it.
class StageList {
 public:
  StageList(const Sources& sources, const record::ArtifactStore& store)
      : sources_(sources), store_(store) {}

  // The stage with these parts, under their key; an equal one is shared, with the larger
  // footprint of the two. `inputs`: of this list.
  std::size_t add(stages::Stage stage, std::vector<std::size_t> inputs);

  const stages::Stage& operator[](std::size_t stage) const { return stages_[stage]; }
  const std::string& key(std::size_t stage) const { return stages_[stage].key; }
  stages::StageInput output_of(std::size_t stage) const;
  // Whether the output of `stage` is in the store.
  bool is_there(std::size_t stage) const { return stages_[stage].find(store_).has_value(); }
  const record::ArtifactStore& store() const { return store_; }

  // What `look` returns while the list is an empty one, which is then forgotten.
  template <class Look>
  auto aside(const Look& look) {
    std::vector<stages::Stage> kept;
    std::swap(stages_, kept);
    auto seen = look();
    std::swap(stages_, kept);
    return seen;
  }

  std::vector<stages::Stage> take() { return std::move(stages_); }

 private:
  std::vector<std::string> needs_of(const record::KeyParts& parts) const;

  const Sources& sources_;
  const record::ArtifactStore& store_;
  std::vector<stages::Stage> stages_;
  std::map<std::string, std::vector<std::string>> unknown_keys_;  // and what is absent
};

// Says in the parts of `stage` that something of it, which another text states as 0, is known to
// absent files alone.
void add_unknown(stages::Stage& stage, const char* what, const std::string& stand_in);

// Memory and how to need less, not disk.
void take_memory(const stages::Footprint& from, stages::Footprint& to);

}  // namespace dkdm::run

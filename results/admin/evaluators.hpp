// Whether the values of an experiment were measured with one evaluator, and what to do where not.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace dkdm::results {

// Values of one experiment's runs stand under several protocols, and some runs have none under
// `protocol`. Only what the experiment's last command asked for counts (everything, where none is
// on record), and runs that evaluate the same samples are one: the newest stands for them.
struct EvaluatorSplit {
  std::string experiment;
  // Where there is a command for one, the one that most runs have; of equals the newest.
  std::string protocol;
  std::vector<std::int64_t> with;     // runs that have it
  std::vector<std::int64_t> without;  // runs that have others only
  std::vector<std::string> others;    // protocols of those
  // The arguments of the dkdm command that evaluates `without` under `protocol` from the kept
  // weights and records the values. Empty where the evaluator's own weights are not in the store.
  std::vector<std::string> command;

  std::string text() const;  // one line for a person
};

// Of every experiment, or of `experiment` alone; none where all runs compare. `root` holds the
// artifacts. Throws StoreError.
std::vector<EvaluatorSplit> evaluator_splits(const std::filesystem::path& database,
                                             const std::filesystem::path& root,
                                             const std::string& experiment = "");

}  // namespace dkdm::results

// Checks of published values (config/checks.hpp), made ready and carried out: cells of experiments
// as `dkdm run` makes them, evaluators alone as `dkdm eval` does.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/session.hpp"
#include "config/checks.hpp"
#include "run/compare.hpp"

namespace dkdm::cli {

// A file or folder that a check reads.
struct Need {
  enum class State { there, missing, unusable };
  std::string what;  // "teacher ADM_cifar10_baseline.pt", "dataset cifar10"
  State state = State::there;
  std::string text;   // where it is; or what is wrong and where to get it
  std::string place;  // what its parameters say of where it is, "" = nothing
};

// A check with the experiment that it is of, under its own overrides.
struct ReadyCheck {
  config::Check check;
  config::Experiment experiment;
  std::size_t row = 0;  // of the experiment
  std::vector<std::string> overrides;
  std::vector<config::ExpectedValue> expected;
  std::optional<plugin::PluginChoice> images;  // of a check of the evaluator alone
  std::vector<Need> needs;                     // look_for_files fills them

  const config::Row& of() const { return experiment.rows[row]; }
  bool can_run() const;
};

// A value of a check.
struct CheckedValue {
  run::Comparison comparison;
  std::optional<std::int64_t> seed, run;  // of a row's run; the run that has the value on record
};

class Reproduction {
 public:
  // References outlive it.
  Reproduction(Context& context, Session& session) : context_(context), session_(session) {}

  // Throws ConfigError for what cannot be meant: a row that is not there, a wrong override, a value
  // without a tolerance.
  ReadyCheck prepare(const config::Check& check, std::vector<std::string> overrides);

  // Fills check.needs.
  void look_for_files(ReadyCheck& check);

  // The values, all expected ones for each seed; what fails is told in them and never thrown, but
  // for Interrupted and StoreError. For a check that cannot run they say what it needs.
  std::vector<CheckedValue> carry_out(const ReadyCheck& check);

 private:
  Need need_dataset(const ReadyCheck& check, const plugin::PluginChoice& choice);
  Need need_statistics(const ReadyCheck& check);
  Need need_evaluator(const ReadyCheck& check);
  Need need_teacher(const ReadyCheck& check);
  std::vector<CheckedValue> evaluate_row(const ReadyCheck& check);
  std::vector<CheckedValue> evaluate_images(const ReadyCheck& check);

  Context& context_;
  Session& session_;
};

// All values of a check as one verdict, for one reason.
std::vector<CheckedValue> all_as(const ReadyCheck& check, run::Verdict verdict,
                                 const std::string& note);

}  // namespace dkdm::cli

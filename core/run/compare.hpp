// What an evaluation came to against what was expected of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/checks.hpp"
#include "record/records.hpp"

namespace dkdm::run {

enum class Verdict { agrees, differs, needs_files, failed, not_run };

DKDM_API const char* name_of(Verdict verdict);

struct DKDM_API Comparison {
  config::ExpectedValue expected;
  Verdict verdict = Verdict::not_run;
  std::optional<double> ours{};   // a finite number
  std::string protocol{};         // of ours
  std::int64_t sample_count = 0;  // of ours
  std::string note{};             // why there is no number to compare

  // Ours minus what was expected; nothing where there is none.
  std::optional<double> difference() const;
};

// Agrees where the difference is at most the tolerance: one that was written in decimals is held to
// what was written, not to its rounding in binary. A metric that is not among `metrics`, or not a
// finite number, has failed.
DKDM_API Comparison compare(const config::ExpectedValue& expected,
                            const std::vector<record::MetricRecord>& metrics);

}  // namespace dkdm::run

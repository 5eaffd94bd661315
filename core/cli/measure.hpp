// Sample sets that are no run's samples, measured and kept as `dkdm eval` does.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/image_sets.hpp"
#include "cli/session.hpp"
#include "dkdm/evaluator.hpp"

namespace dkdm::cli {

struct Measured {
  const ImageSet* samples;
  std::int64_t count = 0;
  double seconds = 0;
  std::vector<Metric> metrics;
};

// By the evaluator, which is open on its reference. Throws Error for a value that is not finite.
Measured measure(Evaluator& evaluator, const ImageSet& samples, Host& host);

// The metrics as the database has them.
std::vector<record::MetricRecord> records_of(const Measured& measured, const Evaluator& evaluator);

// The run that such an evaluation is on record as, of the experiment "eval". `reference_key`: what
// prepare_reference returned.
record::RunRecord evaluation_record(const ImageSet& samples, const ImageSet& reference,
                                    const plugin::PluginChoice& choice,
                                    const std::string& reference_key);

// Records it, finished, with its metrics; returns its number.
std::int64_t record_evaluation(const record::RunRecord& run,
                               const std::vector<record::MetricRecord>& metrics,
                               const plugin::PluginChoice& choice, Session& session);

}  // namespace dkdm::cli

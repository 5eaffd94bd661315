// This database's values against those of another database or of an earlier report.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "results/report/report.hpp"
#include "results/text/table.hpp"

namespace dkdm::results {

// How much worse a mean over seeds may be before it is a regression.
struct Tolerance {
  // Where both sides have several seeds: standard deviations, pooled over both:
  // sqrt(((n1 - 1) s1^2 + (n2 - 1) s2^2) / (n1 + n2 - 2)).
  double deviations = 2;
  // Where one side has a single seed, whose spread nobody knows: a share of the other's mean.
  double margin = 0.05;
};

struct Comparison {
  // experiment, row, metric, this, other, worse by, allowed, verdict. Verdicts: "better", "equal",
  // "within", "REGRESSION"; "not comparable: …" with what differs; "only here", "only there".
  Table table;
  std::size_t compared = 0, regressions = 0;
  // Rows whose two values are of different configurations, and in what they differ; for a person.
  std::vector<std::string> notes;
};

// `other` is a results database or a report written by --format json. Values compare when
// experiment, row, metric, protocol, reference, sample count and weights agree. A row that has a
// value there and failed here, or is not finite here, is a regression; one that was not run here is
// not. experiments {} = all on either side's record. Throws ConfigError for an unknown experiment
// or a file that is neither, DataError when `other` does not exist, StoreError when a database
// cannot be read.
Comparison compare_reports(const std::filesystem::path& file,
                           const std::vector<std::string>& experiments, const ReportChoice& choice,
                           const std::filesystem::path& other, const Tolerance& tolerance = {});

}  // namespace dkdm::results

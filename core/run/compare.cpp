#include "run/compare.hpp"

#include <algorithm>
#include <cmath>

namespace dkdm::run {

const char* name_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::agrees: return "agrees";
    case Verdict::differs: return "differs";
    case Verdict::needs_files: return "needs files";
    case Verdict::failed: return "failed";
    case Verdict::not_run: break;
  }
  return "not run";
}

std::optional<double> Comparison::difference() const {
  return ours ? std::optional(*ours - expected.value) : std::nullopt;
}

Comparison compare(const config::ExpectedValue& expected,
                   const std::vector<record::MetricRecord>& metrics) {
  Comparison made{expected};
  const auto metric = std::find_if(
      metrics.begin(), metrics.end(),
      [&](const record::MetricRecord& record) { return record.name == expected.metric; });
  if (metric == metrics.end()) {
    std::string given;
    for (const auto& record : metrics) given += (given.empty() ? "" : ", ") + record.name;
    made.verdict = Verdict::failed;
    made.note = "the evaluator gives no " + expected.metric +
                (given.empty() ? ", and nothing else" : "; it gives " + given);
    return made;
  }
  made.protocol = metric->protocol;
  made.sample_count = metric->sample_count;
  if (!std::isfinite(metric->value)) {
    made.verdict = Verdict::failed;
    made.note = expected.metric + " is not a finite number";
    return made;
  }
  made.ours = metric->value;
  // 3.161 is 0.01 from 3.151, and 2e-16 more in binary.
  constexpr double kRounding = 1e-12;
  const double slack = kRounding * std::max(std::abs(expected.value), std::abs(metric->value));
  const bool near = std::abs(metric->value - expected.value) <= expected.tolerance + slack;
  made.verdict = near ? Verdict::agrees : Verdict::differs;
  return made;
}

}  // namespace dkdm::run

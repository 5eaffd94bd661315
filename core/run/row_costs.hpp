// What the networks of a row cost, as far as a plan asks for it.
#pragma once

#include "config/experiment.hpp"
#include "run/footprint.hpp"
#include "run/plan.hpp"
#include "run/sources.hpp"

namespace dkdm::run {

// References outlive it.
class RowCosts {
 public:
  RowCosts(Sources& sources, CostModel& cost, const PlanExtras& extras)
      : sources_(sources), cost_(cost), extras_(extras) {}

  // Whether the size of the row's images is known.
  bool is_sized(const config::Row& row) { return sources_.spec(row).values() > 0; }

  // Seconds of an image, a forward or a training example: 0 where nothing is estimated, NaN where
  // it is not known.
  double student_s(const config::Row& row, const plugin::PluginChoice& student);
  double training_s(const config::Row& row, const plugin::PluginChoice& student);
  double teacher_s(const config::Row& row);

  // The same in bytes; zeros where footprints are not asked for. `precision`: its name.
  NetworkBytes student_bytes(const config::Row& row, const plugin::PluginChoice& student, Pass pass,
                             const std::string& precision);
  NetworkBytes teacher_bytes(const config::Row& row, const std::string& precision);
  NetworkBytes evaluated_bytes(const config::Row& row);

  // Of the network that the row evaluates; 0 where that is a teacher from elsewhere and nothing is
  // made: its record has the number already.
  std::int64_t parameters(const config::Row& row);

 private:
  StudentContext made_for(const config::Row& row) { return {sources_.spec(row), row.diffusion}; }

  Sources& sources_;
  CostModel& cost_;
  const PlanExtras extras_;
};

}  // namespace dkdm::run

#include "run/row_costs.hpp"

namespace dkdm::run {
namespace {

// Of the row's teacher, where it is trained here.
const std::optional<config::Training>& trained_teacher(const config::Row& row) {
  return row.teacher.value().training;
}

}  // namespace

double RowCosts::student_s(const config::Row& row, const plugin::PluginChoice& student) {
  if (!extras_.estimate) return 0;
  return is_sized(row) ? cost_.forward_s(student, made_for(row)) : kUnknownCost;
}

double RowCosts::training_s(const config::Row& row, const plugin::PluginChoice& student) {
  if (!extras_.estimate) return 0;
  return is_sized(row) ? cost_.training_s(student, made_for(row)) : kUnknownCost;
}

double RowCosts::teacher_s(const config::Row& row) {
  if (!extras_.estimate) return 0;
  return trained_teacher(row) ? student_s(row, trained_teacher(row)->student)
                              : sources_.teacher(row).forward_s(cost_);
}

NetworkBytes RowCosts::student_bytes(const config::Row& row, const plugin::PluginChoice& student,
                                     bool training) {
  if (!extras_.footprints) return {};
  if (!is_sized(row)) return {kUnknownCost, kUnknownCost, kUnknownCost};
  const auto context = made_for(row);
  return {static_cast<double>(cost_.size(student, context).bytes),
          cost_.forward_bytes(student, context),
          training ? cost_.training_bytes(student, context) : kUnknownCost};
}

NetworkBytes RowCosts::teacher_bytes(const config::Row& row) {
  if (!extras_.footprints) return {};
  return trained_teacher(row) ? student_bytes(row, trained_teacher(row)->student)
                              : sources_.teacher(row).bytes(cost_);
}

NetworkBytes RowCosts::evaluated_bytes(const config::Row& row) {
  return row.training ? student_bytes(row, row.training->student) : teacher_bytes(row);
}

std::int64_t RowCosts::parameters(const config::Row& row) {
  const auto& training = row.training ? row.training : trained_teacher(row);
  if (training) return is_sized(row) ? cost_.parameters(training->student, made_for(row)) : 0;
  return extras_.estimate ? sources_.teacher(row).parameters(cost_) : 0;
}

}  // namespace dkdm::run

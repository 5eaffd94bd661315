#include "run/row_costs.hpp"

namespace dkdm::run {
namespace {

// Of the row's teacher, where it is trained here.
const std::optional<config::Training>& trained_teacher(const config::Row& row) {
  return row.teacher.value().training;
}

// Before "auto" is settled (run/precision_choice.hpp) the larger.
device::Precision precision_of(const std::string& name) {
  return name == "auto" ? device::Precision::fp32 : device::precision_named(name);
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
                                     Pass pass, const std::string& precision) {
  if (!extras_.footprints) return {};
  if (!is_sized(row)) return kUnknownBytes;
  return bytes_of(student, made_for(row), cost_, pass, precision_of(precision));
}

NetworkBytes RowCosts::teacher_bytes(const config::Row& row, const std::string& precision) {
  if (!extras_.footprints) return {};
  return trained_teacher(row)
             ? student_bytes(row, trained_teacher(row)->student, Pass::evaluation, precision)
             : sources_.teacher(row).bytes(cost_, precision_of(precision));
}

NetworkBytes RowCosts::evaluated_bytes(const config::Row& row) {
  const auto& precision = row.sample.text("precision");
  return row.training ? student_bytes(row, row.training->student, Pass::evaluation, precision)
                      : teacher_bytes(row, precision);
}

std::int64_t RowCosts::parameters(const config::Row& row) {
  const auto& training = row.training ? row.training : trained_teacher(row);
  if (training) return is_sized(row) ? cost_.parameters(training->student, made_for(row)) : 0;
  return extras_.estimate ? sources_.teacher(row).parameters(cost_) : 0;
}

}  // namespace dkdm::run

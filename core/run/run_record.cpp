#include "run/run_record.hpp"

namespace dkdm::run {

record::RunRecord record_of(const config::Experiment& experiment) {
  record::RunRecord record;
  record.experiment = experiment.name;
  record.title = experiment.title;
  record.table = experiment.table;
  record.published_section = experiment.published;
  record.scale = experiment.scale;
  record.file = experiment.file.string();
  return record;
}

record::RunRecord record_of(const config::Experiment& experiment, const config::Row& row,
                            std::int64_t seed) {
  record::RunRecord record = record_of(experiment);
  record.published_row = row.published;
  record.row = row.id;
  record.label = row.label;
  record.row_order = &row - experiment.rows.data();
  record.seed = seed;
  const auto& training = row.training || !row.teacher ? row.training : row.teacher->training;
  if (row.training) record.method = row.training->method.name;  // "" marks the teacher
  if (training) record.student = training->student.name;
  if (row.dataset) record.dataset = row.dataset->name;
  record.evaluator = row.evaluator.name;
  record.config = experiment.resolved;
  return record;
}

}  // namespace dkdm::run

// What a method's context points to, loaded: the teacher, whose work is counted, and the synthetic
// set.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "stages/stages.hpp"

namespace dkdm::stages {

// The teacher as a method sees it: what it costs is counted here, not taken from the method's word.
class CountedTeacher;

// Whether what a method holds (`held` bytes) stays in the host's memory while networks compute on
// `device`: [train] pool.
DKDM_API bool keeps_on_host(const Params& train, double held, at::Device device);

class MethodInputs {
 public:
  // Loads what `method` needs; `graphs` = the teacher's passes are recorded ([train] graphs).
  // Throws DataError for a damaged set.
  MethodInputs(StageContext& context, const TrainingJob& job, const TrainingInputs& inputs,
               const Method& method, bool graphs = false);

  // Its pointers are into this object.
  MethodContext context() const;

  // What the teacher did so far, and the floating-point operations of `evaluations`.
  train::TeacherWork work() const;
  double teacher_flops(std::int64_t evaluations) const;
  std::string teacher_graphs() const;  // see train::Outcome; "" = not asked for

 private:
  StageContext& context_;
  const TrainingJob& job_;
  std::optional<TrainedModel> teacher_;
  std::shared_ptr<CountedTeacher> counted_;  // the teacher's network
  std::shared_ptr<Dataset> synthetic_, dataset_;
};

}  // namespace dkdm::stages

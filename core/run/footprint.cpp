#include "run/footprint.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

namespace dkdm::run {

double values_of(const SampleShape& shape, std::int64_t images) {
  return static_cast<double>(images) * static_cast<double>(shape.values());
}

std::string size_text(double bytes) {
  constexpr std::array<const char*, 4> kUnits{"kB", "MB", "GB", "TB"};
  constexpr double kStep = 1000;
  std::size_t unit = 0;
  for (bytes /= kStep; bytes >= kStep && unit + 1 < kUnits.size(); ++unit) bytes /= kStep;
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.*f %s",
                bytes < 10    ? 2
                : bytes < 100 ? 1
                              : 0,
                bytes, kUnits[unit]);
  return text.data();
}

NetworkBytes bytes_of(const plugin::PluginChoice& student, const StudentContext& context,
                      CostModel& cost, Pass pass, device::Precision precision) {
  const NetworkSize size = cost.size(student, context);
  return {static_cast<double>(size.bytes), static_cast<double>(size.parameters) * sizeof(float),
          cost.activations(student, context, pass, precision)};
}

stages::Footprint training_footprint(const NetworkBytes& student, const NetworkBytes& teacher,
                                     double held, const SampleShape& shape, std::int64_t batch,
                                     std::int64_t snapshots, bool graphs) {
  constexpr double kWritten = 2;        // raw and averaged weights
  constexpr double kCheckpoints = 2;    // the last and the one before it
  constexpr double kInACheckpoint = 4;  // weights, average, two moments
  constexpr double kMoments = 2;
  stages::Footprint footprint;
  footprint.disk = student.weights * (kWritten + static_cast<double>(snapshots));
  footprint.working = kCheckpoints * (kInACheckpoint * student.weights + held);
  footprint.parts = {.weights = student.weights,
                     .gradients = student.parameters,
                     .moments = kMoments * student.parameters,
                     .ema = student.parameters,
                     .teacher = teacher.weights,
                     .batch_set = held,
                     .batch = kTrainingTensors * sizeof(float) * values_of(shape, batch)};
  const double of_student = student.activations.of(batch),
               of_teacher = teacher.activations.of(batch);
  // The teacher's forward is over before the student's begins; a recording keeps its memory.
  footprint.parts.activations = graphs ? of_student + of_teacher : std::max(of_student, of_teacher);
  return footprint;
}

stages::Footprint preparation_footprint(const NetworkBytes& teacher, double held,
                                        const SampleShape& shape, std::int64_t together) {
  stages::Footprint footprint;
  footprint.disk = held;
  footprint.working = held;  // the rows done so far, until they are put together
  footprint.parts = {.teacher = teacher.weights,
                     .batch_set = held,
                     .batch = kSamplingTensors * sizeof(float) * values_of(shape, together),
                     .activations = teacher.activations.of(together)};
  return footprint;
}

stages::Footprint sampling_footprint(const NetworkBytes& network, const SampleShape& shape,
                                     const stages::SamplingSpec& spec, bool kept) {
  const auto together = std::min(spec.batch, std::max<std::int64_t>(spec.count, 1));
  stages::Footprint footprint;
  if (kept) footprint.disk = footprint.working = values_of(shape, spec.count);
  footprint.parts = {.weights = network.weights,
                     .batch = kSamplingTensors * sizeof(float) * values_of(shape, together),
                     .activations = network.activations.of(together)};
  return footprint;
}

namespace {

// ", or train.precision = "bf16"" where that would be fewer bits.
std::string or_precision(const std::string& key, const std::string& now) {
  const bool is_full = now == "fp32" || now == "tf32";
  return is_full ? ", or " + key + " = \"bf16\"" : "";
}

std::string or_rho(const config::Training& training) {
  return training.method.params.values().contains("rho") ? " or method.rho" : "";
}

}  // namespace

std::string training_remedy(const config::Training& training) {
  return "lower train.batch" + or_rho(training) +
         or_precision("train.precision", training.train.text("precision"));
}

std::string preparation_remedy(const config::Training& training) {
  const bool apart = training.method.params.values().contains("teacher_batch");
  return (apart ? "lower method.teacher_batch" : "lower train.batch") + or_rho(training) +
         or_precision("train.teacher_precision", config::teacher_precision(training.train));
}

std::string drawing_remedy(const std::string& section, const Params& settings) {
  return "lower " + section + ".batch" +
         or_precision(section + ".precision", settings.text("precision"));
}

}  // namespace dkdm::run

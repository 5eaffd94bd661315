#include "run/footprint.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

#include "dkdm/memory.hpp"

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

stages::Footprint training_footprint(const NetworkBytes& student, const NetworkBytes& teacher,
                                     double held, const SampleShape& shape, std::int64_t batch,
                                     std::int64_t snapshots) {
  constexpr double kWritten = 2;        // raw and averaged weights
  constexpr double kCheckpoints = 2;    // the last and the one before it
  constexpr double kInACheckpoint = 4;  // weights, average, two moments
  const double images = static_cast<double>(batch);
  stages::Footprint footprint;
  footprint.disk = student.weights * (kWritten + static_cast<double>(snapshots));
  footprint.working = kCheckpoints * (kInACheckpoint * student.weights + held);
  // The teacher's forward is over before the student's begins.
  footprint.memory = static_cast<double>(kTrainingCopies) * student.weights + teacher.weights +
                     held + kTrainingTensors * sizeof(float) * values_of(shape, batch) +
                     images * std::max(student.training, teacher.forward);
  return footprint;
}

stages::Footprint preparation_footprint(const NetworkBytes& teacher, double held,
                                        const SampleShape& shape, std::int64_t together) {
  stages::Footprint footprint;
  footprint.disk = held;
  footprint.working = held;  // the rows done so far, until they are put together
  footprint.memory = teacher.weights + held +
                     kSamplingTensors * sizeof(float) * values_of(shape, together) +
                     static_cast<double>(together) * teacher.forward;
  return footprint;
}

stages::Footprint sampling_footprint(const NetworkBytes& network, const SampleShape& shape,
                                     const stages::SamplingSpec& spec, bool kept) {
  const auto together = std::min(spec.batch, std::max<std::int64_t>(spec.count, 1));
  stages::Footprint footprint;
  if (kept) footprint.disk = footprint.working = values_of(shape, spec.count);
  footprint.memory = network.weights +
                     kSamplingTensors * sizeof(float) * values_of(shape, together) +
                     static_cast<double>(together) * network.forward;
  return footprint;
}

}  // namespace dkdm::run

// What stages take of disk and of the device's memory, estimated from sizes. Everything in float32.
#pragma once

#include <cstdint>
#include <limits>
#include <string>

#include "dkdm/shape.hpp"
#include "stages/sampling.hpp"
#include "stages/stage.hpp"

namespace dkdm::run {

// Tensors of a batch's shape that are alive at once, at least: x_t, x_0, noise, output, means and
// variances of two distributions; in sampling the state, the output and what it is split into. What
// a network keeps of its layers is not among them.
inline constexpr double kTrainingTensors = 12, kSamplingTensors = 6;

DKDM_API double values_of(const SampleShape& shape, std::int64_t images);

// Of a cost that absent files alone would say.
inline constexpr double kUnknownCost = std::numeric_limits<double>::quiet_NaN();

// A network, in bytes: its weights; activations of one image, the most at once in a forward and
// those that a training step keeps for its backward (run/cost.hpp).
struct NetworkBytes {
  double weights = 0, forward = 0, training = 0;
};

// `held`: what the method keeps, its batch set. `snapshots`: weights that are kept on the way.
DKDM_API stages::Footprint training_footprint(const NetworkBytes& student,
                                              const NetworkBytes& teacher, double held,
                                              const SampleShape& shape, std::int64_t batch,
                                              std::int64_t snapshots);
// Of a batch set: the set itself, `together` rows at a time through the teacher.
DKDM_API stages::Footprint preparation_footprint(const NetworkBytes& teacher, double held,
                                                 const SampleShape& shape, std::int64_t together);
// `kept`: the images go to disk, else straight into an evaluator (whose memory is not counted).
DKDM_API stages::Footprint sampling_footprint(const NetworkBytes& network, const SampleShape& shape,
                                              const stages::SamplingSpec& spec, bool kept);

DKDM_API std::string size_text(double bytes);  // "5.03 GB"

// How all this is counted, for a person: one line.
inline constexpr const char* kFootprintRule =
    "Memory is an estimate in float32: weights (in training with gradients, two moments and the "
    "average), the teacher's weights, the batch set, 12 tensors of a batch (6 in sampling), and the "
    "batch times the activations that one image's forward was measured to hold; not the "
    "evaluator's, nor what a device's library takes. Disk: what the outputs keep; while training "
    "two checkpoints more, each with weights, average, moments and batch set.";

}  // namespace dkdm::run

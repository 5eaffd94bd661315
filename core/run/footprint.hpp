// What stages take of disk and of the device's memory, estimated from sizes. Weights, gradients,
// the optimiser and tensors of a batch's shape are float32, activations what the allocator counts.
#pragma once

#include <cstdint>
#include <limits>
#include <string>

#include "config/experiment.hpp"
#include "dkdm/shape.hpp"
#include "run/cost.hpp"
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

// A network, in bytes: its weights with its buffers, its parameters alone, what one kind of forward
// holds.
struct NetworkBytes {
  double weights = 0, parameters = 0;
  Activations activations{};
};
inline constexpr NetworkBytes kUnknownBytes{
    kUnknownCost, kUnknownCost, {kUnknownCost, kUnknownCost}};

// Of a student that is made for `context`.
DKDM_API NetworkBytes bytes_of(const plugin::PluginChoice& student, const StudentContext& context,
                               CostModel& cost, Pass pass, device::Precision precision);

// `student`: in training. `held`: what the method keeps, its batch set. `snapshots`: weights that
// are kept on the way. `graphs`: passes are recorded ([train] graphs).
DKDM_API stages::Footprint training_footprint(const NetworkBytes& student,
                                              const NetworkBytes& teacher, double held,
                                              const SampleShape& shape, std::int64_t batch,
                                              std::int64_t snapshots, bool graphs = false);
// Of a batch set: the set itself, `together` rows at a time through the teacher.
DKDM_API stages::Footprint preparation_footprint(const NetworkBytes& teacher, double held,
                                                 const SampleShape& shape, std::int64_t together);
// `kept`: the images go to disk, else straight into an evaluator (whose memory is not counted).
DKDM_API stages::Footprint sampling_footprint(const NetworkBytes& network, const SampleShape& shape,
                                              const stages::SamplingSpec& spec, bool kept);

// What takes less memory: "lower train.batch or method.rho, or train.precision = \"bf16\"". Of a
// training, of its batch set, and of drawing images by the settings of `section`.
DKDM_API std::string training_remedy(const config::Training& training);
DKDM_API std::string preparation_remedy(const config::Training& training);
DKDM_API std::string drawing_remedy(const std::string& section, const Params& settings);

DKDM_API std::string size_text(double bytes);  // "5.03 GB"

// How all this is counted, for a person: one line each.
inline constexpr const char* kMemoryRule =
    "Memory is an estimate: in float32 weights (in training with gradients, two moments and the "
    "average), the teacher's weights, the batch set and 12 tensors of a batch (6 in sampling); and "
    "the activations, which an allocator counted in forwards of two batches at the stage's "
    "precision, here or on LibTorch's meta device; not the evaluator's, nor what a device's library "
    "takes.";
inline constexpr const char* kDiskRule =
    "Disk: what the outputs keep; while training two checkpoints more, each with weights, average, "
    "moments and batch set.";

}  // namespace dkdm::run

// What determines a stage's output, as the texts that its content key is the hash of. Any change of
// a text makes everything under it again.
#pragma once

#include <string>

#include "plugin/registry.hpp"
#include "stages/sampling.hpp"

namespace dkdm::stages {

DKDM_API std::string describe(const plugin::PluginChoice& choice);
std::string describe(const DiffusionConfig& config);
// All that changes a sample; not the batch size, on which no sample depends.
DKDM_API std::string describe(const SamplingSpec& spec);
// [train] without what only says how often to look.
DKDM_API std::string describe_training(const Params& train);
// What the teacher of a training computes in; fp32, which there was always, leaves keys as they
// were.
DKDM_API void add_teacher_precision(const Params& train, record::KeyParts& parts);

}  // namespace dkdm::stages

// precision = "auto" of an experiment's rows, made a word.
#pragma once

#include <filesystem>
#include <optional>

#include "config/experiment.hpp"
#include "stages/stage.hpp"

namespace dkdm::run {

// Every "auto" of `experiment` becomes the precision that this machine and `device` are to use, in
// its rows and in its resolved text; for results depend on it. [train]: bf16 on CUDA; elsewhere
// bf16 where a training step of the student was measured to be faster in it, which an instruction
// set alone does not decide. [sample], [synthetic]: fp32, until a teacher was shown to have the
// same FID in bf16. What was chosen lies in `home`/precision and stays: a later call takes it from
// there, whatever the device. Throws ConfigError for a precision that `device` does not have. No
// device: nothing is computed here, nothing is chosen that was not before (fp32 stands for it), and
// nothing is refused.
DKDM_API void settle_precision(config::Experiment& experiment, std::optional<at::Device> device,
                               const stages::StageContext& context,
                               const std::filesystem::path& home);

}  // namespace dkdm::run

// Images into an evaluator, read ahead: files are opened and decoded while the network computes.
#pragma once

#include "dkdm/evaluator.hpp"

namespace dkdm::stages {

// Adds images first … last-1 of `images` to `evaluator`, in order.
DKDM_API void add_images(Evaluator& evaluator, const Dataset& images, std::int64_t first,
                         std::int64_t last, Host& host);

// Says so when `count` samples are fewer than the evaluator's features need.
DKDM_API void warn_of_few_samples(const Evaluator& evaluator, std::int64_t count, Host& host);

}  // namespace dkdm::stages

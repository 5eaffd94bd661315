// What a teacher may say about the weights that it reads, beside dkdm/teacher.hpp.
#pragma once

#include <string>

#include "dkdm/error.hpp"

namespace dkdm {

// A Teacher that also derives from this says which weights its load() gives, without loading them;
// values of them are recorded under it. Those of one that does not are recorded as "unlabelled".
class DKDM_API StatesWeights {
 public:
  virtual ~StatesWeights();
  // "ema" (a moving average), "raw" (those of training themselves), or "" where what it reads does
  // not say.
  virtual std::string weights() const = 0;
};

}  // namespace dkdm

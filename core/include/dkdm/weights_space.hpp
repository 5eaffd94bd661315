// What a teacher may say about the space that its network lives in, beside dkdm/teacher.hpp.
#pragma once

#include "dkdm/error.hpp"

namespace dkdm {

// A Teacher that also derives from this draws latents of an autoencoder, not images, though both
// may have one shape: an experiment on images refuses it.
class DKDM_API DrawsLatents {
 public:
  virtual ~DrawsLatents();
};

}  // namespace dkdm

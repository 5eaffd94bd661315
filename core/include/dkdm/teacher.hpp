// A trained network that students learn from. Threads: the host calls a teacher from one.
#pragma once

#include "dkdm/host.hpp"

namespace dkdm {

class DKDM_API Teacher {
 public:
  virtual ~Teacher();
  virtual TrainedModel load() = 0;
  // Changes whenever the weights or their meaning do; known without loading them. Input of keys.
  virtual std::string fingerprint() const = 0;
};

}  // namespace dkdm

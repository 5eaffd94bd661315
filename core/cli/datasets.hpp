// Which datasets are on this machine, for `data list` and `doctor`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/context.hpp"
#include "dkdm/shape.hpp"

namespace dkdm::cli {

struct DatasetState {
  std::string name, summary;
  bool present = false;           // opens with its default parameters
  bool needs_parameters = false;  // a file or folder must be named first
  ImageSpec spec;                 // the three below: where present
  std::int64_t images = 0;
  std::int64_t classes = 0;
  std::string problem;  // otherwise: one line, how to get it
};

// Opens every dataset plugin with its defaults.
std::vector<DatasetState> dataset_states(Context& context);

}  // namespace dkdm::cli

// Images as a person names them: a file, a folder, a run of the store or a dataset.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/context.hpp"
#include "dkdm/host.hpp"
#include "results/query/runs.hpp"
#include "run/progress.hpp"
#include "stages/reference.hpp"

namespace dkdm::cli {

struct RunSamples {
  std::int64_t run = 0;
  results::EvaluatedSamples samples;
};

struct ImageSet {
  std::string name;          // as it was typed
  stages::Reference source;  // images, statistics, or both
  std::optional<RunSamples> run;

  // Throws DataError where there are statistics alone.
  const Dataset& images() const;
};

// In this order: an npz file (images in arr_0, or statistics, or both), a folder of images of one
// size, a run's number, a dataset's name, with parameters as in "npz:file=a.npz,images=x". Throws
// ConfigError or DataError: one line that says what was expected. A run's images may have to be
// drawn again: `progress`, which the caller gave to the host, says how far that is.
ImageSet open_images(const std::string& word, Context& context, Host& host,
                     run::Progress& progress);

// "key=value" texts as the checked parameters of a plugin; `given` besides.
plugin::PluginChoice choose_plugin(const plugin::PluginInfo& info,
                                   const std::vector<std::string>& overrides,
                                   std::map<std::string, Value> given = {});

}  // namespace dkdm::cli

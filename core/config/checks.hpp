// A file of checks: what cells of experiments have to come to, and how closely
// (experiments/reproduce, docs/formats.md).
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "config/document.hpp"
#include "plugin/registry.hpp"

namespace dkdm::config {

// A weight file by the name that it is published under.
struct PublishedFile {
  std::string name, from;  // from: where a person gets it
};

using NamedValues = std::vector<std::pair<std::string, double>>;  // by metric

struct Check {
  std::string id, label;
  std::string where;                 // "file:line:column"
  std::filesystem::path experiment;  // its file
  std::string row;
  // The evaluator alone: images of the row's dataset under these parameters stand in for samples.
  std::optional<Section> images;
  std::optional<PublishedFile> teacher;  // what the row's teacher reads unless a path is set
  NamedValues values;                    // empty = the published values of the row
  std::map<std::string, double> tolerance;
  std::string source;  // who published the values, "" = the paper
  double flops = 0;    // floating-point operations that it takes, 0 = not stated
};

struct Checks {
  std::filesystem::path file;
  std::string title;
  std::vector<Check> checks;
};

// Reads `file`. An experiment is looked for beside it, then in `shipped`. Throws ConfigError with
// file:line:column for unknown keys (nearest known name), wrong types, impossible values, an
// experiment or a teacher's file that is not there, and ids that are not told apart from each other
// or from the sections of an experiment.
DKDM_API Checks load_checks(const std::filesystem::path& file, const std::filesystem::path& shipped,
                            const plugin::Registry& registry);

struct ExpectedValue {
  std::string metric;
  double value = 0, tolerance = 0;
};

// What `check` expects: its own values, or else those of the paper, `published`. Throws
// ConfigError where there are neither, and for a value without a tolerance.
DKDM_API std::vector<ExpectedValue> expected_values(const Check& check,
                                                    const NamedValues& published);

// `dataset` with the parameters of check.images. Throws ConfigError.
DKDM_API plugin::PluginChoice other_images(const Check& check, const plugin::PluginChoice& dataset,
                                           const plugin::Registry& registry);

// Whether a person means the check `id` by `name`: all of it, or the beginning up to a '-'.
DKDM_API bool means(const std::string& name, const std::string& id);

// Of "KEY=VALUE" texts those that `check` is to have: one for all checks as it stands, one that
// begins with a name of some of `all` ("cifar10.teacher.path=…") for those alone, without it.
DKDM_API std::vector<std::string> overrides_for(const Check& check, const std::vector<Check>& all,
                                                const std::vector<std::string>& overrides);

}  // namespace dkdm::config

// An experiment file, read, overridden, checked against the plugins' declared parameters, complete.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "device/choice.hpp"
#include "dkdm/diffusion_types.hpp"
#include "dkdm/params.hpp"
#include "plugin/registry.hpp"

namespace dkdm::config {

using plugin::PluginChoice;

// Sections that are not plugins' are declared like plugins' parameters (tables.cpp), so their
// help, ranges and errors come from one table. Params hold: see the tables there.
struct Training {
  PluginChoice student;
  PluginChoice method;
  Params train;  // [train]: batch, steps, lr, …
};

// The metric of train.select = "best:METRIC": among the evaluated steps the one where it is best
// counts. "" of "last".
DKDM_API std::string selecting_metric(const Params& train);

// What the teacher of a training computes in: [train] teacher_precision, else its precision.
DKDM_API std::string teacher_precision(const Params& train);

// Where students learn from: a network trained here, or what its plugin has from elsewhere.
struct Teacher {
  std::string name;  // "cnn" of [teacher.cnn]; "" of [teacher]
  PluginChoice plugin;
  std::optional<Training> training;  // its student, method and train
};

// A line of the table, complete: the file's sections with the row's own laid over them.
struct Row {
  std::string id, label;
  std::string published;                // row of published.toml; id when not stated
  std::string where;                    // "file:line:column"
  std::optional<PluginChoice> dataset;  // none: the reference is statistics, and no image is needed
  PluginChoice evaluator;
  std::filesystem::path statistics;  // [reference] statistics: in place of the dataset's images
  DiffusionConfig diffusion;         // of training; sampling respaces it
  std::optional<Teacher> teacher;    // none: the file has none, or several and the row names none
  std::optional<Training> training;  // none: the row is the teacher itself
  Params sample, synthetic, evaluate;
  bool isolate = false;  // in a process of its own; not part of `resolved`
};

struct Experiment {
  std::filesystem::path file;
  std::string name, title, scale;  // scale "desk" or "paper"
  std::string table;               // shape of report: "table2"
  std::string published;           // section of published.toml ("table2.cifar10"), or ""
  std::vector<std::int64_t> seeds;
  std::int64_t samples = 0;          // of the published values; scale "paper" refuses fewer
  std::vector<std::string> plugins;  // absolute paths of plugin files and folders
  double expected_minutes = 0;       // author's figure on two cores, 0 = not stated
  device::Asked device;              // not part of `resolved`
  std::vector<Row> rows;
  std::string resolved;   // canonical TOML text of all of the above, stored with runs
  std::string annotated;  // the same, with the place that each value comes from as a comment
};

// Section tables; those of [diffusion] and of samplers: config/settings.hpp.
DKDM_API const ParamTable& experiment_table();
DKDM_API const ParamTable& train_table();
DKDM_API const ParamTable& sample_table();
DKDM_API const ParamTable& evaluate_table();
DKDM_API const ParamTable& reference_table();
DKDM_API const ParamTable& synthetic_table();

// What an experiment is read from.
struct ExperimentSource {
  std::filesystem::path file;
  // "dotted.key=TOML value" texts ("train.steps=100", "row.dynamic.train.lr=1e-3"; a bare word that
  // is not TOML is taken as text), laid over the file and its bases.
  std::vector<std::string> overrides;
  std::filesystem::path
      shipped;  // where bases are looked for besides the file's folder, "" = nowhere
};

// Throws ConfigError with file:line:column (or "--set KEY") for syntax errors, unknown keys
// (nearest known name), wrong types, impossible values, unknown plugins, duplicate row ids, and
// what config/compose.hpp says of bases and sweeps; in a base, with the files that lead to it.
// DataError when there is no such file.
DKDM_API Experiment load_experiment(const ExperimentSource& source,
                                    const plugin::Registry& registry);

// The plugin files and folders that an experiment names (`plugins` of [experiment]), as absolute
// paths: written in a file they are relative to its folder, in an override to the working folder.
// To be loaded before load_experiment, which asks for what they hold. Throws as it does.
struct NamedPlugin {
  std::filesystem::path path;
  std::string where;  // "file:line:column", or "--set KEY"
};
DKDM_API std::vector<NamedPlugin> named_plugins(const ExperimentSource& source);

// "0", "0-2", "1,4,7" -> seeds. Throws ConfigError.
DKDM_API std::vector<std::int64_t> parse_seeds(const std::string& text);

}  // namespace dkdm::config

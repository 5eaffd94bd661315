// An experiment that takes a moment: networks, images and metrics are fixtures of a few numbers.
#pragma once

#include <filesystem>
#include <string>

#include "e2e/program.hpp"

namespace e2e {

inline const std::filesystem::path kFixtures =
    std::filesystem::path(DKDM_BUILD_DIR) / "tests/fixtures/plugins";

// Fixture plugins for every program that is started meanwhile.
struct WithFixtures {
  With loaded{"DKDM_PLUGIN_PATH", kFixtures};
};

// `experiment` are the lines of its first section, `rows` its rows.
inline std::string fixture_experiment(const std::string& experiment, const std::string& rows) {
  return "[experiment]\n" + experiment + R"toml(
[dataset]
plugin = "fixture-images"
[teacher]
plugin = "checkpoint"
[teacher.student]
plugin = "fixture-student"
[teacher.method]
plugin = "data-based"
[student]
plugin = "fixture-student"
[train]
batch = 4
steps = 3
[sample]
count = 8
respacing = "2"
[evaluator]
plugin = "fixture-metric"
)toml" + rows;
}

}  // namespace e2e

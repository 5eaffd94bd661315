// What the database says about the runs of an experiment. Internal to the report.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "results/database.hpp"

namespace dkdm::results {

// What two values must share to stand in one column: protocol, sample count, weights, reference.
using Conditions = std::tuple<std::string, std::int64_t, std::string, std::string>;

struct Measured {
  std::string name;
  double value = 0;
  bool higher_is_better = false;
};

// One run with the newest value of each metric (finished runs only).
struct Run {
  std::int64_t id = 0, seed = 0, parameters = 0;
  std::string row, label, status, stage, message, method;
  std::string published_section, published_row, train_key;
  std::string settings;  // configuration without its seeds: equal for repeats at other seeds
  std::optional<double> train_seconds;
  std::map<Conditions, std::vector<Measured>> metrics;
};

// The runs of an experiment, oldest first.
std::vector<Run> load_runs(SQLite::Database& db, const std::string& experiment);

// Training loss by step, averaged down to what a page's width can show.
std::vector<std::pair<double, double>> load_curve(SQLite::Database& db, const std::string& key);

// The paper's values of a row, by metric.
std::map<std::string, double> load_published(SQLite::Database& db, const std::string& section,
                                             const std::string& row);

}  // namespace dkdm::results

// Which runs of an experiment are meant, and which of them are made here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/experiment.hpp"

namespace dkdm::run {

struct Selection {
  std::vector<std::string> rows;       // empty = all
  std::vector<std::int64_t> seeds;     // empty = the experiment's
  std::int64_t shard = 1, shards = 1;  // runs whose number modulo `shards` is shard - 1
};

// A run: a row at a seed.
struct SelectedCell {
  std::size_t row = 0;  // of the experiment
  std::int64_t seed = 0;
  bool here = true;  // in this shard
};

bool is_selected(const config::Row& row, const Selection& selection);
const std::vector<std::int64_t>& selected_seeds(const config::Experiment& experiment,
                                                const Selection& selection);

// Seed by seed, each in the experiment's order of rows. Throws ConfigError for the id of no row.
DKDM_API std::vector<SelectedCell> selected_cells(const config::Experiment& experiment,
                                                  const Selection& selection);

}  // namespace dkdm::run

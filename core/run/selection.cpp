#include "run/selection.hpp"

#include <algorithm>
#include <boost/algorithm/string/join.hpp>

#include "dkdm/nearest.hpp"

namespace dkdm::run {
namespace {

void check_rows(const config::Experiment& experiment, const Selection& selection) {
  std::vector<std::string> ids;
  for (const auto& row : experiment.rows) ids.push_back(row.id);
  for (const auto& id : selection.rows) {
    if (std::find(ids.begin(), ids.end(), id) != ids.end()) continue;
    const auto near = nearest_name(id, ids);
    throw ConfigError("--rows", "no row \"" + id + "\"" +
                                    (near.empty() ? "" : " (did you mean \"" + near + "\"?)") +
                                    "; " + experiment.file.string() + " has " +
                                    boost::algorithm::join(ids, ", "));
  }
}

}  // namespace

bool is_selected(const config::Row& row, const Selection& selection) {
  const auto& rows = selection.rows;
  return rows.empty() || std::find(rows.begin(), rows.end(), row.id) != rows.end();
}

const std::vector<std::int64_t>& selected_seeds(const config::Experiment& experiment,
                                                const Selection& selection) {
  return selection.seeds.empty() ? experiment.seeds : selection.seeds;
}

std::vector<SelectedCell> selected_cells(const config::Experiment& experiment,
                                         const Selection& selection) {
  check_rows(experiment, selection);
  std::vector<SelectedCell> cells;
  for (const auto seed : selected_seeds(experiment, selection))
    for (std::size_t row = 0; row < experiment.rows.size(); ++row)
      if (is_selected(experiment.rows[row], selection))
        cells.push_back(
            {row, seed,
             static_cast<std::int64_t>(cells.size()) % selection.shards == selection.shard - 1});
  return cells;
}

}  // namespace dkdm::run

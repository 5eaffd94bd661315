// The report's formats that programs read: all digits, nothing shortened.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "results/report/report_data.hpp"

namespace dkdm::results {

std::string render_csv(const std::vector<ReportTable>& tables) {
  std::vector<std::string> metrics, published;
  const auto merge = [](std::vector<std::string>& all, const std::vector<std::string>& more) {
    for (const auto& name : more) {
      if (std::find(all.begin(), all.end(), name) == all.end()) all.push_back(name);
    }
  };
  for (const auto& table : tables) {
    merge(metrics, table.metrics);
    merge(published, published_metrics(table));
  }
  Table csv;
  for (const char* title : {"experiment", "row", "label", "status", "protocol", "reference",
                            "sample_count", "weights"}) {
    csv.columns.push_back({title});
  }
  for (const auto& name : metrics) {
    csv.columns.push_back({name});
    csv.columns.push_back({name + "_std"});
  }
  for (const auto& name : published) csv.columns.push_back({"published_" + name});
  for (const char* title :
       {"parameters", "train_seconds", "seeds", "reason", "variant", "setting", "selection"}) {
    csv.columns.push_back({title});
  }
  for (const auto& table : tables) {
    for (const auto& line : table.lines) {
      auto& row = csv.rows.emplace_back(
          std::vector<Cell>{table.experiment, line.row, line.label, line.status, table.protocol,
                            table.reference, std::to_string(table.sample_count), table.weights});
      for (const auto& name : metrics) {
        const auto found = line.metrics.find(name);
        const bool has = found != line.metrics.end();
        row.push_back(has ? Cell(shortest(found->second.mean)) : Cell());
        row.push_back(has && found->second.std ? Cell(shortest(*found->second.std)) : Cell());
      }
      for (const auto& name : published) {
        const auto found = line.published.find(name);
        row.push_back(found != line.published.end() ? Cell(shortest(found->second)) : Cell());
      }
      row.push_back(std::to_string(line.parameters));
      row.push_back(line.train_seconds ? Cell(shortest(*line.train_seconds)) : Cell());
      row.push_back(std::to_string(line.runs.size()));
      row.push_back(line.reason);
      row.push_back(line.variant);
      row.push_back(line.setting);
      row.push_back(line.selections.empty() ? "last" : line.selections.front().rule);
    }
  }
  return csv.render(Format::csv);
}

std::string render_json(const std::vector<ReportTable>& tables) {
  using Json = nlohmann::ordered_json;
  auto out = Json::array();
  for (const auto& table : tables) {
    Json object = {{"experiment", table.experiment},
                   {"title", table.title},
                   {"scale", table.scale},
                   {"protocol", table.protocol},
                   {"reference", table.reference},
                   {"weights", table.weights},
                   {"sample_count", table.sample_count},
                   {"rows", Json::array()},
                   {"notes", table.notes}};
    for (const auto& line : table.lines) {
      Json row = {{"row", line.row},
                  {"label", line.label},
                  {"teacher", line.teacher},
                  {"status", line.status},
                  {"reason", line.reason},
                  {"runs", line.runs},
                  {"parameters", line.parameters},
                  {"peak_bytes", line.peak_bytes},
                  {"variant", line.variant},
                  {"setting", line.setting},
                  {"pinned", line.pinned}};
      const auto number = [](const std::optional<double>& value) {
        return value ? Json(*value) : Json();
      };
      row["device_peak_bytes"] = number(line.device_peak_bytes);
      row["train_seconds"] = line.train_seconds ? Json(*line.train_seconds) : Json();
      row["metrics"] = Json::object();
      for (const auto& [name, value] : line.metrics) {
        row["metrics"][name] = {{"mean", value.mean},  // not a number -> null
                                {"std", value.std ? Json(*value.std) : Json()},
                                {"seeds", value.count},
                                {"higher_is_better", table.higher_is_better.at(name)},
                                {"best", value.best}};
      }
      row["selection"] = Json();
      if (!line.selections.empty()) {
        Json steps = Json::object(), last = Json::object();
        for (const auto& selection : line.selections)
          steps[std::to_string(selection.seed)] = selection.step;
        for (const auto& [name, value] : line.last) last[name] = value.mean;
        row["selection"] = {{"rule", line.selections.front().rule},
                            {"candidates", line.selections.front().candidates},
                            {"step_by_seed", steps},
                            {"last", last}};
      }
      if (line.cost) {
        row["cost"] = {{"peak_bytes", line.cost->peak_bytes},
                       {"device_peak_bytes", number(line.cost->device_peak_bytes)},
                       {"held_bytes", number(line.cost->held_bytes)},
                       {"steps_per_second", number(line.cost->steps_per_second)},
                       {"examples_per_second", number(line.cost->examples_per_second)},
                       {"teacher_share", number(line.cost->teacher_share)}};
      }
      row["published"] = Json::object();
      for (const auto& [name, value] : line.published) row["published"][name] = value;
      object["rows"].push_back(std::move(row));
    }
    out.push_back(std::move(object));
  }
  return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace dkdm::results

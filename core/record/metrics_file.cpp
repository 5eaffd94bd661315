#include "record/metrics_file.hpp"

#include <limits>

#include "dkdm/documents.hpp"
#include "dkdm/error.hpp"
#include "dkdm/files.hpp"

namespace dkdm::record {

using Json = nlohmann::ordered_json;

Json to_json(const std::vector<MetricRecord>& metrics) {
  Json json = Json::array();
  for (const auto& metric : metrics)
    json.push_back({{"name", metric.name},
                    {"value", metric.value},
                    {"higher_is_better", metric.higher_is_better},
                    {"unit", metric.unit},
                    {"protocol", metric.protocol},
                    {"reference", metric.reference},
                    {"sample_count", metric.sample_count},
                    {"step", metric.step},
                    {"weights", metric.weights}});
  return json;
}

std::vector<MetricRecord> metrics_of(const Json& json) {
  std::vector<MetricRecord> metrics;
  for (const auto& entry : json) {
    auto& metric = metrics.emplace_back();
    io::read_field(entry, "name", metric.name);
    // JSON has no word for what is not a number.
    metric.value = entry.at("value").is_null() ? std::numeric_limits<double>::quiet_NaN()
                                               : io::as<double>(entry.at("value"));
    io::read_field(entry, "higher_is_better", metric.higher_is_better);
    io::read_field(entry, "unit", metric.unit);
    io::read_field(entry, "protocol", metric.protocol);
    io::read_field(entry, "reference", metric.reference);
    io::read_field(entry, "sample_count", metric.sample_count);
    io::read_field(entry, "step", metric.step);
    io::read_field(entry, "weights", metric.weights);
  }
  return metrics;
}

void write_metrics(const std::filesystem::path& folder, const std::vector<MetricRecord>& metrics) {
  io::write_text(folder / kMetricsFile, to_json(metrics).dump(2) + "\n");
}

std::vector<MetricRecord> read_metrics(const std::filesystem::path& folder) {
  const auto file = folder / kMetricsFile;
  try {
    return metrics_of(Json::parse(io::read_document(file)));
  } catch (const Json::exception&) {
    throw DataError(file.string(), "is not a list of metrics");
  }
}

void write_selection(const std::filesystem::path& folder, const SelectionRecord& selection) {
  const Json json = {{"rule", selection.rule},
                     {"step", selection.step},
                     {"last_step", selection.last_step},
                     {"candidates", selection.candidates},
                     {"by", to_json({selection.by})}};
  io::write_text(folder / kSelectionFile, json.dump(2) + "\n");
}

SelectionRecord read_selection(const std::filesystem::path& folder) {
  const auto file = folder / kSelectionFile;
  try {
    const Json json = Json::parse(io::read_document(file));
    SelectionRecord selection;
    io::read_field(json, "rule", selection.rule);
    io::read_field(json, "step", selection.step);
    io::read_field(json, "last_step", selection.last_step);
    io::read_field(json, "candidates", selection.candidates);
    selection.by = metrics_of(json.at("by")).at(0);
    return selection;
  } catch (const Json::exception&) {
  } catch (const std::out_of_range&) {
  }
  throw DataError(file.string(), "does not say which step was chosen");
}

}  // namespace dkdm::record

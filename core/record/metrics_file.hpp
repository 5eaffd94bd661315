// metrics.json of an evaluation: its metrics, in full; selection.json beside it, where a step was
// chosen. Does not see LibTorch: the core writes it,
// results/ reads it.
#pragma once

#include <filesystem>
#include <vector>

#include "dkdm/error.hpp"
#include "dkdm/json.hpp"
#include "record/records.hpp"

namespace dkdm::record {

inline constexpr const char* kMetricsFile = "metrics.json";
inline constexpr const char* kSelectionFile = "selection.json";

nlohmann::ordered_json to_json(const std::vector<MetricRecord>& metrics);
// Throws what dkdm/json.hpp throws.
std::vector<MetricRecord> metrics_of(const nlohmann::ordered_json& json);

// Throws StoreError.
DKDM_API void write_metrics(const std::filesystem::path& folder,
                            const std::vector<MetricRecord>& metrics);
// Of an evaluation's folder. Throws DataError naming a file that cannot be read.
DKDM_API std::vector<MetricRecord> read_metrics(const std::filesystem::path& folder);

// As those two.
void write_selection(const std::filesystem::path& folder, const SelectionRecord& selection);
DKDM_API SelectionRecord read_selection(const std::filesystem::path& folder);

}  // namespace dkdm::record

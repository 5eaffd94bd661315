// Definition: statistics_file.hpp.
#include "dkdm/statistics_file.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <sstream>

#include "dkdm/io.hpp"
#include "dkdm/variances.hpp"

namespace dkdm::io {
namespace {

// Of the largest entry: what rounding to f32 can leave between an entry and its mirror image.
constexpr double kAsymmetry = 1e-6;

at::Tensor finite_array(const std::filesystem::path& file, const std::string& key,
                        at::IntArrayRef shape) {
  const auto array = read_npz(file, key);
  const std::string where = file.string() + ": array '" + key + "'";
  if (array.sizes() != shape || !array.is_floating_point()) {
    std::ostringstream text;
    text << array.scalar_type() << ' ' << array.sizes() << " where f4 or f8 " << shape
         << " is expected";
    throw DataError(where, text.str());
  }
  if (!array.isfinite().all().item<bool>()) throw DataError(where, "a value is not finite");
  return array.to(at::kDouble);
}

FeatureStatistics read_pair(const std::filesystem::path& file, const std::string& suffix,
                            std::int64_t dimension) {
  const std::string key = "sigma" + suffix, where = file.string() + ": array '" + key + "'";
  FeatureStatistics statistics{finite_array(file, "mu" + suffix, {dimension}),
                               finite_array(file, key, {dimension, dimension})};
  const auto& covariance = statistics.covariance;
  const auto variances = covariance.diagonal();
  if (const auto fault = variance_fault(variances); !fault.empty()) throw DataError(where, fault);
  const double largest = covariance.abs().max().item<double>();
  if ((covariance - covariance.t()).abs().max().item<double>() > kAsymmetry * largest)
    throw DataError(where, "is not symmetric, so no covariance");
  variances.clamp_min_(0);
  return statistics;
}

bool has(const std::vector<std::string>& keys, const char* key) {
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

}  // namespace

bool has_statistics(const std::filesystem::path& file) {
  const auto keys = npz_keys(file);
  return has(keys, "mu") || has(keys, "sigma");
}

StatisticsFile read_statistics(const std::filesystem::path& file, std::int64_t pool_features,
                               std::int64_t spatial_features) {
  const auto keys = npz_keys(file);
  StatisticsFile statistics{read_pair(file, "", pool_features), std::nullopt};
  if (has(keys, "mu_s") || has(keys, "sigma_s"))
    statistics.spatial = read_pair(file, "_s", spatial_features);
  return statistics;
}

void write_statistics(const std::filesystem::path& file, const StatisticsFile& statistics,
                      const at::Tensor& images) {
  TensorMap arrays{{"mu", statistics.pool.mean}, {"sigma", statistics.pool.covariance}};
  if (statistics.spatial) {
    arrays["mu_s"] = statistics.spatial->mean;
    arrays["sigma_s"] = statistics.spatial->covariance;
  }
  if (images.defined()) arrays["arr_0"] = images;
  write_npz(file, arrays);
}

}  // namespace dkdm::io

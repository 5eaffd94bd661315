// Reference statistics as ADM's evaluator and pytorch-fid keep them: npz files of the mean and
// covariance of Inception features.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <optional>

#include "dkdm/error.hpp"

namespace dkdm::io {

inline constexpr std::int64_t kPoolFeatures = 2048;     // pool_3
inline constexpr std::int64_t kSpatialFeatures = 2023;  // mixed_6/conv, 17 x 17 x 7

// f64: mean [D], covariance [D,D], divisor n - 1.
struct FeatureStatistics {
  at::Tensor mean, covariance;
};

struct StatisticsFile {
  FeatureStatistics pool;                    // "mu", "sigma"
  std::optional<FeatureStatistics> spatial;  // "mu_s", "sigma_s": ADM's files, not pytorch-fid's
};

// Whether the npz has statistics ("mu" or "sigma"), with or without images. DataError as read_npz.
DKDM_API bool has_statistics(const std::filesystem::path& file);

// f4 or f8 arrays. DataError naming file and key for one that is missing, of another shape than the
// dimensions say, not finite, not symmetric, or negative on the diagonal.
DKDM_API StatisticsFile read_statistics(const std::filesystem::path& file,
                                        std::int64_t pool_features = kPoolFeatures,
                                        std::int64_t spatial_features = kSpatialFeatures);

// f8 arrays: with `spatial` ADM's form, without it pytorch-fid's. images uint8 [N,H,W,C] where
// defined become "arr_0": ADM's evaluator wants the reference's images too, for precision and
// recall.
DKDM_API void write_statistics(const std::filesystem::path& file, const StatisticsFile& statistics,
                               const at::Tensor& images = {});

}  // namespace dkdm::io

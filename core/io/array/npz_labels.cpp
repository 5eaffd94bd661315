#include "dkdm/npz_labels.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "dkdm/io.hpp"

namespace dkdm::io {
namespace {

constexpr std::int64_t kMostClasses = 1 << 16;

}  // namespace

Labels read_npz_labels(const std::filesystem::path& file, const std::string& key,
                       std::int64_t count) {
  std::string found = key;
  if (key.empty()) {
    const auto keys = npz_keys(file);
    for (const char* usual : {"arr_1", "labels"})
      if (found.empty() && std::find(keys.begin(), keys.end(), usual) != keys.end()) found = usual;
    if (found.empty()) return {};
  }
  at::Tensor values = read_npz(file, found);
  const std::string where = file.string() + ": '" + found + "'";
  if (values.dim() == 2 && values.size(1) == 1) values = values.flatten();
  if (!at::isIntegralType(values.scalar_type(), false) || values.dim() != 1 ||
      values.size(0) != count)
    throw DataError(where, "expected " + std::to_string(count) + " integer labels");
  if (count == 0) return {};
  values = values.to(at::kLong);
  const auto low = values.min().item<std::int64_t>(), high = values.max().item<std::int64_t>();
  if (low < 0 || high >= kMostClasses)
    throw DataError(where, "label " + std::to_string(low < 0 ? low : high) +
                               " is no class number, 0 to " + std::to_string(kMostClasses - 1));
  return {values, high + 1};
}

}  // namespace dkdm::io

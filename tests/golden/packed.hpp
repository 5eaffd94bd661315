// Golden files of the authors' code: tensors in base64 as reference.py's packed() writes them, and
// the relative error that conformance tests check.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace dkdm::golden {

inline nlohmann::json read_json(const std::string& name) {
  return nlohmann::json::parse(std::ifstream(std::string(DKDM_SOURCE_DIR "/tests/golden/") + name));
}

inline std::string from_base64(std::string_view text) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    if (c == '=') break;
    const auto digit = kDigits.find(c);
    if (digit == std::string_view::npos) throw std::invalid_argument("not base64");
    bits = bits << 6 | static_cast<std::uint32_t>(digit);
    if ((count += 6) >= 8) bytes += static_cast<char>(bits >> (count -= 8));
  }
  return bytes;
}

// f32 tensor of packed(): little-endian on both sides.
inline at::Tensor unpacked(const nlohmann::json& json) {
  const auto shape = json.at("shape").get<std::vector<std::int64_t>>();
  const std::string bytes = from_base64(json.at("f32").get_ref<const std::string&>());
  at::Tensor tensor = at::empty(shape, at::kFloat);
  if (bytes.size() != tensor.nbytes()) throw std::invalid_argument("packed tensor: wrong length");
  std::memcpy(tensor.mutable_data_ptr<float>(), bytes.data(), bytes.size());
  return tensor;
}

// Largest over rows n of ‖value[n] - expected[n]‖ / ‖expected[n]‖ in float64; 0 where both are 0.
inline double row_error(const at::Tensor& value, const at::Tensor& expected) {
  if (value.sizes() != expected.sizes()) throw std::invalid_argument("tensors of other shapes");
  const at::Tensor wanted = expected.to(at::kDouble).flatten(1);
  const at::Tensor off = (value.detach().to(at::kDouble).flatten(1) - wanted).norm(2, {1});
  return (off / wanted.norm(2, {1}).clamp_min(1e-300)).max().item<double>();
}

}  // namespace dkdm::golden

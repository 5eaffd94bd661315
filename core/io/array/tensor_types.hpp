// ItemType and LibTorch's scalar types.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <string>

#include "dkdm/error.hpp"
#include "dkdm/store_error.hpp"
#include "io/array/item_type.hpp"

namespace dkdm::io {

// In the order of ItemType.
inline constexpr std::array<at::ScalarType, kItems.size()> kScalarTypes{at::kFloat,
                                                                        at::kHalf,
                                                                        at::kBFloat16,
                                                                        at::kDouble,
                                                                        at::kLong,
                                                                        at::kInt,
                                                                        at::kShort,
                                                                        at::kChar,
                                                                        at::kByte,
                                                                        at::kBool,
                                                                        at::kComplexFloat,
                                                                        at::kComplexDouble,
                                                                        at::kComplexHalf,
                                                                        at::kUInt16,
                                                                        at::kUInt32,
                                                                        at::kUInt64,
                                                                        at::kFloat8_e4m3fn,
                                                                        at::kFloat8_e5m2,
                                                                        at::kFloat8_e4m3fnuz,
                                                                        at::kFloat8_e5m2fnuz,
                                                                        at::kFloat8_e8m0fnu,
                                                                        at::kFloat4_e2m1fn_x2};

constexpr at::ScalarType scalar_type(ItemType type) {
  return kScalarTypes[static_cast<std::size_t>(type)];
}

// Throws StoreError(`where`) for an undefined tensor and for a type that no file holds.
inline const ItemInfo& item_of(const at::Tensor& tensor, const std::string& where) {
  if (!tensor.defined()) throw StoreError(where + ": the tensor is undefined");
  for (std::size_t i = 0; i < kItems.size(); ++i) {
    if (kScalarTypes[i] == tensor.scalar_type()) return kItems[i];
  }
  throw StoreError(where + ": tensor files hold no " + c10::toString(tensor.scalar_type()));
}

}  // namespace dkdm::io

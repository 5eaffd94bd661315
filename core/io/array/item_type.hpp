// The element types of tensor files and their names in PyTorch and safetensors.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace dkdm::io {

enum class ItemType : std::uint8_t {
  f32,
  f16,
  bf16,
  f64,
  i64,
  i32,
  i16,
  i8,
  u8,
  boolean,
  c64,
  c128,
  c32,
  u16,
  u32,
  u64,
  f8_e4m3,
  f8_e5m2,
  f8_e4m3_nuz,
  f8_e5m2_nuz,
  f8_e8m0,
  f4_e2m1_x2
};

struct ItemInfo {
  ItemType type;
  std::uint8_t bytes;
  std::string_view torch;        // torch.<name>
  std::string_view storage;      // torch.<name>Storage; "" = PyTorch stores it as plain bytes
  std::string_view safetensors;  // "" = that format has no name for it
};

inline constexpr std::array<ItemInfo, 22> kItems{{
    {ItemType::f32, 4, "float32", "Float", "F32"},
    {ItemType::f16, 2, "float16", "Half", "F16"},
    {ItemType::bf16, 2, "bfloat16", "BFloat16", "BF16"},
    {ItemType::f64, 8, "float64", "Double", "F64"},
    {ItemType::i64, 8, "int64", "Long", "I64"},
    {ItemType::i32, 4, "int32", "Int", "I32"},
    {ItemType::i16, 2, "int16", "Short", "I16"},
    {ItemType::i8, 1, "int8", "Char", "I8"},
    {ItemType::u8, 1, "uint8", "Byte", "U8"},
    {ItemType::boolean, 1, "bool", "Bool", "BOOL"},
    {ItemType::c64, 8, "complex64", "ComplexFloat", "C64"},
    {ItemType::c128, 16, "complex128", "ComplexDouble", ""},
    {ItemType::c32, 4, "complex32", "", ""},
    {ItemType::u16, 2, "uint16", "", "U16"},
    {ItemType::u32, 4, "uint32", "", "U32"},
    {ItemType::u64, 8, "uint64", "", "U64"},
    {ItemType::f8_e4m3, 1, "float8_e4m3fn", "", "F8_E4M3"},
    {ItemType::f8_e5m2, 1, "float8_e5m2", "", "F8_E5M2"},
    {ItemType::f8_e4m3_nuz, 1, "float8_e4m3fnuz", "", "F8_E4M3FNUZ"},
    {ItemType::f8_e5m2_nuz, 1, "float8_e5m2fnuz", "", "F8_E5M2FNUZ"},
    {ItemType::f8_e8m0, 1, "float8_e8m0fnu", "", "F8_E8M0"},
    {ItemType::f4_e2m1_x2, 1, "float4_e2m1fn_x2", "", "F4"},  // two numbers a byte
}};

constexpr const ItemInfo& info(ItemType type) { return kItems[static_cast<std::size_t>(type)]; }

// Numbers of one element, which a safetensors header counts in the last side of the shape.
constexpr std::int64_t packed_numbers(ItemType type) {
  return type == ItemType::f4_e2m1_x2 ? 2 : 1;
}

constexpr bool items_stand_at_their_index() {
  for (std::size_t i = 0; i < kItems.size(); ++i) {
    if (static_cast<std::size_t>(kItems[i].type) != i) return false;
  }
  return true;
}
static_assert(items_stand_at_their_index());

// Bytes that are swapped as one where a file's byte order is another: a complex number is two.
constexpr std::uint8_t word_bytes(ItemType type) {
  const bool complex = type == ItemType::c64 || type == ItemType::c128 || type == ItemType::c32;
  return static_cast<std::uint8_t>(complex ? info(type).bytes / 2 : info(type).bytes);
}

}  // namespace dkdm::io

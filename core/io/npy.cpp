// Headers of numpy arrays.
#include "io/npy.hpp"

#include <ATen/ATen.h>

#include <array>
#include <regex>

namespace dkdm::io {
namespace {

constexpr std::size_t kMagicBytes = 8, kAlign = 64;
constexpr std::size_t kDictionaryLimit = 2000;  // characters; 64 dimensions fit
constexpr std::size_t kHeaderLimit = 65536;     // with its padding, before memory is asked for
constexpr std::size_t kGrowthDigits = 21;       // numpy leaves room for the first dimension to grow

struct Name {
  const char* numpy;
  at::ScalarType type;
};
constexpr std::array<Name, 6> kNames{{{"|u1", at::kByte},
                                      {"<i4", at::kInt},
                                      {"<i8", at::kLong},
                                      {"<f2", at::kHalf},
                                      {"<f4", at::kFloat},
                                      {"<f8", at::kDouble}}};

std::vector<std::int64_t> parse_shape(const std::string& text, const std::string& where) {
  static const std::regex number("[0-9]+");
  std::vector<std::int64_t> shape;
  for (auto it = std::sregex_iterator(text.begin(), text.end(), number);
       it != std::sregex_iterator(); ++it) {
    if (it->length() > 18) throw DataError(where, "dimension " + it->str() + " is impossible");
    shape.push_back(std::stoll(it->str()));
  }
  if (shape.size() > 64) throw DataError(where, "more than 64 dimensions");
  return shape;
}

}  // namespace

NpyHeader read_npy_header(ZipStream& stream) {
  const std::string magic = stream.read(kMagicBytes);
  const int version = magic[6];
  if (!magic.starts_with("\x93NUMPY") || version < 1 || version > 3) {
    throw DataError(stream.where(), "does not begin as an npy array of version 1 to 3");
  }
  const std::size_t bytes = version == 1 ? little_endian<std::uint16_t>(stream.read(2).data())
                                         : little_endian<std::uint32_t>(stream.read(4).data());
  if (bytes > kHeaderLimit) {
    throw DataError(stream.where(), "its npy header promises " + std::to_string(bytes) +
                                        " bytes of text; expected at most " +
                                        std::to_string(kHeaderLimit));
  }
  std::string text = stream.read(bytes);
  text.resize(text.find_last_not_of(" \n") + 1);
  // numpy writes the keys sorted, so the dictionary is one line of one form.
  static const std::regex form(
      R"(\{'descr': *'([^']{1,8})', *'fortran_order': *(True|False), *)"
      R"('shape': *\(((?:[0-9]+, *)*[0-9]*)\),? *\})");
  std::smatch match;
  if (text.size() > kDictionaryLimit || !std::regex_match(text, match, form)) {
    throw DataError(stream.where(), "its npy header is not {'descr', 'fortran_order', 'shape'}");
  }
  if (match[2] == "True") {
    throw DataError(stream.where(), "the array is in Fortran order; save "
                                    "numpy.ascontiguousarray(array) instead");
  }
  for (const Name& name : kNames) {
    if (match[1] == name.numpy) return {name.type, parse_shape(match[3], stream.where())};
  }
  throw DataError(stream.where(),
                  "arrays of " + match[1].str() + " are not read, only |u1 <i4 <i8 <f2 <f4 <f8");
}

std::string npy_header(const at::Tensor& array, const std::string& where) {
  const char* descr = nullptr;
  for (const Name& name : kNames) {
    if (name.type == array.scalar_type()) descr = name.numpy;
  }
  if (!descr) {
    throw StoreError(where + ": npz files hold u1, i4, i8, f2, f4 and f8, not " +
                     c10::toString(array.scalar_type()));
  }
  std::string shape;
  for (std::int64_t i = 0; i < array.dim(); ++i) {
    shape += (i ? ", " : "") + std::to_string(array.size(i));
  }
  if (array.dim() == 1) shape += ",";
  std::string text = std::string("{'descr': '") + descr + "', 'fortran_order': False, 'shape': (" +
                     shape + "), }";
  if (array.dim() > 0) text.append(kGrowthDigits - std::to_string(array.size(0)).size(), ' ');
  // One byte is the newline; a header that fits exactly still gets 64 blanks, as numpy's does.
  text.append(kAlign - (kMagicBytes + 2 + text.size() + 1) % kAlign, ' ');
  text += '\n';

  std::string header("\x93NUMPY\x01\x00", kMagicBytes);
  header += static_cast<char>(text.size() & 0xff);
  header += static_cast<char>(text.size() >> 8);
  return header + text;
}

}  // namespace dkdm::io

// Headers of numpy arrays.
#include "io/array/npy.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <numeric>

#include "dkdm/files.hpp"
#include "dkdm/npy_file.hpp"
#include "dkdm/store_error.hpp"
#include "io/plain_text.hpp"

namespace dkdm::io {
namespace {

constexpr std::size_t kMagicBytes = 8, kAlign = 64;
constexpr std::size_t kHeaderLimit =
    10'000;                              // bytes; numpy's own limit for files that are not trusted
constexpr std::size_t kDimensions = 64;  // numpy's limit
constexpr std::size_t kGrowthDigits = 21;  // numpy leaves room for the first dimension to grow

// Types by numpy's letter and size in bytes, the written ones first.
struct Type {
  char letter;
  std::uint8_t bytes;
  at::ScalarType type;
  const char* name;  // as numpy.dtype's name, which its constructor takes as well
};
constexpr std::array<Type, 14> kTypes{{{'u', 1, at::kByte, "uint8"},
                                       {'i', 4, at::kInt, "int32"},
                                       {'i', 8, at::kLong, "int64"},
                                       {'f', 2, at::kHalf, "float16"},
                                       {'f', 4, at::kFloat, "float32"},
                                       {'f', 8, at::kDouble, "float64"},
                                       {'b', 1, at::kBool, "bool"},
                                       {'i', 1, at::kChar, "int8"},
                                       {'i', 2, at::kShort, "int16"},
                                       {'u', 2, at::kUInt16, "uint16"},
                                       {'u', 4, at::kUInt32, "uint32"},
                                       {'u', 8, at::kUInt64, "uint64"},
                                       {'c', 8, at::kComplexFloat, "complex64"},
                                       {'c', 16, at::kComplexDouble, "complex128"}}};
constexpr std::size_t kWrittenTypes = 6;

// The Python literal of a header: a dictionary of texts, booleans, integers, tuples and lists.
class Literal {
 public:
  Literal(std::string_view text, std::string where) : text_(text), where_(std::move(where)) {}

  NpyHeader header() {
    NpyHeader header{};
    bool descr = false, order = false, shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string key = read_text();
      expect(':');
      if (key == "descr" && !descr) {
        descr = true;
        read_type(header);
      } else if (key == "fortran_order" && !order) {
        order = true;
        header.fortran_order = read_boolean();
      } else if (key == "shape" && !shape) {
        shape = true;
        header.shape = read_shape();
      } else {
        fail("the key '" + shown(key) + "'");
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    if (!descr || !order || !shape) fail("not all of them");
    skip_space();
    if (at_ != text_.size()) fail("text behind its end");
    return header;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw DataError(where_,
                    "its npy header is not {'descr', 'fortran_order', 'shape'}: it has " + what);
  }

  void skip_space() {
    while (at_ < text_.size() &&
           std::string_view(" \t\n\r\f").find(text_[at_]) != std::string_view::npos) {
      ++at_;
    }
  }
  bool accept(char wanted) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != wanted) return false;
    ++at_;
    return true;
  }
  void expect(char wanted) {
    if (!accept(wanted)) {
      fail(at_ < text_.size()
               ? "'" + shown(text_.substr(at_, 1)) + "' where '" + wanted + "' is expected"
               : "no end");
    }
  }
  std::string_view read_word() {
    skip_space();
    const std::size_t begin = at_;
    while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) != 0)) ++at_;
    return text_.substr(begin, at_ - begin);
  }

  // Python 2 may have put a u or b before the quote.
  std::string read_text() {
    skip_space();
    if (at_ + 1 < text_.size() && (text_[at_] == 'u' || text_[at_] == 'b')) ++at_;
    const char quote = at_ < text_.size() ? text_[at_] : ' ';
    if (quote != '\'' && quote != '"') fail("no text in quotes where one is expected");
    const std::size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) fail("a text without end");
    const std::string_view text = text_.substr(at_ + 1, end - at_ - 1);
    if (text.find('\\') != std::string_view::npos) fail("an escape in a text");
    at_ = end + 1;
    return std::string(text);
  }

  bool read_boolean() {
    const std::string_view word = read_word();
    if (word != "True" && word != "False") fail("fortran_order '" + shown(word) + "'");
    return word == "True";
  }

  std::vector<std::int64_t> read_shape() {
    std::vector<std::int64_t> shape;
    expect('(');
    while (!accept(')')) {
      std::string_view word = read_word();
      if (word.ends_with('L')) word.remove_suffix(1);  // Python 2's long
      std::int64_t side = 0;
      const auto result = std::from_chars(word.data(), word.data() + word.size(), side);
      if (result.ec == std::errc::result_out_of_range || side > kLargestSide) {
        throw DataError(where_, "dimension " + shown(word) + " is impossible");
      }
      if (word.empty() || result.ec != std::errc() || result.ptr != word.data() + word.size()) {
        fail("a shape of something else than integers from 0");
      }
      shape.push_back(side);
      if (shape.size() > kDimensions) throw DataError(where_, "more than 64 dimensions");
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return shape;
  }

  void read_type(NpyHeader& header) {
    skip_space();
    if (at_ < text_.size() && (text_[at_] == '[' || text_[at_] == '(')) refuse("a structured type");
    std::string descr = read_text();
    const std::string whole = descr;
    char order = '<';
    if (!descr.empty() && std::string_view("<>=|").find(descr[0]) != std::string_view::npos) {
      order = descr[0];
      descr.erase(0, 1);
    }
    // Letters with a size, numpy's names, and its letter for bool.
    for (const Type& type : kTypes) {
      if (descr != type.letter + std::to_string(type.bytes) && descr != type.name &&
          !(descr == "?" && type.type == at::kBool)) {
        continue;
      }
      header.type = type.type;
      const std::uint8_t word = type.letter == 'c' ? type.bytes / 2 : type.bytes;
      header.swapped = order == '>' && word > 1 ? word : 0;
      return;
    }
    constexpr std::array<std::pair<char, const char*>, 8> kOthers{
        {{'U', "texts"},
         {'S', "texts"},
         {'a', "texts"},
         {'O', "Python objects (pickled)"},
         {'V', "structures or raw bytes"},
         {'M', "dates"},
         {'m', "time differences"},
         {'f', "long doubles"}}};
    for (const auto& [letter, what] : kOthers) {
      if (!descr.empty() && descr[0] == letter) refuse(whole + ", " + what);
    }
    refuse(whole);
  }

  [[noreturn]] void refuse(const std::string& type) const {
    std::string known;
    for (const Type& one : kTypes) {
      known += std::string(" ") + one.letter + std::to_string(one.bytes);
    }
    throw DataError(where_, "arrays of " + shown(type) + " are not read, only of" + known);
  }

  static constexpr std::int64_t kLargestSide = 999'999'999'999'999'999;

  std::string_view text_;
  std::string where_;
  std::size_t at_ = 0;
};

// `left` bytes follow, which `read` gives in order.
NpyHeader header_of(std::uint64_t left, const std::string& where,
                    const std::function<std::string(std::uint64_t)>& read) {
  if (left < kMagicBytes) throw DataError(where, "is too short for an npy array");
  const std::string magic = read(kMagicBytes);
  left -= kMagicBytes;
  const int version = magic[6];
  if (!magic.starts_with("\x93NUMPY") || version < 1 || version > 3) {
    throw DataError(where, "does not begin as an npy array of version 1 to 3");
  }
  const std::size_t length_bytes = version == 1 ? 2 : 4;
  if (left < length_bytes) throw DataError(where, "its npy header is cut");
  const std::string length = read(length_bytes);
  left -= length_bytes;
  const std::size_t bytes = version == 1 ? little_endian<std::uint16_t>(length.data())
                                         : little_endian<std::uint32_t>(length.data());
  if (bytes > kHeaderLimit) {
    throw DataError(where, "its npy header claims " + std::to_string(bytes) +
                               " bytes; numpy reads " + std::to_string(kHeaderLimit) + " at most");
  }
  if (bytes > left) {
    throw DataError(where, "its npy header claims " + std::to_string(bytes) + " bytes, but " +
                               std::to_string(left) + " follow");
  }
  const std::string text = read(bytes);
  return Literal(text, where).header();
}

}  // namespace

NpyHeader read_npy_header(ZipStream& stream) {
  return header_of(stream.left(), stream.where(),
                   [&](std::uint64_t bytes) { return stream.read(bytes); });
}

NpyHeader read_npy_header(const ByteSource& file, std::uint64_t& data) {
  data = 0;
  return header_of(file.size(), file.path().string(), [&](std::uint64_t bytes) {
    data += bytes;
    return file.read(data - bytes, bytes);
  });
}

at::Tensor read_npy_data(const NpyHeader& header, const std::string& where,
                         const std::function<void(void* out, std::uint64_t bytes)>& read) {
  std::vector<std::int64_t> stored = header.shape;
  if (header.fortran_order) std::reverse(stored.begin(), stored.end());
  at::Tensor array = at::empty(stored, header.type);
  auto* data = static_cast<char*>(array.mutable_data_ptr());
  const std::uint64_t bytes = array.nbytes();
  read(data, bytes);
  const auto is_bit = [](char byte) { return byte == 0 || byte == 1; };
  if (header.type == at::kBool && !std::all_of(data, data + bytes, is_bit)) {
    throw DataError(where, "a boolean is neither 0 nor 1");
  }
  for (std::uint64_t at = 0; header.swapped > 0 && at < bytes; at += header.swapped) {
    std::reverse(data + at, data + at + header.swapped);
  }
  if (!header.fortran_order) return array;
  std::vector<std::int64_t> turned(stored.size());
  std::iota(turned.rbegin(), turned.rend(), std::int64_t{0});
  return array.permute(turned).contiguous();
}

at::Tensor read_npy(const std::filesystem::path& path) {
  const InputFile file(path);
  const std::string where = path.string();
  std::uint64_t data = 0;
  const NpyHeader header = read_npy_header(file, data);
  const std::uint64_t bytes = array_bytes(header.shape, c10::elementSize(header.type), where);
  if (bytes != file.size() - data) {
    throw DataError(where, "its npy header promises " + std::to_string(bytes) + " bytes, " +
                               std::to_string(file.size() - data) + " follow");
  }
  return read_npy_data(header, where, [&](void* out, std::uint64_t count) {
    static_cast<const ByteSource&>(file).read(data, out, count);
  });
}

std::string npy_header(const at::Tensor& array, const std::string& where) {
  std::string descr;
  for (std::size_t i = 0; i < kWrittenTypes; ++i) {
    if (kTypes[i].type != array.scalar_type()) continue;
    descr =
        (kTypes[i].bytes == 1 ? "|" : "<") + (kTypes[i].letter + std::to_string(kTypes[i].bytes));
  }
  if (descr.empty()) {
    throw StoreError(where + ": npz files hold u1, i4, i8, f2, f4 and f8, not " +
                     c10::toString(array.scalar_type()));
  }
  std::string shape;
  for (std::int64_t i = 0; i < array.dim(); ++i) {
    shape += (i ? ", " : "") + std::to_string(array.size(i));
  }
  if (array.dim() == 1) shape += ",";
  std::string text =
      std::string("{'descr': '") + descr + "', 'fortran_order': False, 'shape': (" + shape + "), }";
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

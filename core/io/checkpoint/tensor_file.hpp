// What a checkpoint file holds, without a tensor library: where the bytes of each tensor lie. Every
// format ends here, checked, and one place (checkpoint.cpp) makes tensors of it. No header of
// LibTorch is included, so that the parsers can be fuzzed alone.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "io/array/item_type.hpp"
#include "io/input_file.hpp"

namespace dkdm::io {

// A run of bytes of the file that tensors share.
struct StoredBytes {
  std::uint64_t offset = 0, bytes = 0;    // within the file: checked
  std::optional<std::uint32_t> checksum;  // CRC-32
  std::string name;                       // "archive/data/0", for messages
};

struct StoredTensor {
  ItemType type{};
  std::size_t storage = 0;   // index of its StoredBytes
  std::uint64_t offset = 0;  // items before its first, counted from the storage's begin
  std::vector<std::int64_t> sizes{},
      strides{};  // in items; every item lies in the storage: checked
};

struct StoredState {
  std::string path;  // as in StateDict
  std::vector<std::pair<std::string, StoredTensor>> tensors;
  std::vector<std::pair<std::string, std::string>> left_out{};  // as in StateDict
};

struct TensorFile {
  std::string format;
  bool big_endian = false;
  std::vector<StoredBytes> storages{};
  std::vector<StoredState> states{};
  std::map<std::string, std::string> values{};
};

inline constexpr std::size_t kDimensionLimit = 64;

// Recognises the format by content. Memory and recursion are bounded: about 100 bytes for each byte
// of a pickle or header, at most some hundred MB. Throws DataError naming file and byte.
TensorFile parse_tensor_file(const MappedFile& file);

// The formats. Each takes a file that begins like it.
TensorFile parse_safetensors(const MappedFile& file);
TensorFile parse_torch_zip(const MappedFile& file);
TensorFile parse_torch_legacy(const MappedFile& file);

// Throws DataError(`where`) unless every item of `tensor` lies in a storage of `items` items, and
// for a tensor that is far larger than its storage (stride 0), which a copy would have to fill.
void check_extent(const StoredTensor& tensor, std::uint64_t items, const std::string& where);

}  // namespace dkdm::io

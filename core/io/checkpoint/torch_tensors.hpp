// The storages and tensors of PyTorch's pickles (torch/_utils.py and torch/serialization.py,
// PyTorch 1.13 and 2.15).
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "io/checkpoint/pickle.hpp"
#include "io/checkpoint/tensor_file.hpp"

namespace dkdm::io {

// A storage as its persistent id states it: ('storage', type, key, location, items[, view]).
struct StorageId {
  std::string_view key;
  ItemType item{};               // u8 where PyTorch knows no type
  std::uint64_t items = 0;       // of the whole storage
  std::string_view quantized{};  // the type's name where only quantized tensors have it
  std::uint64_t quantized_bytes = 0;
  // The legacy format's views of a part: items first … first + viewed.
  std::uint64_t first = 0, viewed = 0;

  std::uint64_t item_bytes() const {
    return quantized.empty() ? std::uint64_t{info(item).bytes} : quantized_bytes;
  }
  std::uint64_t bytes() const { return items * item_bytes(); }
};

// Nothing for a persistent id that is no storage's. Throws DataError for sizes that cannot be.
std::optional<StorageId> storage_id(const pickle::Pickle& pickle, const pickle::Node& persistent);

// Every storage that the pickle names, by key; other persistent ids are left out. Throws DataError
// also for a key that is used with two sizes.
std::map<std::string_view, StorageId> storages_of(const pickle::Pickle& pickle);

// Whether `node` is a tensor of any kind.
bool is_tensor(const pickle::Pickle& pickle, const pickle::Node& node);

// Fills `made`, or returns what the tensor is instead: "a sparse tensor". `index` says where in the
// file's storages a key's bytes are. Throws DataError for a tensor outside its storage.
std::string read_tensor(const pickle::Pickle& pickle, const pickle::Node& node,
                        const std::map<std::string_view, std::size_t>& index, StoredTensor& made);

}  // namespace dkdm::io

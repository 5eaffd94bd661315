// What PyTorch's pickles mean: storages, tensors over them, dictionaries of tensors, plain values.
#pragma once

#include <map>
#include <string_view>

#include "io/pickle.hpp"
#include "io/tensor_file.hpp"

namespace dkdm::io {

// A storage as its persistent id states it: ('storage', type, key, location, items[, view]).
struct StorageId {
  std::string_view key;
  ItemType item{};           // u8 where PyTorch knows no type
  std::uint64_t items = 0;   // of the whole storage
  // The legacy format's views of a part: items first … first + viewed.
  std::uint64_t first = 0, viewed = 0;

  std::uint64_t bytes() const { return items * info(item).bytes; }
};

// Every storage that the pickle names, by key. Throws DataError for a persistent id that is not a
// storage's, for sizes that overflow, and for a key that is used with two sizes.
std::map<std::string_view, StorageId> storages_of(const pickle::Pickle& pickle);

// Appends to `out` the states and values of the pickle's object. `index` says where in out.storages a
// key's bytes are. Throws DataError for a tensor outside its storage, for nesting deeper than 64 and
// for names and shapes of more than 256 MB together.
void read_objects(const pickle::Pickle& pickle, const std::map<std::string_view, std::size_t>& index,
                  TensorFile& out);

}  // namespace dkdm::io

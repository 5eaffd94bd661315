// What PyTorch's pickles mean: dictionaries of tensors, objects that hold some, plain values.
#pragma once

#include <map>
#include <string_view>

#include "io/checkpoint/pickle.hpp"
#include "io/checkpoint/tensor_file.hpp"

namespace dkdm::io {

// Appends to `out` the states and values of the pickle's object: its dictionaries, lists and
// objects are gone through, tensors are taken, everything else is described. `index` says where in
// out.storages a key's bytes are. Throws DataError for a tensor outside its storage and where
// values refer to each other so often that names and shapes take more than 256 MB.
void read_objects(const pickle::Pickle& pickle,
                  const std::map<std::string_view, std::size_t>& index, TensorFile& out);

}  // namespace dkdm::io

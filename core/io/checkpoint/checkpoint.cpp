// Tensors over a mapped file, from the description that the parsers give.
#include "dkdm/checkpoint.hpp"

#include <ATen/ATen.h>
#include <zlib.h>

#include <algorithm>

#include "dkdm/io.hpp"
#include "io/array/tensor_types.hpp"
#include "io/checkpoint/tensor_file.hpp"
#include "io/foreign_file.hpp"

namespace dkdm::io {

// The checksums of a file's storages, compared when a network is taken from it.
class Checksums {
 public:
  Checksums(std::shared_ptr<const MappedFile> file, std::vector<StoredBytes> parts)
      : file_(std::move(file)), parts_(std::move(parts)) {
    std::sort(parts_.begin(), parts_.end(),
              [](const StoredBytes& a, const StoredBytes& b) { return a.offset < b.offset; });
  }

  // The parts that the tensors lie in, each once. Throws DataError naming the damaged one.
  void compare(const NamedTensors& tensors) const {
    std::map<std::size_t, std::string> used;  // part -> one of its tensors
    for (const auto& [name, tensor] : tensors) {
      const auto* begin = static_cast<const char*>(tensor.storage().data());
      if (begin < file_->data() || begin >= file_->data() + file_->size()) continue;  // a copy
      const auto offset = static_cast<std::uint64_t>(begin - file_->data());
      const auto after = std::upper_bound(
          parts_.begin(), parts_.end(), offset,
          [](std::uint64_t at, const StoredBytes& part) { return at < part.offset; });
      if (after != parts_.begin()) used.emplace(after - parts_.begin() - 1, name);
    }
    for (const auto& [part, name] : used) compare(parts_[part], "tensor '" + name + "'");
  }

  void compare(const StoredBytes& part, const std::string& tensors) const {
    if (!part.checksum || part.bytes == 0) return;
    const auto* data = reinterpret_cast<const unsigned char*>(file_->data() + part.offset);
    if (::crc32_z(0, data, part.bytes) != *part.checksum) {
      throw DataError(at_byte(file_->path(), part.offset),
                      "entry '" + part.name + "' (" + tensors +
                          "): its checksum is wrong: the data are damaged");
    }
  }

 private:
  std::shared_ptr<const MappedFile> file_;
  std::vector<StoredBytes> parts_;
};

namespace {

// Storages of a file as LibTorch's: views of the mapping, or copies where items would not be
// aligned.
class Storages {
 public:
  Storages(std::shared_ptr<const MappedFile> file, const TensorFile& parsed,
           const Checksums& checksums)
      : file_(std::move(file)), parts_(parsed.storages), made_(parsed.storages.size()) {
    std::vector<std::uint64_t> alignment(parts_.size(), 1);
    for (const StoredState& state : parsed.states) {
      for (const auto& [name, tensor] : state.tensors) {
        alignment[tensor.storage] =
            std::max<std::uint64_t>(alignment[tensor.storage], word_bytes(tensor.type));
      }
    }
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      const bool aligned = parts_[i].offset % alignment[i] == 0;
      made_[i] = aligned ? mapped(parts_[i]) : copied(parts_[i]);
      if (!aligned) checksums.compare(parts_[i], "several tensors");  // a copy is not found later
    }
  }

  at::Tensor tensor(const StoredTensor& stored) const {
    return at::empty({0}, scalar_type(stored.type))
        .set_(made_[stored.storage], static_cast<std::int64_t>(stored.offset), stored.sizes,
              stored.strides);
  }

 private:
  at::Storage mapped(const StoredBytes& part) const {
    using Owner = std::shared_ptr<const MappedFile>;
    // The mapping is private: what is written through a tensor stays in memory.
    auto* data = const_cast<char*>(file_->data()) + part.offset;
    at::DataPtr pointer(
        data, new Owner(file_), [](void* owner) { delete static_cast<Owner*>(owner); }, at::kCPU);
    return {at::Storage::use_byte_size_t(), part.bytes, std::move(pointer), nullptr, false};
  }

  at::Storage copied(const StoredBytes& part) const {
    const at::Tensor bytes = at::empty({static_cast<std::int64_t>(part.bytes)}, at::kByte);
    // Not memcpy: a storage may be empty, and its pointer null.
    std::copy_n(file_->data() + part.offset, part.bytes,
                static_cast<char*>(bytes.mutable_data_ptr()));
    return bytes.storage();
  }

  std::shared_ptr<const MappedFile> file_;
  const std::vector<StoredBytes>& parts_;
  std::vector<at::Storage> made_;
};

// A contiguous copy with the bytes of each number in the other order.
at::Tensor swapped(const at::Tensor& tensor, ItemType type) {
  at::Tensor copy = tensor.clone(at::MemoryFormat::Contiguous);
  auto* bytes = static_cast<char*>(copy.mutable_data_ptr());
  const std::int64_t total = copy.numel() * copy.element_size(), word = word_bytes(type);
  for (std::int64_t at = 0; at < total; at += word) std::reverse(bytes + at, bytes + at + word);
  return copy;
}

// C++ gives a bool that is neither 0 nor 1 no meaning.
void check_bools(const at::Tensor& tensor, const std::string& where) {
  const at::Tensor bytes =
      at::empty({0}, at::kByte)
          .set_(tensor.storage(), tensor.storage_offset(), tensor.sizes(), tensor.strides());
  if (bytes.gt(1).any().item<bool>()) throw DataError(where, "a BOOL is neither 0 nor 1");
}

std::vector<StateDict> states_of(const std::shared_ptr<const MappedFile>& file,
                                 const TensorFile& parsed, const Checksums& checksums) {
  const Storages storages(file, parsed, checksums);
  std::vector<StateDict> states;
  for (const StoredState& state : parsed.states) {
    states.push_back({state.path, {}, state.left_out});
    for (const auto& [name, stored] : state.tensors) {
      at::Tensor tensor = storages.tensor(stored);
      if (stored.type == ItemType::boolean) {
        check_bools(tensor, file->path().string() + ": tensor '" + name + "'");
      }
      if (parsed.big_endian) {
        checksums.compare(parsed.storages[stored.storage], "tensor '" + name + "'");
        tensor = swapped(tensor, stored.type);
      }
      states.back().tensors.emplace_back(name, std::move(tensor));
    }
  }
  return states;
}

}  // namespace

CheckpointFile read_checkpoint(const std::filesystem::path& file) {
  if (const std::string kind = folder_kind(file); !kind.empty())
    throw DataError(file.string(), "is " + kind);
  const auto mapped = std::make_shared<const MappedFile>(file);
  TensorFile parsed = parse_tensor_file(*mapped);
  auto checksums = std::make_shared<const Checksums>(mapped, parsed.storages);
  CheckpointFile read{.format = parsed.format,
                      .states = states_of(mapped, parsed, *checksums),
                      .values = std::move(parsed.values)};
  read.checksums = std::move(checksums);
  return read;
}

TensorMap load_tensors(const std::filesystem::path& file,
                       std::map<std::string, std::string>* metadata) {
  const auto mapped = std::make_shared<const MappedFile>(file);
  TensorFile parsed = parse_safetensors(*mapped);
  if (metadata) {
    for (const auto& [key, value] : parsed.values) (*metadata)[key] = value;
  }
  TensorMap tensors;
  for (StateDict& state : states_of(mapped, parsed, Checksums(mapped, {}))) {
    for (auto& [name, tensor] : state.tensors) tensors[name] = std::move(tensor);
  }
  return tensors;
}

void compare_checksums(const CheckpointFile& file, const NamedTensors& tensors) {
  if (file.checksums) file.checksums->compare(tensors);
}

void check_finite(const StateDict& state, const std::filesystem::path& file) {
  for (const auto& [name, tensor] : state.tensors) {
    if (!tensor.is_floating_point() && !tensor.is_complex()) continue;
    if (tensor.scalar_type() == at::kFloat4_e2m1fn_x2) continue;  // has neither
    const bool narrow = tensor.element_size() == 1 || tensor.scalar_type() == at::kComplexHalf;
    const at::Tensor finite = at::isfinite(
        narrow ? tensor.to(tensor.is_complex() ? at::kComplexFloat : at::kFloat) : tensor);
    if (finite.all().item<bool>()) continue;
    const at::Tensor bad = at::logical_not(finite).flatten().nonzero();
    throw DataError(file.string() + ": tensor '" + name + "'",
                    std::to_string(bad.size(0)) + " of its " + std::to_string(tensor.numel()) +
                        " values are NaN or infinite, the first at index " +
                        std::to_string(bad[0].item<std::int64_t>()));
  }
}

}  // namespace dkdm::io

// Writers of named tensors: PyTorch's zip and safetensors.
#include <ATen/ATen.h>
#include <c10/util/strides.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

#include "dkdm/checkpoint.hpp"
#include "dkdm/io.hpp"
#include "dkdm/store_error.hpp"
#include "io/array/tensor_types.hpp"
#include "io/atomic_file.hpp"
#include "io/checkpoint/pickle_opcodes.hpp"
#include "io/checkpoint/tensor_bytes.hpp"
#include "io/zip_writer.hpp"

namespace dkdm::io {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kTorchAlignment = 64, kSafetensorsAlignment = 8;  // bytes
const std::string kMetadata = "__metadata__";

// Protocol 2, what PyTorch writes by default and every version reads.
class PickleWriter {
 public:
  PickleWriter() { code(pickle::kProto).raw('\2'); }

  PickleWriter& code(pickle::Opcode opcode) {
    bytes_ += static_cast<char>(opcode);
    return *this;
  }
  template <class T>
  PickleWriter& raw(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  PickleWriter& global(std::string_view module, std::string_view name) {
    code(pickle::kGlobal).bytes_.append(module).append("\n").append(name).append("\n");
    return *this;
  }
  PickleWriter& text(std::string_view text) {
    code(pickle::kBinUnicode).raw(static_cast<std::uint32_t>(text.size())).bytes_ += text;
    return *this;
  }
  PickleWriter& integer(std::int64_t value) {
    if (value == static_cast<std::int32_t>(value)) {
      return code(pickle::kBinInt).raw(static_cast<std::int32_t>(value));
    }
    return code(pickle::kLong1).raw('\10').raw(value);
  }
  PickleWriter& integers(at::IntArrayRef values) {
    code(pickle::kMark);
    for (const std::int64_t value : values) integer(value);
    return code(pickle::kTuple);
  }
  PickleWriter& ordered_dict() {
    return global("collections", "OrderedDict").code(pickle::kEmptyTuple).code(pickle::kReduce);
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

// torch._utils._rebuild_tensor_v2(storage, 0, sizes, strides, False, OrderedDict()) over a storage
// of its own; _rebuild_tensor_v3, which also takes the dtype, where PyTorch has no storage of that
// type.
void put_tensor(PickleWriter& out, const at::Tensor& tensor, const ItemInfo& item,
                std::size_t key) {
  using namespace pickle;
  const bool typed = !item.storage.empty();
  out.global("torch._utils", typed ? "_rebuild_tensor_v2" : "_rebuild_tensor_v3").code(kMark);
  out.code(kMark).text("storage");
  if (typed) {
    out.global("torch", std::string(item.storage) + "Storage");
  } else {
    out.global("torch.storage", "UntypedStorage");
  }
  out.text(std::to_string(key)).text("cpu");
  out.integer(typed ? tensor.numel() : static_cast<std::int64_t>(tensor.nbytes()));
  out.code(kTuple).code(kBinPersId);
  out.integer(0).integers(tensor.sizes()).integers(c10::contiguous_strides(tensor.sizes()));
  out.code(kNewFalse).ordered_dict();
  if (!typed) out.global("torch", item.torch);
  out.code(kTuple).code(kReduce);
}

// Throws StoreError for two tensors of one name.
void check_names(const std::filesystem::path& file, const NamedTensors& tensors) {
  std::set<std::string_view> names;
  for (const auto& [name, tensor] : tensors) {
    if (!names.insert(name).second) {
      throw StoreError(file.string() + ": tensor '" + name + "' is given twice");
    }
  }
}

}  // namespace

void write_torch(const std::filesystem::path& file, const NamedTensors& tensors) {
  check_names(file, tensors);
  PickleWriter objects;
  objects.ordered_dict().code(pickle::kMark);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto& [name, tensor] = tensors[i];
    const ItemInfo& item = item_of(tensor, file.string() + ": tensor '" + name + "'");
    objects.text(name);
    put_tensor(objects, tensor, item, i);
  }
  objects.code(pickle::kSetItems).code(pickle::kStop);

  ZipWriter zip(file, kTorchAlignment);
  zip.add("archive/data.pkl", objects.bytes());
  zip.add("archive/byteorder", "little");
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    // An entry of the archive is written at once.
    for_each_block(
        tensors[i].second,
        [&](std::string_view bytes) { zip.add("archive/data/" + std::to_string(i), bytes); },
        std::numeric_limits<std::size_t>::max());
  }
  zip.add("archive/version", "3\n");
  zip.commit();
}

void write_safetensors(const std::filesystem::path& file, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata) {
  check_names(file, tensors);
  Json header = Json::object();
  if (!metadata.empty()) header[kMetadata] = metadata;
  // Widest elements first, as the reference writer does, keeps every tensor aligned to its element.
  std::vector<const NamedTensors::value_type*> order;
  for (const auto& item : tensors) {
    const std::string where = file.string() + ": tensor '" + item.first + "'";
    if (item_of(item.second, where).safetensors.empty()) {
      throw StoreError(where + ": safetensors files hold no " +
                       c10::toString(item.second.scalar_type()));
    }
    if (packed_numbers(item_of(item.second, where).type) > 1 && item.second.dim() == 0) {
      throw StoreError(where + ": safetensors files hold no single " +
                       c10::toString(item.second.scalar_type()));
    }
    if (item.first == kMetadata) throw StoreError(where + ": the name is reserved");
    order.push_back(&item);
  }
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return a->second.element_size() > b->second.element_size();
  });
  std::uint64_t offset = 0;
  for (const auto* item : order) {
    const std::uint64_t bytes = item->second.numel() * item->second.element_size();
    const ItemInfo& type = item_of(item->second, file.string());
    std::vector<std::int64_t> shape = item->second.sizes().vec();
    if (!shape.empty()) shape.back() *= packed_numbers(type.type);
    header[item->first] = {
        {"dtype", type.safetensors}, {"shape", shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const Json::exception& error) {
    throw StoreError(file.string() + ": names and metadata must be UTF-8: " + error.what());
  }
  text.resize(
      (text.size() + kSafetensorsAlignment - 1) / kSafetensorsAlignment * kSafetensorsAlignment,
      ' ');

  AtomicFile output(file);
  const std::uint64_t header_bytes = text.size();
  output.write(&header_bytes, sizeof header_bytes);
  output.write(text);
  for (const auto* item : order) {
    // The format knows no strides: a channels-last tensor goes out in logical order.
    for_each_block(item->second,
                   [&](std::string_view bytes) { output.write(bytes.data(), bytes.size()); });
  }
  output.commit();
}

void save_tensors(const std::filesystem::path& file, const TensorMap& tensors,
                  const std::map<std::string, std::string>& metadata) {
  write_safetensors(file, NamedTensors(tensors.begin(), tensors.end()), metadata);
}

}  // namespace dkdm::io

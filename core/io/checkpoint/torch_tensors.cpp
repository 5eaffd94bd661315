// Definitions: torch_tensors.hpp.
#include "io/checkpoint/torch_tensors.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>

#include "io/checkpoint/pickle_calls.hpp"
#include "io/plain_text.hpp"

namespace dkdm::io {
namespace {

using pickle::argument;
using pickle::argument_count;
using pickle::arguments_of;
using pickle::function_of;
using pickle::Kind;
using pickle::module_of;
using pickle::Node;
using pickle::Pickle;
using pickle::Ref;
using pickle::Role;

std::uint64_t natural(const Pickle& pickle, const Node& node, const char* what) {
  if (node.kind != Kind::integer || node.number < 0) {
    throw DataError(pickle.where(node), std::string(what) + " is not an integer from 0");
  }
  return static_cast<std::uint64_t>(node.number);
}

// Storages of quantized tensors, which are not read but have to be gone past.
struct QuantizedStorage {
  std::string_view name;
  std::uint64_t bytes;
};
constexpr std::array<QuantizedStorage, 5> kQuantized{{{"QInt8Storage", 1},
                                                      {"QUInt8Storage", 1},
                                                      {"QInt32Storage", 4},
                                                      {"QUInt4x2Storage", 1},
                                                      {"QUInt2x4Storage", 1}}};

// The call of a rebuild function that a tensor comes from, without what is wrapped around it.
struct Rebuild {
  Role role;
  const Node* arguments;  // a tuple
};

std::optional<Rebuild> rebuild_of(const Pickle& pickle, Role role, const Node& given, int depth) {
  constexpr int kWrappers = 4;
  if (given.kind != Kind::tuple || depth > kWrappers) return std::nullopt;
  const auto item = [&](std::size_t i) -> const Node& { return pickle.at(given.items[i]); };
  switch (role) {
    case Role::rebuild_tensor:
    case Role::rebuild_tensor_v2:
    case Role::rebuild_tensor_v3: return Rebuild{role, &given};
    case Role::rebuild_parameter:             // (tensor, requires_grad, hooks)
    case Role::rebuild_parameter_with_state:  // (tensor, requires_grad, hooks, state)
      if (given.items.empty() || item(0).kind != Kind::call) return std::nullopt;
      return rebuild_of(pickle, item(0).role, arguments_of(pickle, item(0)), depth + 1);
    case Role::rebuild_from_type:  // (function, type, arguments, state)
      if (given.items.size() < 3 || item(0).kind != Kind::global) return std::nullopt;
      return rebuild_of(pickle, item(0).role, item(2), depth + 1);
    default: return std::nullopt;
  }
}

std::optional<Rebuild> rebuild_of(const Pickle& pickle, const Node& node) {
  if (node.kind != Kind::call) return std::nullopt;
  return rebuild_of(pickle, node.role, arguments_of(pickle, node), 0);
}

// Tensors that are not made of one storage.
struct OtherTensor {
  std::string_view function, what;
};
constexpr std::array<OtherTensor, 10> kOtherTensors{{
    {"_rebuild_sparse_tensor", "a sparse tensor"},
    {"_rebuild_sparse_csr_tensor", "a sparse tensor"},
    {"_rebuild_qtensor", "a quantized tensor"},
    {"_rebuild_nested_tensor", "a nested tensor"},
    {"_rebuild_meta_tensor_no_storage", "a meta tensor, without data"},
    {"_rebuild_wrapper_subclass", "a tensor of a class of its own"},
    {"_rebuild_device_tensor_from_numpy", "a tensor of a device that PyTorch saves through numpy"},
    {"_rebuild_device_tensor_from_cpu_tensor",
     "a tensor of a device that PyTorch saves through the CPU"},
    {"_rebuild_xla_tensor", "a tensor of an XLA device"},
    {"_rebuild_mlc_tensor", "a tensor of an MLC device"},
}};

// What such a tensor is; "" where `node` is none.
std::string other_tensor(const Pickle& pickle, const Node& function, const Node& given,
                         int depth = 0) {
  if (function.kind != Kind::global || depth > 4) return "";
  const auto item = [&](std::size_t i) -> const Node& { return pickle.at(given.items[i]); };
  const bool fits = given.kind == Kind::tuple && !given.items.empty();
  if (function.role == Role::rebuild_from_type && fits && given.items.size() >= 3) {
    return other_tensor(pickle, item(0), item(2), depth + 1);
  }
  const bool parameter = function.role == Role::rebuild_parameter ||
                         function.role == Role::rebuild_parameter_with_state;
  if (parameter && fits && item(0).kind == Kind::call) {
    return other_tensor(pickle, function_of(pickle, item(0)), arguments_of(pickle, item(0)),
                        depth + 1);
  }
  if (module_of(pickle, function) != "torch._utils" || !function.data.starts_with("_rebuild_"))
    return "";
  for (const OtherTensor& one : kOtherTensors) {
    if (one.function == function.data) return std::string(one.what);
  }
  return "a tensor of another kind (torch._utils." + shown(function.data) + ")";
}

// Whether `given` is a short list of integers from 0, in `values`.
bool integers(const Pickle& pickle, const Node& given, std::vector<std::int64_t>& values) {
  const bool wrapped =
      given.kind == Kind::call && given.role == Role::size && argument_count(pickle, given) == 1;
  const Node& list = wrapped ? argument(pickle, given, 0) : given;
  if ((list.kind != Kind::tuple && list.kind != Kind::list) ||
      list.items.size() > kDimensionLimit) {
    return false;
  }
  for (const Ref ref : list.items) {
    const Node& item = pickle.at(ref);
    if (item.kind != Kind::integer || item.number < 0) return false;
    values.push_back(item.number);
  }
  return true;
}

// Fills `made`, or returns what the tensor is instead. Throws DataError for one outside its
// storage.
std::string read_rebuild(const Pickle& pickle, const Node& node, const Rebuild& rebuild,
                         const std::map<std::string_view, std::size_t>& index, StoredTensor& made) {
  const std::string odd = "a tensor that is not made as torch._utils makes it";
  const auto& given = rebuild.arguments->items;
  const auto item = [&](std::size_t i) -> const Node& { return pickle.at(given[i]); };
  // (storage, first item, sizes, strides[, requires_grad, hooks[, dtype][, metadata]])
  const std::size_t expected = rebuild.role == Role::rebuild_tensor      ? 4
                               : rebuild.role == Role::rebuild_tensor_v2 ? 6
                                                                         : 7;
  const bool metadata = rebuild.role != Role::rebuild_tensor && given.size() == expected + 1;
  if ((given.size() != expected && !metadata) || item(0).kind != Kind::persistent) return odd;
  if (metadata) {
    const Node& view = item(expected);
    if (view.kind != Kind::none && (view.kind != Kind::dict || !view.items.empty())) {
      return "a conjugated or negated view of a tensor; save a clone of it instead";
    }
  }
  const auto storage = storage_id(pickle, item(0));
  if (!storage || !index.contains(storage->key))
    return "a tensor over a storage of an unknown type";
  if (!storage->quantized.empty()) return "a quantized tensor";
  made.type = storage->item;
  made.storage = index.at(storage->key);
  std::uint64_t items = storage->viewed;
  if (rebuild.role == Role::rebuild_tensor_v3) {
    const Node& dtype = item(6);
    if (dtype.kind != Kind::global || dtype.role != Role::dtype) {
      return "a tensor of the type " + (dtype.kind == Kind::global ? shown(dtype.data) : "?") +
             ", which is not read";
    }
    made.type = dtype.item;
    items = storage->bytes() / info(made.type).bytes;
    if (storage->viewed != storage->items) return "a tensor of plain bytes in a view of a storage";
  }
  made.offset = natural(pickle, item(1), "a tensor's first item");
  for (const std::size_t i : {2, 3}) {
    if (!integers(pickle, item(i), i == 2 ? made.sizes : made.strides)) {
      throw DataError(pickle.where(node), std::string(i == 2 ? "a tensor's shape" : "its strides") +
                                              " is not a short list of integers from 0");
    }
  }
  check_extent(made, items, pickle.where(node));
  made.offset += storage->first;
  return "";
}

}  // namespace

std::optional<StorageId> storage_id(const Pickle& pickle, const Node& node) {
  const Node& id = pickle.at(node.items[0]);
  const auto item = [&](std::size_t i) -> const Node& { return pickle.at(id.items[i]); };
  if (id.kind != Kind::tuple || (id.items.size() != 5 && id.items.size() != 6) ||
      item(0).kind != Kind::text || item(0).data != "storage" || item(1).kind != Kind::global ||
      item(2).kind != Kind::text) {
    return std::nullopt;
  }
  StorageId storage{.key = item(2).data, .item = ItemType::u8};
  const auto quantized = std::find_if(kQuantized.begin(), kQuantized.end(), [&](const auto& one) {
    return module_of(pickle, item(1)) == "torch" && item(1).data == one.name;
  });
  if (item(1).role == Role::storage_type) {
    storage.item = item(1).item;
  } else if (quantized != kQuantized.end()) {
    storage.quantized = quantized->name;
    storage.quantized_bytes = quantized->bytes;
  } else if (item(1).role != Role::untyped_storage) {
    return std::nullopt;
  }
  storage.items = natural(pickle, item(4), "a storage's size");
  constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (storage.items > kMost / storage.item_bytes()) {
    throw DataError(pickle.where(node),
                    "a storage of " + std::to_string(storage.items) + " items is impossible");
  }
  storage.viewed = storage.items;
  if (id.items.size() == 6 && item(5).kind != Kind::none) {  // (key, first item, items)
    if (item(5).kind != Kind::tuple || item(5).items.size() != 3) {
      throw DataError(pickle.where(node), "a storage's view is not (key, first item, items)");
    }
    storage.first = natural(pickle, pickle.at(item(5).items[1]), "a storage view's first item");
    storage.viewed = natural(pickle, pickle.at(item(5).items[2]), "a storage view's size");
    if (storage.first > storage.items || storage.viewed > storage.items - storage.first) {
      throw DataError(pickle.where(node), "a view of a storage lies outside it");
    }
  }
  return storage;
}

std::map<std::string_view, StorageId> storages_of(const Pickle& pickle) {
  std::map<std::string_view, StorageId> storages;
  for (const Node& node : pickle.nodes()) {
    if (node.kind != Kind::persistent) continue;
    const auto found = storage_id(pickle, node);
    if (!found) continue;
    const StorageId& id = *found;
    const auto [known, added] = storages.emplace(id.key, id);
    if (!added && known->second.bytes() != id.bytes()) {
      throw DataError(pickle.where(node), "the storage '" + shown(id.key) + "' is given " +
                                              std::to_string(known->second.bytes()) +
                                              " bytes, and " + std::to_string(id.bytes()) +
                                              " elsewhere");
    }
  }
  return storages;
}

bool is_tensor(const Pickle& pickle, const Node& node) {
  return node.kind == Kind::call &&
         (rebuild_of(pickle, node) ||
          !other_tensor(pickle, function_of(pickle, node), arguments_of(pickle, node)).empty());
}

std::string read_tensor(const Pickle& pickle, const Node& node,
                        const std::map<std::string_view, std::size_t>& index, StoredTensor& made) {
  if (const auto rebuild = rebuild_of(pickle, node)) {
    return read_rebuild(pickle, node, *rebuild, index, made);
  }
  return other_tensor(pickle, function_of(pickle, node), arguments_of(pickle, node));
}

}  // namespace dkdm::io

// Python's objects as torch/_utils.py and torch/serialization.py write them (PyTorch 1.13 and 2.15).
#include "io/torch_objects.hpp"

#include <array>
#include <charconv>
#include <cstring>
#include <limits>
#include <set>

#include "io/plain_text.hpp"

namespace dkdm::io {
namespace {

using pickle::Kind;
using pickle::Node;
using pickle::Pickle;
using pickle::Ref;
using pickle::Role;

constexpr int kDepthLimit = 64;
constexpr std::uint64_t kVisitLimit = std::uint64_t{1} << 22;  // values, however often they are shared
constexpr std::uint64_t kByteLimit = std::uint64_t{1} << 28;   // of names, shapes and values
constexpr std::size_t kNameLimit = 4096, kValueLimit = 400;    // bytes
constexpr std::size_t kListedItems = 8;                        // of a list of numbers

const Node& argument(const Pickle& pickle, const Node& call, std::size_t index) {
  return pickle.at(pickle.at(call.items[0]).items[index]);
}

std::size_t arguments(const Pickle& pickle, const Node& call) {
  return pickle.at(call.items[0]).items.size();
}

std::uint64_t natural(const Pickle& pickle, const Node& node, const char* what) {
  if (node.kind != Kind::integer || node.number < 0) {
    throw DataError(pickle.where(node), std::string(what) + " is not an integer from 0");
  }
  return static_cast<std::uint64_t>(node.number);
}

StorageId storage_id(const Pickle& pickle, const Node& node) {
  const Node& id = pickle.at(node.items[0]);
  const auto item = [&](std::size_t i) -> const Node& { return pickle.at(id.items[i]); };
  if ((id.items.size() != 5 && id.items.size() != 6) || item(0).kind != Kind::text ||
      item(0).data != "storage" || item(1).kind != Kind::global || item(2).kind != Kind::text ||
      (item(1).role != Role::storage_type && item(1).role != Role::untyped_storage)) {
    throw DataError(pickle.where(node),
                    "a persistent id is not ('storage', type, key, location, items)");
  }
  StorageId storage{.key = item(2).data, .item = ItemType::u8};
  if (item(1).role == Role::storage_type) storage.item = item(1).item;
  storage.items = natural(pickle, item(4), "a storage's size");
  constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (storage.items > kMost / info(storage.item).bytes) {
    throw DataError(pickle.where(node), "a storage of " + std::to_string(storage.items) +
                                            " items is impossible");
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

// Python's repr of a float, but for the digits of an exponent.
std::string real_text(double value) {
  std::array<char, 32> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr;
  std::string text(buffer.data(), end);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

class Reader {
 public:
  Reader(const Pickle& pickle, const std::map<std::string_view, std::size_t>& index, TensorFile& out)
      : pickle_(pickle), index_(index), out_(out) {}

  void read(const Node& node, const std::string& path, int depth) {
    spend(node, path.size());
    if (depth > kDepthLimit) {
      throw DataError(pickle_.where(node), "nested deeper than " + std::to_string(kDepthLimit));
    }
    if (is_tensor(node)) {  // at the top: below, its container takes it
      out_.states.push_back({path, {{"", tensor(node, 0)}}});
    } else if (node.kind == Kind::dict) {
      read_dict(node, path, depth);
    } else if (node.kind == Kind::list || node.kind == Kind::tuple) {
      read_list(node, path, depth);
    } else if (const auto value = text_of(node)) {
      keep_value(node, path, *value);
    }
  }

 private:
  struct Item {
    std::string name;
    const Node* node;
  };

  void spend(const Node& node, std::uint64_t bytes) {
    bytes_ += bytes;
    if (++visits_ > kVisitLimit || bytes_ > kByteLimit) {
      throw DataError(pickle_.where(node), "its values refer to each other so often that reading "
                                           "them would not end");
    }
  }

  void read_dict(const Node& dict, const std::string& path, int depth) {
    std::vector<Item> items;
    std::set<std::string_view> names;
    for (std::size_t i = 0; i < dict.items.size(); i += 2) {
      const Node& key = pickle_.at(dict.items[i]);
      items.push_back({key_text(key), &pickle_.at(dict.items[i + 1])});
      spend(key, items.back().name.size());
    }
    for (const Item& item : items) {
      if (!names.insert(item.name).second) {
        throw DataError(pickle_.where(dict), "the key '" + shown(item.name) + "' stands there twice");
      }
    }
    read_items(dict, items, path, depth);
  }

  void read_list(const Node& list, const std::string& path, int depth) {
    if (const auto value = short_list(list)) return keep_value(list, path, *value);
    std::vector<Item> items;
    for (std::size_t i = 0; i < list.items.size(); ++i) {
      items.push_back({std::to_string(i), &pickle_.at(list.items[i])});
      spend(list, items.back().name.size());
    }
    read_items(list, items, path, depth);
  }

  // Tensors first, so that a dictionary precedes those inside it.
  void read_items(const Node& container, const std::vector<Item>& items, const std::string& path,
                  int depth) {
    StoredState state{path, {}};
    for (const Item& item : items) {
      if (is_tensor(*item.node)) state.tensors.emplace_back(item.name, tensor(*item.node, 0));
    }
    if (!state.tensors.empty()) {
      spend(container, path.size());
      out_.states.push_back(std::move(state));
    }
    for (const Item& item : items) {
      if (is_tensor(*item.node)) continue;
      read(*item.node, path.empty() ? item.name : path + "." + item.name, depth + 1);
    }
  }

  std::string key_text(const Node& key) {
    switch (key.kind) {
      case Kind::text:
        if (key.data.size() > kNameLimit) {
          throw DataError(pickle_.where(key), "a name of " + std::to_string(key.data.size()) +
                                                  " bytes is not read");
        }
        if (has_control(key.data)) {
          throw DataError(pickle_.where(key),
                          "the name '" + shown(key.data) + "' holds a control character");
        }
        return std::string(key.data);
      case Kind::global: return std::string(key.data);
      case Kind::integer:
      case Kind::boolean:
      case Kind::real:
      case Kind::none: return *text_of(key);
      default: throw DataError(pickle_.where(key), "a dictionary's key is neither text nor number");
    }
  }

  void keep_value(const Node& node, const std::string& path, const std::string& value) {
    spend(node, path.size() + value.size());
    out_.values[path] = value;
  }

  // Values that have no parts, as Python prints them; nothing for the others.
  std::optional<std::string> text_of(const Node& node) {
    switch (node.kind) {
      case Kind::none: return "None";
      case Kind::boolean: return node.number ? "True" : "False";
      case Kind::integer: return std::to_string(node.number);
      case Kind::real: return real_text(node.real());
      case Kind::big_integer:
        return "an integer of " + std::to_string(node.data.size()) + " bytes";
      case Kind::bytes: return std::to_string(node.data.size()) + " bytes";
      case Kind::text: {
        std::string text(node.data.substr(0, kValueLimit));
        if (text.size() < node.data.size()) {
          text = shown(text, kValueLimit) + "… (" + std::to_string(node.data.size()) + " bytes)";
        }
        for (char& c : text) {
          if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
        }
        return text;
      }
      case Kind::global:
        return (node.role == Role::dtype ? "torch." : "") + std::string(node.data);
      case Kind::persistent: return "a storage";
      case Kind::call: return call_text(node);
      default: return std::nullopt;
    }
  }

  std::string call_text(const Node& call) {
    const std::size_t count = arguments(pickle_, call);
    switch (call.role) {
      case Role::numpy_scalar: return numpy_scalar(call);
      case Role::numpy_reconstruct: return "a numpy array";
      case Role::numpy_dtype: return "a numpy type";
      case Role::encode:
      case Role::bytes: return "bytes";
      case Role::device: return count > 0 ? text_of(argument(pickle_, call, 0)).value_or("?") : "?";
      case Role::size:
        return count == 1 ? short_list(argument(pickle_, call, 0)).value_or("a size") : "a size";
      default: throw DataError(pickle_.where(call), "the arguments of a call do not fit it");
    }
  }

  // scalar(dtype(code, …), bytes): the number, for the types that training writes.
  std::string numpy_scalar(const Node& call) const {
    const std::string unknown = "a numpy number";
    if (arguments(pickle_, call) != 2) return unknown;
    const Node& dtype = argument(pickle_, call, 0);
    const Node& value = argument(pickle_, call, 1);
    if (dtype.kind != Kind::call || dtype.role != Role::numpy_dtype ||
        arguments(pickle_, dtype) == 0) {
      return unknown;
    }
    std::string bytes;
    if (value.kind == Kind::bytes) {
      bytes = value.data;
    } else if (value.kind == Kind::call && value.role == Role::encode &&
               arguments(pickle_, value) == 2 &&
               argument(pickle_, value, 0).kind == Kind::text) {
      // Protocol 2 has no bytes: Python writes them as the text whose Latin-1 form they are.
      const std::string_view text = argument(pickle_, value, 0).data.substr(0, kValueLimit);
      for (std::size_t i = 0; i < text.size(); ++i) {
        const auto lead = static_cast<unsigned char>(text[i]);
        if (lead < 0x80) {
          bytes += static_cast<char>(lead);
        } else if (lead < 0xc4 && i + 1 < text.size()) {
          bytes += static_cast<char>(lead << 6 | (static_cast<unsigned char>(text[++i]) & 0x3f));
        } else {
          return unknown;
        }
      }
    }
    const std::string_view code = argument(pickle_, dtype, 0).data;
    if (code == "f8" && bytes.size() == 8) return real_text(little_endian<double>(bytes.data()));
    if (code == "f4" && bytes.size() == 4) return real_text(little_endian<float>(bytes.data()));
    if (code == "i8" && bytes.size() == 8) {
      return std::to_string(little_endian<std::int64_t>(bytes.data()));
    }
    if (code == "i4" && bytes.size() == 4) {
      return std::to_string(little_endian<std::int32_t>(bytes.data()));
    }
    if (code == "b1" && bytes.size() == 1) return bytes[0] ? "True" : "False";
    return unknown;
  }

  // A list of values without parts: "[0.9, 0.999]"; nothing when it holds anything else.
  std::optional<std::string> short_list(const Node& list) {
    if (list.kind != Kind::list && list.kind != Kind::tuple) return std::nullopt;
    spend(list, list.items.size());  // looking at them costs time, however short the text
    std::string text = "[";
    for (std::size_t i = 0; i < list.items.size(); ++i) {
      const Node& item = pickle_.at(list.items[i]);
      const bool plain = item.kind == Kind::none || item.kind == Kind::boolean ||
                         item.kind == Kind::integer || item.kind == Kind::real ||
                         item.kind == Kind::text;
      if (!plain) return std::nullopt;
      if (i < kListedItems) text += (i ? ", " : "") + *text_of(item);
    }
    const std::size_t more = list.items.size() - std::min(list.items.size(), kListedItems);
    return text + (more ? ", and " + std::to_string(more) + " more]" : "]");
  }

  static bool is_parameter(const Node& node) {
    return node.kind == Kind::call && (node.role == Role::rebuild_parameter ||
                                       node.role == Role::rebuild_parameter_with_state);
  }
  static bool is_tensor(const Node& node) {
    return is_parameter(node) || (node.kind == Kind::call && (node.role == Role::rebuild_tensor ||
                                                              node.role == Role::rebuild_tensor_v2 ||
                                                              node.role == Role::rebuild_tensor_v3));
  }

  std::vector<std::int64_t> integers(const Node& given, const char* what) {
    const bool wrapped = given.kind == Kind::call && given.role == Role::size &&
                         arguments(pickle_, given) == 1;
    const Node& list = wrapped ? argument(pickle_, given, 0) : given;
    if ((list.kind != Kind::tuple && list.kind != Kind::list) ||
        list.items.size() > kDimensionLimit) {
      throw DataError(pickle_.where(given), std::string(what) + " is not a short list of integers");
    }
    spend(given, list.items.size() * sizeof(std::int64_t));
    std::vector<std::int64_t> values;
    for (const Ref ref : list.items) {
      values.push_back(static_cast<std::int64_t>(natural(pickle_, pickle_.at(ref), what)));
    }
    return values;
  }

  StoredTensor tensor(const Node& node, int depth) {
    const std::size_t count = arguments(pickle_, node);
    const auto wrong = [&](const std::string& what) {
      throw DataError(pickle_.where(node), "a tensor " + what);
    };
    if (is_parameter(node)) {  // (tensor, requires_grad, hooks[, state])
      const bool fits = count == (node.role == Role::rebuild_parameter ? 3 : 4);
      if (!fits || depth > 0 || !is_tensor(argument(pickle_, node, 0))) {
        wrong("is not made as torch._utils makes a parameter");
      }
      return tensor(argument(pickle_, node, 0), depth + 1);
    }
    // (storage, first item, sizes, strides[, requires_grad, hooks[, dtype][, metadata]])
    const std::size_t expected = node.role == Role::rebuild_tensor      ? 4
                                 : node.role == Role::rebuild_tensor_v2 ? 6
                                                                        : 7;
    const bool metadata = node.role != Role::rebuild_tensor && count == expected + 1;
    if ((count != expected && !metadata) ||
        argument(pickle_, node, 0).kind != Kind::persistent) {
      wrong("is not made as torch._utils makes it");
    }
    if (metadata) {
      const Node& given = argument(pickle_, node, expected);
      if (given.kind != Kind::none && (given.kind != Kind::dict || !given.items.empty())) {
        wrong("is a conjugated or negated view; save a clone of it instead");
      }
    }
    const StorageId storage = storage_id(pickle_, argument(pickle_, node, 0));
    StoredTensor made{.type = storage.item, .storage = index_.at(storage.key)};
    std::uint64_t items = storage.viewed;
    if (node.role == Role::rebuild_tensor_v3) {
      const Node& dtype = argument(pickle_, node, 6);
      if (dtype.kind != Kind::global || dtype.role != Role::dtype) wrong("has no dtype");
      made.type = dtype.item;
      items = storage.bytes() / info(made.type).bytes;
      if (storage.viewed != storage.items) wrong("of plain bytes lies in a view of a storage");
    }
    made.offset = natural(pickle_, argument(pickle_, node, 1), "a tensor's first item");
    made.sizes = integers(argument(pickle_, node, 2), "a tensor's shape");
    made.strides = integers(argument(pickle_, node, 3), "a tensor's strides");
    check_extent(made, items, pickle_.where(node));
    made.offset += storage.first;
    return made;
  }

  const Pickle& pickle_;
  const std::map<std::string_view, std::size_t>& index_;
  TensorFile& out_;
  std::uint64_t visits_ = 0, bytes_ = 0;
};

}  // namespace

std::map<std::string_view, StorageId> storages_of(const Pickle& pickle) {
  std::map<std::string_view, StorageId> storages;
  for (const Node& node : pickle.nodes()) {
    if (node.kind != Kind::persistent) continue;
    const StorageId id = storage_id(pickle, node);
    const auto [known, added] = storages.emplace(id.key, id);
    if (!added && known->second.bytes() != id.bytes()) {
      throw DataError(pickle.where(node), "the storage '" + shown(id.key) + "' is given " +
                                              std::to_string(known->second.bytes()) + " bytes, and " +
                                              std::to_string(id.bytes()) + " elsewhere");
    }
  }
  return storages;
}

void read_objects(const Pickle& pickle, const std::map<std::string_view, std::size_t>& index,
                  TensorFile& out) {
  Reader(pickle, index, out).read(pickle.root(), "", 0);
}

}  // namespace dkdm::io

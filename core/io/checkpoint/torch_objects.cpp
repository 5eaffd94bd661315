// The walk through a pickle's objects: which of them hold tensors, and what else there is.
#include "io/checkpoint/torch_objects.hpp"

#include <algorithm>
#include <map>

#include "io/checkpoint/pickle_calls.hpp"
#include "io/checkpoint/torch_tensors.hpp"
#include "io/checkpoint/torch_values.hpp"

namespace dkdm::io {
namespace {

using pickle::arguments_of;
using pickle::is_plain;
using pickle::Kind;
using pickle::Node;
using pickle::Pickle;
using pickle::Ref;

constexpr int kDepthLimit = 64;
constexpr std::uint64_t kVisitLimit = std::uint64_t{1}
                                      << 22;  // values, however often they are shared
constexpr std::uint64_t kByteLimit = std::uint64_t{1} << 28;  // of names, shapes and values

class Reader {
 public:
  Reader(const Pickle& pickle, const std::map<std::string_view, std::size_t>& index,
         TensorFile& out)
      : pickle_(pickle), texts_(pickle), index_(index), out_(out) {}

  void read(const Node& node, const std::string& path, int depth) {
    spend(node, path.size() + node.items.size());
    if (is_tensor(pickle_, node)) {  // at the top: below, its container takes it
      StoredState state{path, {}};
      take_tensor(state, "", node, path);
      if (!state.tensors.empty()) out_.states.push_back(std::move(state));
    } else if (!has_children(node)) {
      keep_value(node, path, texts_.text(node));
    } else if (depth > kDepthLimit) {
      keep_value(node, path,
                 "nested deeper than " + std::to_string(kDepthLimit) + " levels: not read");
    } else if (std::find(open_.begin(), open_.end(), &node) != open_.end()) {
      keep_value(node, path, "refers back to what it is in");
    } else {
      open_.push_back(&node);
      read_open(node, path, depth);
      open_.pop_back();
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
      throw DataError(pickle_.where(node),
                      "its values refer to each other so often that reading "
                      "them would not end");
    }
  }

  void read_open(const Node& node, const std::string& path, int depth) {
    if (node.kind == Kind::call) {
      // Objects know each other in circles: each is gone through where it is met first.
      const auto [seen, fresh] = objects_.emplace(&node, path);
      if (!fresh) {
        return keep_value(
            node, path,
            texts_.text(node) + ", the same as " + (seen->second.empty() ? "." : seen->second));
      }
      if (is_module(node)) return read_module(node, path);
      keep_value(node, path, texts_.text(node));
    } else if (const auto value = texts_.short_list(node)) {
      return keep_value(node, path, *value);
    }
    const std::vector<Item> items = children(node);
    // Tensors first, so that a dictionary precedes those inside it.
    StoredState state{path, {}};
    for (const Item& item : items) {
      if (is_tensor(pickle_, *item.node))
        take_tensor(state, item.name, *item.node, below(path, item.name));
    }
    if (!state.tensors.empty()) {
      spend(node, path.size());
      out_.states.push_back(std::move(state));
    }
    for (const Item& item : items) {
      if (!is_tensor(pickle_, *item.node)) read(*item.node, below(path, item.name), depth + 1);
    }
  }

  static std::string below(const std::string& path, const std::string& name) {
    return path.empty() ? name : path + "." + name;
  }

  // What is gone through: containers, and objects that hold more than plain arguments.
  bool has_children(const Node& node) const {
    switch (node.kind) {
      case Kind::dict:
      case Kind::list:
      case Kind::tuple:
      case Kind::set: return true;
      case Kind::call: {
        if (ValueTexts::is_value(node.role)) return false;
        if (node.items.size() > Node::kEntries) return true;
        const auto& given = arguments_of(pickle_, node).items;
        return arguments_of(pickle_, node).kind == Kind::tuple &&
               std::any_of(given.begin(), given.end(),
                           [&](Ref ref) { return !is_plain(pickle_.at(ref)); });
      }
      default: return false;
    }
  }

  std::vector<Item> children(const Node& node) {
    Names names;
    if (node.kind == Kind::dict) {
      add_entries(names, node);
    } else if (node.kind != Kind::call) {
      add_elements(names, node);
    } else {
      const Node& given = arguments_of(pickle_, node);
      for (std::size_t i = 0; given.kind == Kind::tuple && i < given.items.size(); ++i) {
        if (!is_plain(pickle_.at(given.items[i]))) add_part(names, pickle_.at(given.items[i]), i);
      }
      for (std::size_t i = Node::kEntries; i < node.items.size(); ++i) {
        if (node.items[i] == pickle::kNothing) continue;
        const Node& part = pickle_.at(node.items[i]);
        if (i == Node::kElements) {
          add_elements(names, part);
        } else if (i >= Node::kStates && part.kind == Kind::tuple) {  // (attributes, slots)
          for (std::size_t j = 0; j < part.items.size(); ++j) {
            if (!is_plain(pickle_.at(part.items[j]))) add_part(names, pickle_.at(part.items[j]), j);
          }
        } else {
          add_part(names, part, i - Node::kEntries);
        }
      }
    }
    return std::move(names.items);
  }

  // The items of a container, each under a name of its own.
  struct Names {
    std::vector<Item> items;
    std::map<std::string, std::vector<std::pair<const Node*, std::size_t>>> keys;  // of equal text
  };

  void add(Names& names, std::string name, const Node* key, const Node& value) {
    spend(value, name.size());
    auto& same = names.keys[name];
    for (const auto& [other, index] : same) {
      // Python keeps the last value of a key, where the first one was.
      if (key && other && other->kind == key->kind && other->data == key->data &&
          other->number == key->number && other->items == key->items) {
        names.items[index].node = &value;
        return;
      }
    }
    same.emplace_back(key, names.items.size());
    // 1 and "1" are two keys of one text.
    if (same.size() > 1) name += " (" + std::to_string(same.size()) + ")";
    names.items.push_back({std::move(name), &value});
  }

  void add_entries(Names& names, const Node& dict) {
    for (std::size_t i = 0; i + 1 < dict.items.size(); i += 2) {
      const Node& key = pickle_.at(dict.items[i]);
      add(names, texts_.key(key), &key, pickle_.at(dict.items[i + 1]));
    }
  }

  void add_elements(Names& names, const Node& list) {
    for (std::size_t i = 0; i < list.items.size(); ++i) {
      add(names, std::to_string(i), nullptr, pickle_.at(list.items[i]));
    }
  }

  // A part of an object: a dictionary is its attributes, anything else has its place as name.
  void add_part(Names& names, const Node& part, std::size_t index) {
    if (part.kind == Kind::dict) {
      add_entries(names, part);
    } else {
      add(names, std::to_string(index), nullptr, part);
    }
  }

  // The attributes of a torch.nn.Module that hold its tensors; null where there are none.
  const Node* attribute(const Node& object, std::string_view name) const {
    for (std::size_t i = Node::kStates; i < object.items.size(); ++i) {
      const Node& state = pickle_.at(object.items[i]);
      for (std::size_t j = 0; state.kind == Kind::dict && j + 1 < state.items.size(); j += 2) {
        const Node& key = pickle_.at(state.items[j]);
        if (key.kind == Kind::text && key.data == name) return &pickle_.at(state.items[j + 1]);
      }
    }
    return nullptr;
  }

  bool is_module(const Node& node) const {
    if (node.kind != Kind::call) return false;
    for (const char* name : {"_parameters", "_buffers", "_modules"}) {
      const Node* held = attribute(node, name);
      if (!held || held->kind != Kind::dict) return false;
    }
    return true;
  }

  // A module that was pickled whole: the tensors of its state_dict, whose names follow from it.
  void read_module(const Node& module, const std::string& path) {
    keep_value(module, path,
               texts_.text(module) +
                   ", a torch.nn.Module pickled as a whole: its weights "
                   "are read, its code is not");
    StoredState state{path, {}};
    collect_module(state, module, "", path, 0);
    if (!state.tensors.empty()) out_.states.push_back(std::move(state));
  }

  void collect_module(StoredState& state, const Node& module, const std::string& prefix,
                      const std::string& path, int depth) {
    spend(module, prefix.size());
    const Node* transient = attribute(module, "_non_persistent_buffers_set");
    for (const char* kind : {"_parameters", "_buffers", "_modules"}) {
      const Node& held = *attribute(module, kind);
      Names names;
      add_entries(names, held);
      for (const Item& item : names.items) {
        const std::string name = prefix + item.name;
        if (is_tensor(pickle_, *item.node)) {
          if (kind == std::string_view("_buffers") && transient && holds(*transient, item.name))
            continue;
          take_tensor(state, name, *item.node, below(path, name));
        } else if (is_module(*item.node) && depth < kDepthLimit) {
          collect_module(state, *item.node, name + ".", path, depth + 1);
        } else if (item.node->kind != Kind::none) {
          state.left_out.emplace_back(name, texts_.text(*item.node));
        }
      }
    }
  }

  bool holds(const Node& set, std::string_view name) const {
    return std::any_of(set.items.begin(), set.items.end(), [&](Ref ref) {
      return pickle_.at(ref).kind == Kind::text && pickle_.at(ref).data == name;
    });
  }

  void keep_value(const Node& node, const std::string& path, const std::string& value) {
    spend(node, path.size() + value.size());
    out_.values[path] = value;
  }

  // Puts the tensor into `state`, or says there and among the values what it is instead.
  void take_tensor(StoredState& state, const std::string& name, const Node& node,
                   const std::string& path) {
    StoredTensor made;
    const std::string what = read_tensor(pickle_, node, index_, made);
    spend(node, made.sizes.size() * sizeof(std::int64_t));
    if (what.empty()) {
      state.tensors.emplace_back(name, std::move(made));
      return;
    }
    keep_value(node, path, what);
    state.left_out.emplace_back(name, what);
  }

  const Pickle& pickle_;
  const ValueTexts texts_;
  const std::map<std::string_view, std::size_t>& index_;
  TensorFile& out_;
  std::uint64_t visits_ = 0, bytes_ = 0;
  std::vector<const Node*> open_;               // what is being gone through, outermost first
  std::map<const Node*, std::string> objects_;  // where each was met first
};

}  // namespace

void read_objects(const Pickle& pickle, const std::map<std::string_view, std::size_t>& index,
                  TensorFile& out) {
  Reader(pickle, index, out).read(pickle.root(), "", 0);
}

}  // namespace dkdm::io

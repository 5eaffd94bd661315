// Short names for the parts of a pickle's calls and globals.
#pragma once

#include "io/checkpoint/pickle.hpp"

namespace dkdm::io::pickle {

inline const Node& function_of(const Pickle& pickle, const Node& call) {
  return pickle.at(call.items[Node::kFunction]);
}

// A tuple in every pickle that Python wrote.
inline const Node& arguments_of(const Pickle& pickle, const Node& call) {
  return pickle.at(call.items[Node::kArguments]);
}

inline std::size_t argument_count(const Pickle& pickle, const Node& call) {
  return arguments_of(pickle, call).items.size();
}

inline const Node& argument(const Pickle& pickle, const Node& call, std::size_t index) {
  return pickle.at(arguments_of(pickle, call).items[index]);
}

inline std::string_view module_of(const Pickle& pickle, const Node& global) {
  return pickle.at(global.items[0]).data;
}

// Holds no other values that are worth going through.
inline bool is_plain(const Node& node) {
  switch (node.kind) {
    case Kind::dict:
    case Kind::list:
    case Kind::tuple:
    case Kind::set:
    case Kind::call: return false;
    default: return true;
  }
}

}  // namespace dkdm::io::pickle

// Definitions: torch_values.hpp.
#include "io/checkpoint/torch_values.hpp"

#include <array>
#include <charconv>

#include "io/checkpoint/pickle_calls.hpp"
#include "io/checkpoint/torch_tensors.hpp"
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
using pickle::Role;

constexpr std::size_t kNameLimit = 4096, kValueLimit = 400;  // bytes
constexpr std::size_t kListedItems = 8;                      // of a list of numbers
constexpr std::size_t kArgumentBytes = 80;                   // of a call's, to be shown

// Python's repr of a float, but for the digits of an exponent.
std::string real_text(double value) {
  std::array<char, 32> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr;
  std::string text(buffer.data(), end);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

}  // namespace

std::string ValueTexts::text(const Node& node) const {
  switch (node.kind) {
    case Kind::none: return "None";
    case Kind::boolean: return node.number ? "True" : "False";
    case Kind::integer: return std::to_string(node.number);
    case Kind::real: return real_text(node.real());
    case Kind::big_integer: return "an integer of " + std::to_string(node.data.size()) + " bytes";
    case Kind::bytes: return std::to_string(node.data.size()) + " bytes";
    case Kind::text: {
      std::string shortened = escaped(node.data, kValueLimit);
      for (const char* line :
           {"\\x0a", "\\x0d", "\\x09"}) {  // a text of several lines stays legible
        for (auto at = shortened.find(line); at != std::string::npos;
             at = shortened.find(line, at)) {
          shortened.replace(at, 4, " ");
        }
      }
      return shortened;
    }
    case Kind::global: return global_name(node);
    case Kind::persistent:
      return storage_id(pickle_, node) ? "a storage" : "a reference to elsewhere";
    case Kind::call: return call_text(node);
    case Kind::list:
    case Kind::tuple:
    case Kind::set:
      return short_list(node).value_or(node.kind == Kind::list    ? "a list"
                                       : node.kind == Kind::tuple ? "a tuple"
                                                                  : "a set");
    case Kind::dict: return "a dictionary";
  }
  return "?";
}

std::string ValueTexts::global_name(const Node& global) const {
  if (global.role == Role::dtype) return "torch." + std::string(global.data);
  const std::string_view module = module_of(pickle_, global);
  const std::string name = shown(global.data, kNameLimit);
  return module == "__builtin__" || module == "builtins" ? name : shown(module) + "." + name;
}

std::string ValueTexts::call_text(const Node& call) const {
  const Node& given = arguments_of(pickle_, call);
  const std::size_t count = given.kind == Kind::tuple ? given.items.size() : 0;
  switch (call.role) {
    case Role::numpy_scalar: return numpy_scalar(call);
    case Role::numpy_array: return "a numpy array";
    case Role::numpy_dtype: return "a numpy type";
    case Role::encode:
    case Role::bytes: return "bytes";
    case Role::device:
    case Role::layout:
      return count > 0 && pickle::is_plain(argument(pickle_, call, 0))
                 ? text(argument(pickle_, call, 0))
                 : "?";
    case Role::size:
      return count == 1 ? short_list(argument(pickle_, call, 0)).value_or("a size") : "a size";
    default: break;
  }
  const Node* function = &function_of(pickle_, call);
  // Before 1.6, torch.save put a module's class and source into a persistent id.
  if (function->kind == Kind::persistent) {
    const Node& id = pickle_.at(function->items[0]);
    if (id.kind == Kind::tuple && id.items.size() > 1) function = &pickle_.at(id.items[1]);
  }
  std::string name = "a value made by a call";
  if (function->kind == Kind::global) {
    // copyreg._reconstructor(class, base, state), copyreg.__newobj__(class, …).
    const std::string_view module = module_of(pickle_, *function);
    const bool copies = (module == "copyreg" || module == "copy_reg") && count > 0 &&
                        argument(pickle_, call, 0).kind == Kind::global;
    name = global_name(copies ? argument(pickle_, call, 0) : *function);
    name = (std::string("aeiouAEIOU").find(name[0]) == std::string::npos ? "a " : "an ") + name;
    if (copies || count == 0 || call.items.size() > Node::kEntries) return name;
    if (const auto values = short_list(given); values && values->size() < kArgumentBytes) {
      return name + "(" + values->substr(1, values->size() - 2) + ")";
    }
  }
  return name;
}

// scalar(dtype(code, …), bytes): the number, for the types that training writes.
std::string ValueTexts::numpy_scalar(const Node& call) const {
  const std::string unknown = "a numpy number";
  if (argument_count(pickle_, call) != 2) return unknown;
  const Node& dtype = argument(pickle_, call, 0);
  const Node& value = argument(pickle_, call, 1);
  if (dtype.kind != Kind::call || dtype.role != Role::numpy_dtype ||
      argument_count(pickle_, dtype) == 0) {
    return unknown;
  }
  std::string bytes;
  if (value.kind == Kind::bytes) {
    bytes = value.data;
  } else if (value.kind == Kind::call && value.role == Role::encode &&
             argument_count(pickle_, value) == 2 &&
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

std::optional<std::string> ValueTexts::short_list(const Node& list) const {
  if (list.kind != Kind::list && list.kind != Kind::tuple && list.kind != Kind::set) {
    return std::nullopt;
  }
  std::string joined = "[";
  for (std::size_t i = 0; i < list.items.size(); ++i) {
    const Node& item = pickle_.at(list.items[i]);
    if (!pickle::is_plain(item) || item.kind == Kind::persistent) return std::nullopt;
    if (i < kListedItems) joined += (i ? ", " : "") + text(item);
  }
  const std::size_t more = list.items.size() - std::min(list.items.size(), kListedItems);
  return joined + (more ? ", and " + std::to_string(more) + " more]" : "]");
}

std::string ValueTexts::key(const Node& node) const {
  // A class's name alone, as Lightning keys its callbacks' states; texts without quotes.
  const bool named = node.kind == Kind::global || node.kind == Kind::text;
  return escaped(named ? std::string(node.data) : text(node), kNameLimit);
}

bool ValueTexts::is_value(Role role) {
  switch (role) {
    case Role::size:
    case Role::device:
    case Role::layout:
    case Role::numpy_scalar:
    case Role::numpy_array:
    case Role::numpy_dtype:
    case Role::encode:
    case Role::bytes: return true;
    default: return false;
  }
}

}  // namespace dkdm::io

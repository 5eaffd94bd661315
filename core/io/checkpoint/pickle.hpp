// Python's pickle, read as a description and never run: an unknown global, call or persistent id is
// a node like any other, and what it would have made is told by its name. Only what is no pickle at
// all (an unknown opcode, a missing value, sizes beyond the limits in pickle.cpp) ends the reading,
// with an error that names the byte.
//
// A global of kGlobals, torch.<X>Storage and torch.<dtype> of item_type.hpp have a meaning for
// their readers (Role). Everything that makes an object (REDUCE, NEWOBJ, NEWOBJ_EX, INST, OBJ)
// makes a Node of kind `call`; for the dictionaries and sets of Python itself it makes a dictionary
// or a set.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "io/array/item_type.hpp"
#include "io/input_file.hpp"

namespace dkdm::io::pickle {

enum class Role : std::uint8_t {
  unknown,
  storage_type,  // torch.FloatStorage, …: `item` says which
  dtype,         // torch.float32, …: `item` says which
  untyped_storage,
  dictionary,
  default_dictionary,
  set,  // Python's own
  rebuild_tensor,
  rebuild_tensor_v2,
  rebuild_tensor_v3,
  rebuild_parameter,
  rebuild_parameter_with_state,
  rebuild_from_type,
  size,
  device,
  layout,
  numpy_scalar,
  numpy_array,
  numpy_dtype,
  encode,
  bytes
};

struct Global {
  std::string_view module, name;
  Role role;
};

inline constexpr std::array<Global, 35> kGlobals{{
    {"collections", "OrderedDict", Role::dictionary},
    {"collections", "Counter", Role::dictionary},
    {"__builtin__", "dict", Role::dictionary},
    {"builtins", "dict", Role::dictionary},
    {"collections", "defaultdict", Role::default_dictionary},
    {"__builtin__", "set", Role::set},
    {"builtins", "set", Role::set},
    {"__builtin__", "frozenset", Role::set},
    {"builtins", "frozenset", Role::set},
    {"torch._utils", "_rebuild_tensor", Role::rebuild_tensor},
    {"torch._utils", "_rebuild_tensor_v2", Role::rebuild_tensor_v2},
    {"torch._utils", "_rebuild_tensor_v3", Role::rebuild_tensor_v3},
    {"torch._utils", "_rebuild_parameter", Role::rebuild_parameter},
    {"torch._utils", "_rebuild_parameter_with_state", Role::rebuild_parameter_with_state},
    {"torch._tensor", "_rebuild_from_type_v2", Role::rebuild_from_type},
    {"torch", "Size", Role::size},
    {"torch", "device", Role::device},
    {"torch.serialization", "_get_layout", Role::layout},
    {"torch", "UntypedStorage", Role::untyped_storage},
    {"torch", "_UntypedStorage", Role::untyped_storage},
    {"torch.storage", "UntypedStorage", Role::untyped_storage},
    {"torch.storage", "_UntypedStorage", Role::untyped_storage},
    {"numpy.core.multiarray", "scalar", Role::numpy_scalar},
    {"numpy._core.multiarray", "scalar", Role::numpy_scalar},
    {"numpy.core.multiarray", "_reconstruct", Role::numpy_array},
    {"numpy._core.multiarray", "_reconstruct", Role::numpy_array},
    {"numpy.core.numeric", "_frombuffer", Role::numpy_array},
    {"numpy._core.numeric", "_frombuffer", Role::numpy_array},
    {"numpy", "dtype", Role::numpy_dtype},
    {"_codecs", "encode", Role::encode},
    {"__builtin__", "bytes", Role::bytes},
    {"builtins", "bytes", Role::bytes},
    {"__builtin__", "bytearray", Role::bytes},
    {"builtins", "bytearray", Role::bytes},
    {"torch._tensor", "_rebuild_from_type", Role::rebuild_from_type},
}};

enum class Kind : std::uint8_t {
  none,
  boolean,
  integer,
  big_integer,
  real,
  text,
  bytes,
  list,
  tuple,
  dict,
  set,
  global,
  persistent,
  call
};

using Ref = std::uint32_t;  // index of a Node
inline constexpr Ref kNothing = std::numeric_limits<Ref>::max();

struct Node {
  Kind kind = Kind::none;
  Role role{};              // global, call
  ItemType item{};          // global of role storage_type or dtype
  std::uint32_t at = 0;     // byte of its opcode, from the pickle's begin
  std::int64_t number = 0;  // boolean, integer, real (its bits)
  std::string_view data{};  // text, bytes, big_integer (little-endian); a global's name
  // list, tuple, set; dict: key, value, key, …; persistent: its id; global: its module's name.
  // call: see the positions below.
  std::vector<Ref> items{};

  // Of a call: its arguments and function, the dictionary and the list of the items that were set
  // and appended later (kNothing where there are none), then each state that it was given (BUILD).
  static constexpr std::size_t kArguments = 0, kFunction = 1, kEntries = 2, kElements = 3,
                               kStates = 4;

  double real() const { return std::bit_cast<double>(number); }
};

// One pickle. Views into the file's bytes, which must outlive it.
class Pickle {
 public:
  // Reads the pickle that begins at byte `begin` of `file` and ends before `end` at the latest.
  // `name` is the part of the file, for messages ("archive/data.pkl"; "" = the file itself).
  Pickle(const MappedFile& file, std::uint64_t begin, std::uint64_t end, std::string name);

  const Node& root() const { return nodes_[root_]; }
  const Node& at(Ref ref) const { return nodes_[ref]; }
  const std::vector<Node>& nodes() const { return nodes_; }  // in the order of the file
  // The byte of the file after the pickle.
  std::uint64_t end() const { return begin_ + position_; }
  // "FILE: byte 12 (archive/data.pkl)": where the node's opcode is.
  std::string where(const Node& node) const { return where(node.at); }

 private:
  std::string where(std::uint64_t position) const;
  [[noreturn]] void fail(const std::string& message) const;  // at the current opcode
  void run();
  bool run_scalar(unsigned char opcode);
  bool run_line(unsigned char opcode);
  bool run_container(unsigned char opcode);
  bool run_memo(unsigned char opcode);
  bool run_object(unsigned char opcode);

  std::string_view take(std::uint64_t bytes);
  template <class T>
  T take_number();
  std::string_view take_line(std::uint64_t limit);

  Ref make(Kind kind);
  void push(Ref ref);
  Ref pop();
  Ref& top();
  Ref make_items(Kind kind, std::vector<Ref> items);
  std::vector<Ref> pop_to_mark();
  void push_text(std::string_view text);
  void push_string(std::string_view string);
  void push_integer(std::string_view little_endian);
  void append(Ref container, const std::vector<Ref>& items);
  void remember(std::uint64_t index);
  void recall(std::uint64_t index);
  void push_global(std::string_view module, std::string_view name);
  Ref part(Ref call, std::size_t position, Kind kind);
  void add_items(unsigned char opcode);
  void set_items(const std::vector<Ref>& items);
  void make_object(Ref function, Ref arguments);
  bool add_entries(Ref dict, Ref argument);
  void build();
  void count(std::uint64_t references);

  const MappedFile& file_;
  std::uint64_t begin_;
  std::string name_;
  std::string_view bytes_;
  std::uint64_t position_ = 0, opcode_at_ = 0;
  std::uint64_t references_ = 0;
  std::vector<Node> nodes_;
  std::vector<Ref> stack_;
  std::vector<std::size_t> marks_;
  std::vector<Ref> memo_;
  Ref root_ = 0;
};

}  // namespace dkdm::io::pickle

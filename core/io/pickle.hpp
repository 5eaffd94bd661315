// Python's pickle, read as a description and never run. An opcode or a global outside the lists
// below ends the reading with an error that names it and its byte.
//
// Opcodes: what protocols 2 to 5 use for None, booleans, numbers, texts, bytes, lists, tuples,
// dictionaries, the memo, GLOBAL and STACK_GLOBAL, BINPERSID, REDUCE and BUILD (the table in pickle.cpp).
// Globals: kGlobals, and torch.<X>Storage and torch.<dtype> of item_type.hpp. REDUCE of a global
// makes a Node of kind `call`, or for the dictionaries among them a dictionary.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/input_file.hpp"
#include "io/item_type.hpp"

namespace dkdm::io::pickle {

enum class Role : std::uint8_t {
  storage_type,  // torch.FloatStorage, …: `item` says which
  dtype,         // torch.float32, …: `item` says which
  untyped_storage,
  ordered_dict, counter,
  rebuild_tensor, rebuild_tensor_v2, rebuild_tensor_v3,
  rebuild_parameter, rebuild_parameter_with_state,
  size, device,
  numpy_scalar, numpy_reconstruct, numpy_array, numpy_dtype, encode, bytes,
  class_name  // of a class that stands there as a dictionary's key
};

struct Global {
  std::string_view module, name;
  Role role;
  bool callable;
};

inline constexpr std::array<Global, 27> kGlobals{{
    {"collections", "OrderedDict", Role::ordered_dict, true},
    {"collections", "Counter", Role::counter, true},
    {"torch._utils", "_rebuild_tensor", Role::rebuild_tensor, true},
    {"torch._utils", "_rebuild_tensor_v2", Role::rebuild_tensor_v2, true},
    {"torch._utils", "_rebuild_tensor_v3", Role::rebuild_tensor_v3, true},
    {"torch._utils", "_rebuild_parameter", Role::rebuild_parameter, true},
    {"torch._utils", "_rebuild_parameter_with_state", Role::rebuild_parameter_with_state, true},
    {"torch", "Size", Role::size, true},
    {"torch", "device", Role::device, true},
    {"torch", "UntypedStorage", Role::untyped_storage, false},
    {"torch", "_UntypedStorage", Role::untyped_storage, false},
    {"torch.storage", "UntypedStorage", Role::untyped_storage, false},
    {"torch.storage", "_UntypedStorage", Role::untyped_storage, false},
    {"numpy.core.multiarray", "scalar", Role::numpy_scalar, true},
    {"numpy._core.multiarray", "scalar", Role::numpy_scalar, true},
    {"numpy.core.multiarray", "_reconstruct", Role::numpy_reconstruct, true},
    {"numpy._core.multiarray", "_reconstruct", Role::numpy_reconstruct, true},
    {"numpy", "ndarray", Role::numpy_array, false},
    {"numpy", "dtype", Role::numpy_dtype, true},
    {"_codecs", "encode", Role::encode, true},
    {"__builtin__", "bytes", Role::bytes, true},
    {"builtins", "bytes", Role::bytes, true},
    {"pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint", Role::class_name, false},
    {"pytorch_lightning.callbacks.early_stopping", "EarlyStopping", Role::class_name, false},
    {"pytorch_lightning.callbacks.lr_monitor", "LearningRateMonitor", Role::class_name, false},
    {"pytorch_lightning.callbacks.progress", "ProgressBar", Role::class_name, false},
    {"pytorch_lightning.callbacks.gpu_stats_monitor", "GPUStatsMonitor", Role::class_name, false},
}};

enum class Kind : std::uint8_t {
  none, boolean, integer, big_integer, real, text, bytes, list, tuple, dict, global, persistent, call
};

using Ref = std::uint32_t;  // index of a Node

struct Node {
  Kind kind = Kind::none;
  Role role{};                 // global, call
  ItemType item{};             // global of role storage_type or dtype
  std::uint32_t at = 0;        // byte of its opcode, from the pickle's begin
  std::int64_t number = 0;     // boolean, integer, real (its bits)
  std::string_view data{};     // text (UTF-8), bytes, big_integer (little-endian); a global's name
  std::vector<Ref> items{};    // list, tuple; dict: key, value, key, …; persistent: its id;
                               // call: the arguments' tuple and, after BUILD, the state

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
  bool run_container(unsigned char opcode);
  bool run_memo(unsigned char opcode);
  void run_object(unsigned char opcode);

  std::string_view take(std::uint64_t bytes);
  template <class T>
  T take_number();
  std::string_view take_line();

  Ref make(Kind kind);
  void push(Ref ref);
  Ref pop();
  Ref& top();
  std::vector<Ref> pop_to_mark();
  void push_text(std::string_view text);
  void push_string(std::string_view string);
  void push_integer(std::string_view little_endian);
  void push_tuple(std::vector<Ref> items);
  void append(Ref container, const std::vector<Ref>& items);
  void remember(std::uint64_t index);
  void recall(std::uint64_t index);
  void push_global(std::string_view module, std::string_view name);
  void reduce();
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

// Checkpoint files of other programs: PyTorch's .pt, .pth and .ckpt (zip and legacy) and safetensors.
// Read without Python and without running anything that a file asks for. The file is mapped, not
// read: a tensor is a view of the mapping, which lives as long as one of its tensors, and a write to
// a tensor never reaches the file. Do not shorten a file while its tensors are in use.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "dkdm/error.hpp"

namespace torch::nn {
class Module;
}

namespace dkdm::io {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;  // in the file's order

// One dictionary (or list, whose names are then 0, 1, …) that holds tensors directly.
struct StateDict {
  std::string path;  // where it lies: "" = the top, "state_dict", "optimizer.state.0"; joined by '.'
  NamedTensors tensors;
};

class Checksums;  // of the file's stored parts

struct CheckpointFile {
  std::string format;             // "torch zip", "torch legacy", "safetensors"
  std::vector<StateDict> states;  // in the file's order
  // Numbers, texts and short lists of them by path ("epoch", "optimizer.param_groups.0.lr"), as
  // Python would print them; a safetensors file's metadata.
  std::map<std::string, std::string> values{};
  std::shared_ptr<const Checksums> checksums{};  // of the parts of a zip
};

// Recognises the format by content, whatever the file's name. Tensors are on the CPU, in the
// file's dtypes, strides and sharing. Throws DataError naming the file and the byte for a file that
// is none of these, cut, inconsistent, or that asks for a pickle opcode or a global outside the list
// in core/io/pickle.hpp. Tensors' checksums are not looked at here (that would read all of a large
// file) but in select_state.
DKDM_API CheckpointFile read_checkpoint(const std::filesystem::path& file);

// The dictionary that holds a network. `path` names it ("." = the top); "" takes the only one, else
// the first of state_dict, model_state_dict, model, the top. An EMA copy is taken only when named.
// Compares the checksums of what its tensors lie in. `name` is the file, for the DataError that
// lists what there is.
DKDM_API const StateDict& select_state(const CheckpointFile& file, const std::string& path,
                                       const std::filesystem::path& name);

// Throws DataError naming the first tensor that holds NaN or an infinity, how many and where.
DKDM_API void check_finite(const StateDict& state, const std::filesystem::path& file);

// Copies `tensors` into the network's parameters and buffers of the same names, converting dtypes;
// memory formats stay. Throws DataError(`where`) for missing, unexpected and misshapen tensors: the
// first ten and how many more; nothing is copied then.
DKDM_API void load_strictly(const NamedTensors& tensors, torch::nn::Module& network,
                            const std::string& where);

// Parameters and buffers of a network under the names and in the order of PyTorch's state_dict().
DKDM_API NamedTensors state_of(const torch::nn::Module& network);

// A zip of an OrderedDict of contiguous CPU tensors, as torch.save writes a state_dict;
// torch.load(weights_only=True) of PyTorch 1.13 to 2.15 reads it. Throws StoreError naming the file.
DKDM_API void write_torch(const std::filesystem::path& file, const NamedTensors& tensors);

// safetensors in the given order (wider elements first, as the format's alignment wants).
DKDM_API void write_safetensors(const std::filesystem::path& file, const NamedTensors& tensors,
                                const std::map<std::string, std::string>& metadata = {});

}  // namespace dkdm::io

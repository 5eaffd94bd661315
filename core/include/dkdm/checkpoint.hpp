// Checkpoint files of other programs: PyTorch's .pt, .pth and .ckpt (zip and legacy) and
// safetensors. Read without Python and without running anything that a file asks for. The file is
// mapped, not read: a tensor is a view of the mapping, which lives as long as one of its tensors,
// and a write to a tensor never reaches the file. Do not shorten a file while its tensors are in
// use. Threads: any.
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
  std::string
      path;  // where it lies: "" = the top, "state_dict", "optimizer.state.0"; joined by '.'
  NamedTensors tensors;
  // Tensors of it that are not read, and what they are: ("w", "a sparse tensor").
  std::vector<std::pair<std::string, std::string>> left_out{};
};

class Checksums;  // of the file's stored parts

struct CheckpointFile {
  std::string format;             // "torch zip", "torch legacy", "safetensors"
  std::vector<StateDict> states;  // in the file's order
  // Numbers, texts and short lists of them by path ("epoch", "optimizer.param_groups.0.lr"), as
  // Python would print them; what everything else is ("an argparse.Namespace"); a safetensors
  // file's metadata.
  std::map<std::string, std::string> values{};
  std::shared_ptr<const Checksums> checksums{};  // of the parts of a zip
};

// Recognises the format by content, whatever the file's name. Tensors are on the CPU, in the
// file's dtypes, strides and sharing. A control character in a name is written as \x1b. Throws
// DataError naming the file and what it is instead, or the byte where it is cut or inconsistent.
// Nothing that a pickle asks for is run or imported: an object of an unknown class is described,
// and the tensors in it are had. Tensors' checksums are not looked at here (that would read all of
// a large file) but in select_state and choose_network.
DKDM_API CheckpointFile read_checkpoint(const std::filesystem::path& file);

enum class WeightsKind {
  given,  // the only ones of the file, which does not say what they are
  ema,    // a moving average of the weights of training
  raw     // those weights themselves, where the file has their average too
};

// A network's weights out of a file.
struct ChosenNetwork {
  std::string path;  // where they are, as `state` names them: "", "ema", "state_dict.model_ema"
  WeightsKind kind = WeightsKind::given;
  NamedTensors tensors;  // under the network's own names: without wrappers' and attributes'
  std::string said;      // which they are and what else there was, for the log; "" = nothing to say
};

// Finds the networks known to dkdm/architecture.hpp in all dictionaries of the file, behind any
// wrappers' names, and takes one: the moving average where there is one (ema, ema.shadow,
// state_dict_ema, model_ema, ema_model, torch.optim.swa_utils' averaged model, the nameless lists
// of diffusers' and torch_ema's shadow_params and LitEma's undotted names by the raw weights beside
// them), else the only one, else that of state_dict, model_state_dict, model, module, net, network,
// unet, the top. `state` names the dictionary, or the dictionary and what stands before the names;
// `preferred` raw takes the raw weights where the file has both. A file without a known network
// gives a whole dictionary by the same rule. Throws DataError that lists what there is where none
// or several fit, and for a moving average that cannot be brought to the network's names. Compares
// checksums.
DKDM_API ChosenNetwork choose_network(const CheckpointFile& file, const std::string& state,
                                      const std::filesystem::path& name,
                                      WeightsKind preferred = WeightsKind::ema);

// What a file without any network is ("the state of an optimizer …"), "" = nothing to say.
DKDM_API std::string kind_of_file(const CheckpointFile& file);

// The dictionary that holds the network, whole and under the file's own names: the one called
// `path` ("." = the top), or for "" where choose_network finds it. Compares the checksums of what
// its tensors lie in. `name` is the file, for the DataError that lists what there is.
DKDM_API const StateDict& select_state(const CheckpointFile& file, const std::string& path,
                                       const std::filesystem::path& name);

// Compares the checksums of the parts that `tensors` of this file lie in. Throws DataError naming
// the damaged one.
DKDM_API void compare_checksums(const CheckpointFile& file, const NamedTensors& tensors);

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
// torch.load(weights_only=True) of PyTorch 1.13 to 2.15 reads it. Throws StoreError naming the
// file.
DKDM_API void write_torch(const std::filesystem::path& file, const NamedTensors& tensors);

// safetensors in the given order (wider elements first, as the format's alignment wants).
DKDM_API void write_safetensors(const std::filesystem::path& file, const NamedTensors& tensors,
                                const std::map<std::string, std::string>& metadata = {});

}  // namespace dkdm::io

// FID-Inception's weights from the files that are in use.
#pragma once

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

#include "dkdm/checkpoint.hpp"
#include "dkdm/files.hpp"
#include "dkdm/graph_def.hpp"
#include "metrics/inception.hpp"
#include "metrics/inception_layout.hpp"

namespace dkdm::evaluators {

// Of pt_inception-2015-12-05-6726825d.pth in pytorch-fid's release fid_weights, and of
// weights-inception-2015-12-05-6726825d.pth in torch-fidelity's release v0.2.0.
inline constexpr char kPublishedSha256[] =
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2";

inline constexpr char kWhereWeightsAre[] =
    "pt_inception-2015-12-05-6726825d.pth (github.com/mseitzer/pytorch-fid, release fid_weights; "
    "SHA-256 6726825d0af5f729…) or classify_image_graph_def.pb (in inception-2015-12-05.tgz of "
    "download.tensorflow.org/models/image/imagenet)";

struct InceptionWeights {
  metrics::StateDict state;
  std::string sha256;      // of the file
  bool published = false;  // the file is the published .pth, byte for byte
  std::string content;     // SHA-256 over the tensors: the same for one network in either format
};

// What two files of one network share: every tensor as f32 in the layout's order.
inline std::string content_sha256(const metrics::StateDict& state) {
  std::string lines;
  for (const auto& [name, tensor] : state) {
    if (name.ends_with(".num_batches_tracked")) continue;
    const at::Tensor values = tensor.to(at::kFloat).contiguous();
    const auto* bytes = static_cast<const char*>(values.const_data_ptr());
    lines += name + " " + io::sha256(std::string(bytes, values.nbytes())) + "\n";
  }
  return io::sha256(lines);
}

// PyTorch's pt_inception-2015-12-05-6726825d.pth (pytorch-fid; torch-fidelity's copy is the same
// file), or TensorFlow's classify_image_graph_def.pb (inside inception-2015-12-05.tgz), recognised
// by content. Other weights in either layout are read too; then `published` is false, as it is for
// the graph, of which no hash is published. That names and shapes are right is for
// metrics::Inception to check. Throws DataError: no such file, with what to put there; neither
// format; a graph without a constant that is needed; a file whose name promises another hash.
inline InceptionWeights load_inception_weights(const std::filesystem::path& file) {
  if (!std::filesystem::exists(file))
    throw DataError(file.string(),
                    std::string("no such file; the Inception weights are ") + kWhereWeightsAre);
  InceptionWeights weights;
  weights.sha256 = io::sha256_file(file);
  weights.published = weights.sha256 == kPublishedSha256;
  if (!weights.published && file.filename().string().find("-6726825d.") != std::string::npos)
    throw DataError(file.string(), "its SHA-256 is " + weights.sha256 +
                                       ", its name promises one that begins with 6726825d: the "
                                       "download is damaged or another file");
  const int first_byte = std::ifstream(file, std::ios::binary).get();
  if (first_byte == 0x1f)
    throw DataError(file.string(), "is packed; unpack classify_image_graph_def.pb from it");
  if (first_byte == 0x0a) {  // a GraphDef's first node: field 1, length-delimited
    try {
      weights.state = metrics::from_tensorflow(io::read_graph_constants(file));
    } catch (const std::invalid_argument& error) {
      throw DataError(file.string(), error.what());
    }
  } else {
    const auto checkpoint = io::read_checkpoint(file);
    for (const auto& [name, tensor] : io::select_state(checkpoint, "", file).tensors)
      weights.state.emplace(name, tensor);
  }
  weights.content = content_sha256(weights.state);
  return weights;
}

}  // namespace dkdm::evaluators

// FID-Inception's weights from the files that are in use.
#pragma once

#include <filesystem>
#include <string>

#include "metrics/inception.hpp"

namespace dkdm::evaluators {

struct InceptionWeights {
  metrics::StateDict state;
  std::string sha256;  // of the file
  bool published = false;  // the hash is that of the published file
};

// PyTorch's pt_inception-2015-12-05-6726825d.pth (pytorch-fid; torch-fidelity's copy is the same
// file), or TensorFlow's classify_image_graph_def.pb (inside inception-2015-12-05.tgz), recognised
// by content. Other weights in either layout are read too; then `published` is false. Throws
// DataError: no such file, with what to put there; neither format; a tensor missing or misshapen.
InceptionWeights load_inception_weights(const std::filesystem::path& file);

}  // namespace dkdm::evaluators

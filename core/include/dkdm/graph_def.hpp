// Frozen TensorFlow graphs (GraphDef, a protocol buffer): their constants.
#pragma once

#include <filesystem>

#include "dkdm/io.hpp"

namespace dkdm::io {

// Constants of type float or double by the name of their node, copied; a constant stored as one
// value repeated is expanded. Constants of other types are left out, and nothing is run. Throws
// DataError naming the file, and the node where there is one, for a file that is truncated or no
// GraphDef, and for a constant whose values do not match its shape.
DKDM_API TensorMap read_graph_constants(const std::filesystem::path& file);

}  // namespace dkdm::io

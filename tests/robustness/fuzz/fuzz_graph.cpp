// Frozen TensorFlow graphs: constants, as the Inception weights are read.
#include "dkdm/graph_def.hpp"
#include "fuzz_target.hpp"

DKDM_FUZZ_TARGET(graph) {
  static const dkdm::fuzz::Folder folder;
  const auto file = folder.write("input.pb", input);
  dkdm::fuzz::accepted([&] {
    for (const auto& [name, constant] : dkdm::io::read_graph_constants(file))
      static_cast<void>(constant.sum().item<double>());
  });
}

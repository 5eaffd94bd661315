// IDX files, plain and gzip.
#include "dkdm/io.hpp"
#include "fuzz_target.hpp"

DKDM_FUZZ_TARGET(idx) {
  static const dkdm::fuzz::Folder folder;
  const auto file = folder.write("input", input);
  dkdm::fuzz::accepted([&] {
    const at::Tensor values = dkdm::io::read_idx(file);
    dkdm::fuzz::require(values.scalar_type() == at::kByte, "not bytes");
    static_cast<void>(values.sum().item<std::int64_t>());
  });
}

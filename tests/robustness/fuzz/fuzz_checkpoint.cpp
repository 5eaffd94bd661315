// Every byte string is a checkpoint (PyTorch's two formats, safetensors) or a DataError, and what
// is read lies in the file.
#include "dkdm/checkpoint.hpp"
#include "fuzz_target.hpp"

DKDM_FUZZ_TARGET(checkpoint) {
  static const dkdm::fuzz::Folder folder;
  const auto file = folder.write("input", input);
  dkdm::fuzz::accepted([&] {
    const auto checkpoint = dkdm::io::read_checkpoint(file);
    for (const auto& state : checkpoint.states) {
      for (const auto& [name, tensor] : state.tensors) {
        if (tensor.numel() == 0) continue;
        // The outermost elements; the mapping's bounds are worked out again in wider integers.
        unsigned __int128 last = static_cast<unsigned __int128>(tensor.storage_offset());
        for (std::int64_t i = 0; i < tensor.dim(); ++i) {
          dkdm::fuzz::require(tensor.size(i) >= 0 && tensor.stride(i) >= 0,
                              "a negative size or stride");
          last += static_cast<unsigned __int128>(tensor.size(i) - 1) *
                  static_cast<unsigned __int128>(tensor.stride(i));
        }
        dkdm::fuzz::require((last + 1) * tensor.itemsize() <= tensor.storage().nbytes(),
                            "a tensor outside its storage");
        const auto* bytes = static_cast<const volatile char*>(tensor.storage().data());
        static_cast<void>(
            bytes[static_cast<std::uint64_t>(tensor.storage_offset()) * tensor.itemsize()]);
        static_cast<void>(bytes[(static_cast<std::uint64_t>(last) + 1) * tensor.itemsize() - 1]);
      }
    }
    const auto& network = dkdm::io::select_state(checkpoint, "", file);
    dkdm::io::check_finite(network, file);
  });
}

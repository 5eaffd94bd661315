// libFuzzer: every byte string is a checkpoint or a DataError, and what is read lies in the file.
#include <cstdio>
#include <cstdlib>

#include "io/tensor_file.hpp"

namespace {

using namespace dkdm::io;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "fuzz_checkpoint: %s\n", what);
  std::abort();
}

// The parser's promise, worked out again in wider integers and by touching the outermost bytes.
void check_tensor(const MappedFile& file, const TensorFile& parsed, const StoredTensor& tensor) {
  require(tensor.storage < parsed.storages.size(), "a tensor without a storage");
  const StoredBytes& storage = parsed.storages[tensor.storage];
  require(storage.offset <= file.size() && storage.bytes <= file.size() - storage.offset,
          "a storage outside the file");
  require(tensor.sizes.size() == tensor.strides.size(), "a tensor without all strides");
  unsigned __int128 last = tensor.offset;
  for (std::size_t i = 0; i < tensor.sizes.size(); ++i) {
    require(tensor.sizes[i] >= 0 && tensor.strides[i] >= 0, "a negative size or stride");
    if (tensor.sizes[i] == 0) return;
    last += static_cast<unsigned __int128>(tensor.sizes[i] - 1) *
            static_cast<unsigned __int128>(tensor.strides[i]);
  }
  const std::uint64_t bytes = info(tensor.type).bytes;
  require((last + 1) * bytes <= storage.bytes, "a tensor outside its storage");
  const volatile char first = file.data()[storage.offset + tensor.offset * bytes];
  const volatile char end =
      file.data()[storage.offset + (static_cast<std::uint64_t>(last) + 1) * bytes - 1];
  static_cast<void>(first);
  static_cast<void>(end);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  const MappedFile file("input", {reinterpret_cast<const char*>(data), size});
  try {
    const TensorFile parsed = parse_tensor_file(file);
    for (const StoredState& state : parsed.states) {
      for (const auto& [name, tensor] : state.tensors) check_tensor(file, parsed, tensor);
    }
  } catch (const dkdm::DataError&) {
  }
  return 0;
}

// Which format a file has, and the one check that every tensor passes.
#include "io/checkpoint/tensor_file.hpp"

#include <algorithm>
#include <limits>

#include "io/foreign_file.hpp"

namespace dkdm::io {
namespace {

// A copy of a tensor that repeats its items (stride 0) may take this much without its file being as
// large.
constexpr std::uint64_t kRepeatedBytes = std::uint64_t{1} << 30;

std::string listed(const std::vector<std::int64_t>& numbers) {
  std::string text = "[";
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    text += (i ? ", " : "") + std::to_string(numbers[i]);
  }
  return text + "]";
}

}  // namespace

TensorFile parse_tensor_file(const MappedFile& file) {
  const std::string expected =
      "a checkpoint: it begins neither as PyTorch's zip or pickle nor as safetensors";
  if (file.size() == 0) refuse_foreign(file, expected);
  const std::string_view begin = file.view(0, std::min<std::uint64_t>(file.size(), 9));
  // safetensors first: the length of its header may begin like a pickle.
  if (begin.size() == 9 && begin[8] == '{' &&
      little_endian<std::uint64_t>(begin.data()) < file.size()) {
    return parse_safetensors(file);
  }
  if (is_distributed_part(file.path())) refuse_foreign(file, expected);
  if (begin.starts_with("PK\x03\x04")) return parse_torch_zip(file);
  if (begin.starts_with("\x80")) return parse_torch_legacy(file);
  refuse_foreign(file, expected);
}

void check_extent(const StoredTensor& tensor, std::uint64_t items, const std::string& where) {
  const auto describe = [&] {
    return "a tensor of shape " + listed(tensor.sizes) + ", strides " + listed(tensor.strides) +
           " and first item " + std::to_string(tensor.offset);
  };
  if (tensor.sizes.size() != tensor.strides.size()) {
    throw DataError(where, describe() + " has not one stride a dimension");
  }
  const std::uint64_t item = info(tensor.type).bytes;
  const std::uint64_t bytes = array_bytes(tensor.sizes, item, where);
  std::uint64_t last = tensor.offset;
  bool inside = tensor.offset <= items;
  for (std::size_t i = 0; bytes > 0 && i < tensor.sizes.size(); ++i) {
    std::uint64_t reach = 0;
    inside = inside && tensor.strides[i] >= 0 &&
             !__builtin_mul_overflow(static_cast<std::uint64_t>(tensor.sizes[i] - 1),
                                     static_cast<std::uint64_t>(tensor.strides[i]), &reach) &&
             !__builtin_add_overflow(last, reach, &last);
  }
  inside = inside && (bytes == 0 || last < items);
  for (const std::int64_t stride : tensor.strides) inside = inside && stride >= 0;
  if (!inside) {
    throw DataError(
        where, describe() + " does not lie in its storage of " + std::to_string(items) + " items");
  }
  if (bytes / item > items && bytes > kRepeatedBytes) {
    throw DataError(where, describe() + " repeats its storage of " + std::to_string(items) +
                               " items more often than is read");
  }
}

}  // namespace dkdm::io

#include "io/checkpoint/tensor_bytes.hpp"

#include <ATen/ATen.h>

#include <algorithm>

namespace dkdm::io {
namespace {

std::string_view bytes_of(const at::Tensor& plain) {
  return {static_cast<const char*>(plain.const_data_ptr()), plain.nbytes()};
}

void hand_over(const at::Tensor& data, const std::function<void(std::string_view)>& take,
               std::size_t block) {
  if ((data.is_contiguous() && data.is_cpu()) || data.nbytes() <= block || data.dim() == 0)
    return take(bytes_of(data.contiguous().to(at::kCPU)));
  const auto rows = data.size(0);
  const auto row_bytes = std::max<std::size_t>(1, data.nbytes() / std::size_t(rows));
  if (row_bytes > block) {
    for (std::int64_t row = 0; row < rows; ++row) hand_over(data.select(0, row), take, block);
    return;
  }
  const auto at_once = std::int64_t(block / row_bytes);
  for (std::int64_t row = 0; row < rows; row += at_once)
    take(bytes_of(data.narrow(0, row, std::min(at_once, rows - row)).contiguous().to(at::kCPU)));
}

}  // namespace

void for_each_block(const at::Tensor& tensor, const std::function<void(std::string_view)>& take,
                    std::size_t block) {
  at::Tensor data = tensor.detach();
  // LibTorch has no kernel that copies 4-bit floats; their bytes it copies.
  if (data.scalar_type() == at::kFloat4_e2m1fn_x2) data = data.view(at::kByte);
  hand_over(data, take, block);
}

}  // namespace dkdm::io

// Pixel values between files (uint8) and networks (f32 in [-1,1]).
#include <ATen/ATen.h>

#include "dkdm/image.hpp"

namespace dkdm {

std::string text_of(const SampleShape& shape) {
  return std::to_string(shape.channels) + "x" + std::to_string(shape.height) + "x" +
         std::to_string(shape.width);
}

at::Tensor to_unit_range(const at::Tensor& images) {
  TORCH_CHECK(images.scalar_type() == at::kByte, "images are uint8, not ", images.scalar_type());
  return images.to(at::kFloat).div_(127.5).sub_(1);
}

at::Tensor to_uint8(const at::Tensor& x) {
  return ((x.to(at::kFloat) + 1) * 127.5).clamp_(0, 255).to(at::kByte);
}

}  // namespace dkdm

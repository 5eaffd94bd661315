// The vector quantiser of Esser et al. (2021), as a frozen network uses it.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Context.h>

#include <cstdint>
#include <vector>

#include "dkdm/nn.hpp"

namespace dkdm::autoencoders {

// The code nearest to each row, int64 [M]: z [M,D], codes [K,D], f32. Argmin of |z|^2 + |e|^2 -
// 2 z.e as the reference has it, the first of equals; in IEEE float32 whatever networks compute in,
// since fewer bits pick other codes.
inline at::Tensor nearest_code(const at::Tensor& z, const at::Tensor& codes) {
  const nn::FullPrecision full;
  const at::NoTF32Guard no_tf32;
  const at::Tensor rows = nn::in_full(z), norms = codes.square().sum(1);
  constexpr std::int64_t kRows = std::int64_t{1} << 15;  // 1 GiB of distances to 8192 codes
  std::vector<at::Tensor> nearest;
  for (const at::Tensor& part : rows.split(kRows)) {
    at::Tensor distance = part.square().sum(1, /*keepdim=*/true) + norms;
    distance.sub_(part.mm(codes.t()), 2);
    nearest.push_back(distance.argmin(1));
  }
  return at::cat(nearest);
}

}  // namespace dkdm::autoencoders

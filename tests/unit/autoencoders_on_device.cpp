// Autoencoders on a device that is not the CPU: the CPU's bits, and nothing that waits for it.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include "fake_device/compare.hpp"
#include "fixtures/autoencoders.hpp"

using namespace dkdm;
using namespace fake_device;
using fixtures::ScratchFolder;

namespace {

struct Results {
  Tensor latents, decoded, unquantised;
};

Results results(Autoencoder& vq, const Tensor& images) {
  const Tensor latents = vq.encode(images);
  return {latents, vq.decode(latents), vq.decode(latents, /*quantise=*/false)};
}

}  // namespace

TEST_CASE("autoencoders on a device: vq-f4 gives the CPU's bits and waits for nothing",
          "[unit][on_device][latent]") {
  const at::NoGradGuard no_grad;
  const ScratchFolder scratch;
  fixtures::CountingHost host;
  const Tensor images = golden::v_fill(998, {3, 3, 32, 32}, 2);
  const auto here = fixtures::small_vq_autoencoder(scratch.path, host);
  const auto there = fixtures::small_vq_autoencoder(scratch.path, host);
  there->to(device());
  const Results expected = results(*here, images);
  const Tensor sent = images.to(device());
  results(*there, sent);
  reset_counters();
  const Results found = results(*there, sent);
  const Counters counted = counters();
  for (const auto& [mine, theirs] :
       {std::pair{found.latents, expected.latents}, std::pair{found.decoded, expected.decoded},
        std::pair{found.unquantised, expected.unquantised}}) {
    CHECK(mine.device() == device());
    CHECK(at::equal(mine.cpu(), theirs));
  }
  CHECK_FALSE(at::equal(expected.decoded, expected.unquantised));
  CHECK(counted.synchronisations() == 0);
  CHECK(counted.to_host.calls == 0);
  CHECK(counted.to_device.blocking == 0);
}

TEST_CASE("autoencoders on a device: CUDA has every operator", "[unit][on_device][latent]") {
  if (!knows_cuda()) {
    WARN("this LibTorch came without native_functions.yaml");
    return;
  }
  const at::NoGradGuard no_grad;
  const ScratchFolder scratch;
  fixtures::CountingHost host;
  const auto there = fixtures::small_vq_autoencoder(scratch.path, host);
  there->to(device());
  const Composites composites;
  const Tensor images = golden::v_fill(998, {1, 3, 32, 32}, 2).to(device());
  reset_counters();
  results(*there, images);
  CHECK(counters().operators.size() > 5);
  CHECK(missing_on_cuda(counters().operators) == std::vector<std::string>{});
}

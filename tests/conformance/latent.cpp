// The latent half of the authors' code, against golden/latent.json (make_latent.py: source commits
// and PyTorch version are in the file): the autoencoder vq-f4 and LDM's UNet, which adm-unet is.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include "dkdm/files.hpp"
#include "fixtures/autoencoders.hpp"
#include "fixtures/golden_file.hpp"
#include "fixtures/latent_unet.hpp"
#include "fixtures/students.hpp"
#include "nn/memory_limit.hpp"
#include "nn/meta.hpp"
#include "plugins/autoencoders/vq_codes.hpp"

using namespace dkdm;
using fixtures::Json;

namespace {

const Json& golden_values() {
  static const Json json = fixtures::golden_json("latent.json");
  return json;
}

void check_layout(const io::NamedTensors& tensors, const Json& expected) {
  std::int64_t parameters = 0;
  for (const auto& [name, tensor] : tensors) parameters += tensor.numel();
  CHECK(static_cast<std::int64_t>(tensors.size()) == expected.at("tensors").get<std::int64_t>());
  CHECK(parameters == expected.at("parameters").get<std::int64_t>());
  CHECK(io::sha256(fixtures::layout(tensors)) == expected.at("layout").get<std::string>());
}

io::NamedTensors parameters_of(const torch::nn::Module& network) {
  io::NamedTensors tensors;
  for (const auto& entry : network.named_parameters())
    tensors.emplace_back(entry.key(), entry.value().detach());
  return tensors;
}

}  // namespace

TEST_CASE("latent: names, order and sizes of the paper's networks are the reference's",
          "[conformance][latent]") {
  const Json& full = golden_values().at("full");
  const nn::AnyMachine sizes_alone;
  for (const auto& [name, channels] : {std::pair{"LDM-274M", 224}, std::pair{"LDM-89M", 128}}) {
    INFO(name);
    const auto network = nn::made_on_meta([&, channels = channels] {
      return fixtures::student("adm-unet", fixtures::latent_unet(channels, 64), {3, 64, 64});
    });
    check_layout(parameters_of(*network), full.at(name));
  }
  fixtures::CountingHost host;
  const auto vq = nn::made_on_meta([&] { return fixtures::autoencoder("vq-f4", {}, host); });
  io::NamedTensors tensors;
  for (const auto& [name, tensor] : parameters_of(*vq))
    tensors.emplace_back(name.substr(std::string("autoencoder.").size()), tensor);
  check_layout(tensors, full.at("vq-f4"));
  CHECK(vq->latent_shape({3, 256, 256}) == SampleShape{3, 64, 64});
  CHECK(vq->image_shape({3, 64, 64}) == ImageSpec{3, 256, 256});
}

TEST_CASE("latent: the UNet's output is the reference's", "[conformance][latent]") {
  const at::NoGradGuard no_grad;
  const Json& golden = golden_values().at("unet");
  const auto network = fixtures::golden_latent_unet();
  check_layout(parameters_of(*network), golden);
  const at::Tensor x = golden::v_fill(999, {2, 3, 16, 16}, std::sqrt(12.0));
  fixtures::check_numbers(network->forward(x, at::tensor({0, 999}, at::kLong)),
                          golden.at("output"));
}

TEST_CASE("latent: the autoencoder encodes, quantises and decodes as the reference",
          "[conformance][latent]") {
  const at::NoGradGuard no_grad;
  const Json& golden = golden_values().at("vq");
  const fixtures::ScratchFolder scratch;
  fixtures::CountingHost host;
  const auto vq = fixtures::small_vq_autoencoder(scratch.path, host);
  check_layout(fixtures::state_of(*vq), golden);
  const at::Tensor images = golden::v_fill(998, {1, 3, 64, 64}, 2);
  const at::Tensor latents = golden::v_fill(996, {1, 3, 16, 16}, 2);
  fixtures::check_numbers(vq->encode(images), golden.at("encode"));
  fixtures::check_numbers(vq->decode(latents), golden.at("decode"));
  fixtures::check_numbers(vq->decode(latents, /*quantise=*/false),
                          golden.at("decode without quantising"));

  at::Tensor codes;
  for (const auto& [name, tensor] : fixtures::state_of(*vq))
    if (name == "quantize.embedding.weight") codes = tensor;
  const at::Tensor chosen =
      autoencoders::nearest_code(latents.permute({0, 2, 3, 1}).reshape({-1, 3}), codes);
  CHECK(chosen.sum().item<std::int64_t>() == golden.at("codes").at("sum").get<std::int64_t>());
  const auto first = golden.at("codes").at("first").get<std::vector<std::int64_t>>();
  CHECK(at::equal(chosen.narrow(0, 0, 8), at::tensor(first, at::kLong)));
}

// A student trained here, written as a .pt for the reference's code. That the reference loads it
// strictly and computes the same is checked by golden/verify_export.py on the files that this test
// leaves in $DKDM_EXPORT.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include <cstdlib>

#include "dkdm/files.hpp"
#include "fixtures/golden_file.hpp"
#include "fixtures/latent_unet.hpp"
#include "fixtures/teachers.hpp"

using namespace dkdm;

namespace {

// Some steps of gradient descent towards the noise, so that the weights are nobody's initial ones.
void train(Denoiser& network, const at::Tensor& x, const at::Tensor& t) {
  for (int step = 0; step < 3; ++step) {
    network.zero_grad();
    const at::Tensor eps = network.forward(x, t).narrow(1, 0, x.size(1));
    (eps - x).square().mean().backward();
    const at::NoGradGuard no_grad;
    for (auto& parameter : network.parameters())
      if (parameter.grad().defined()) parameter.sub_(parameter.grad(), 0.01);
  }
}

}  // namespace

TEST_CASE("export: names, order and numbers of a trained student survive the way out and back",
          "[conformance][teachers]") {
  fixtures::ScratchFolder scratch;
  const char* wanted = std::getenv("DKDM_EXPORT");
  const std::filesystem::path folder = wanted ? std::filesystem::path(wanted) : scratch.path;
  const SampleShape shape{3, 8, 8};
  const auto network = fixtures::student("adm-unet", fixtures::small_unet(), shape, /*seed=*/3);
  fixtures::fill_parameters(*network);
  network->eval();
  const at::Tensor x = fixtures::probe(shape), t = fixtures::probe_time();
  const auto before = network->parameters().front().detach().clone();
  train(*network, x, t);
  REQUIRE_FALSE(at::equal(before, network->parameters().front()));

  const at::NoGradGuard no_grad;
  const at::Tensor out = network->forward(x, t);
  io::write_torch(folder / "exported.pt", io::state_of(*network));
  io::write_torch(folder / "probe.pt", {{"x", x}, {"t", t}, {"out", out.contiguous()}});
  io::write_text(folder / "network.json",
                 R"({"image_size": 8, "in_channels": 3, "model_channels": 32, "out_channels": 6,
                     "num_res_blocks": 1, "attention_resolutions": [2], "channel_mult": [1, 2],
                     "num_head_channels": 16, "use_scale_shift_norm": true,
                     "resblock_updown": true, "use_new_attention_order": true})");

  // The names and shapes are those of the golden network of the same size, in its order.
  const auto golden = fixtures::golden_json("unet_options.json").at("networks");
  const auto file = io::read_checkpoint(folder / "exported.pt");
  const auto& state = io::select_state(file, "", "exported.pt");
  CHECK(io::sha256(fixtures::layout(state.tensors)) ==
        golden.at("legacy attention order").at("layout").get<std::string>());

  // And back as a teacher.
  fixtures::CountingHost host;
  const auto model = fixtures::teacher("guided-diffusion",
                                       {{"path", (folder / "exported.pt").string()},
                                        {"image_size", std::int64_t{8}},
                                        {"num_head_channels", std::int64_t{16}},
                                        {"attention_order", "new"}},
                                       host)
                         ->load();
  CHECK(at::equal(model.network->forward(x, t), out));
}

TEST_CASE("export: a latent student has the names of latent diffusion's class, in its order",
          "[conformance][latent]") {
  fixtures::ScratchFolder scratch;
  const char* wanted = std::getenv("DKDM_EXPORT");
  const std::filesystem::path folder =
      wanted ? std::filesystem::path(wanted) / "latent" : scratch.path;
  std::filesystem::create_directories(folder);
  const SampleShape shape{3, 16, 16};
  const auto network =
      fixtures::student("adm-unet", fixtures::latent_unet(32, 16), shape, /*seed=*/3);
  fixtures::fill_parameters(*network);
  network->eval();
  const at::Tensor x = fixtures::probe(shape), t = fixtures::probe_time();
  train(*network, x, t);

  const at::NoGradGuard no_grad;
  const at::Tensor out = network->forward(x, t);
  io::write_torch(folder / "exported.pt", io::state_of(*network));
  io::write_torch(folder / "probe.pt", {{"x", x}, {"t", t}, {"out", out.contiguous()}});
  io::write_text(folder / "network.json",
                 R"({"image_size": 16, "in_channels": 3, "model_channels": 32, "out_channels": 3,
                     "num_res_blocks": 2, "attention_resolutions": [8, 4, 2],
                     "channel_mult": [1, 2, 3, 4], "num_head_channels": 32})");
  const auto file = io::read_checkpoint(folder / "exported.pt");
  const auto& state = io::select_state(file, "", "exported.pt");
  CHECK(io::sha256(fixtures::layout(state.tensors)) ==
        fixtures::golden_json("latent.json").at("unet").at("layout").get<std::string>());
}

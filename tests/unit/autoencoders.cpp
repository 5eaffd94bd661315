// The autoencoder vq-f4 on small files: where its weights may be and what is refused, chunks,
// codes whatever precision networks compute in. That it computes what the reference does:
// conformance/latent.cpp.
#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <functional>
#include <limits>
#include <map>

#include "conformance/check.hpp"
#include "device/precision.hpp"
#include "fixtures/autoencoders.hpp"
#include "fixtures/lightning.hpp"
#include "nn/meta.hpp"
#include "plugin/announce.hpp"
#include "plugins/autoencoders/vq_codes.hpp"
#include "plugins/autoencoders/vq_weights.hpp"
#include "run/run_host.hpp"

using namespace dkdm;
using namespace dkdm::fixtures;
using Catch::Matchers::Contains;
using io::NamedTensors;

namespace {

// Two levels: 2 x 2 pixels a position.
const Given& tiny_vq() {
  static const Given values{{"ch", std::int64_t{32}},
                            {"ch_mult", std::vector<std::int64_t>{1, 2}},
                            {"num_res_blocks", std::int64_t{1}},
                            {"n_embed", std::int64_t{64}}};
  return values;
}

Given tiny_vq_but(const Given& changed) {
  Given values = tiny_vq();
  for (const auto& [name, value] : changed) values[name] = value;
  return values;
}

const NamedTensors& weights() {
  static const NamedTensors tensors = small_vq_weights(tiny_vq());
  return tensors;
}

NamedTensors renamed(const std::function<std::string(std::string)>& rename,
                     const NamedTensors& tensors = weights()) {
  NamedTensors result;
  for (const auto& [name, tensor] : tensors) result.emplace_back(rename(name), tensor);
  return result;
}

NamedTensors prefixed(const std::string& prefix) {
  return renamed([&](const std::string& name) { return prefix + name; });
}

NamedTensors with(NamedTensors tensors, const std::string& name, const at::Tensor& value) {
  for (auto& [other, tensor] : tensors) {
    if (other != name) continue;
    tensor = value;
    return tensors;
  }
  tensors.emplace_back(name, value);
  return tensors;
}

NamedTensors without(NamedTensors tensors, const std::string& name) {
  std::erase_if(tensors, [&](const auto& entry) { return entry.first == name; });
  return tensors;
}

at::Tensor images(std::int64_t count = 5) { return golden::v_fill(1, {count, 3, 16, 12}, 2); }

struct Loaded {
  std::shared_ptr<Autoencoder> autoencoder;
  CountingHost host;
};

std::unique_ptr<Loaded> load(const std::filesystem::path& file, Given given = tiny_vq()) {
  given["path"] = file.string();
  auto loaded = std::make_unique<Loaded>();
  loaded->autoencoder = autoencoder("vq-f4", given, loaded->host);
  loaded->autoencoder->load_weights();
  return loaded;
}

struct Folder {
  ScratchFolder scratch;
  std::filesystem::path safetensors(const NamedTensors& tensors = weights()) const {
    const auto file = scratch.path / "vq.safetensors";
    io::write_safetensors(file, tensors);
    return file;
  }
};

// `name` in the words of diffusers' VQModel of so many levels.
std::string in_diffusers(std::string name, std::size_t levels, bool older) {
  const auto replace = [&](const std::string& from, const std::string& to) {
    if (const auto at = name.find(from); at != std::string::npos) name.replace(at, from.size(), to);
  };
  if (name.starts_with("decoder.up.")) {
    const auto level = static_cast<std::size_t>(name[11] - '0');
    name[11] = static_cast<char>('0' + levels - 1 - level);
  }
  replace(".down.", ".down_blocks.");
  replace(".up.", ".up_blocks.");
  replace(".block.", ".resnets.");
  replace(".downsample.", ".downsamplers.0.");
  replace(".upsample.", ".upsamplers.0.");
  replace(".nin_shortcut.", ".conv_shortcut.");
  replace(".norm_out.", ".conv_norm_out.");
  replace(".mid.block_1.", ".mid_block.resnets.0.");
  replace(".mid.block_2.", ".mid_block.resnets.1.");
  replace(".mid.attn_1.norm.", ".mid_block.attentions.0.group_norm.");
  replace(".mid.attn_1.q.",
          older ? ".mid_block.attentions.0.query." : ".mid_block.attentions.0.to_q.");
  replace(".mid.attn_1.k.",
          older ? ".mid_block.attentions.0.key." : ".mid_block.attentions.0.to_k.");
  replace(".mid.attn_1.v.",
          older ? ".mid_block.attentions.0.value." : ".mid_block.attentions.0.to_v.");
  replace(".mid.attn_1.proj_out.",
          older ? ".mid_block.attentions.0.proj_attn." : ".mid_block.attentions.0.to_out.0.");
  return name;
}

}  // namespace

TEST_CASE("vq-f4: one network and one fingerprint from every file that holds its weights",
          "[unit][latent]") {
  const at::NoGradGuard no_grad;
  const Folder folder;
  const auto expected = load(folder.safetensors());
  const at::Tensor latents = expected->autoencoder->encode(images());
  const at::Tensor decoded = expected->autoencoder->decode(latents);
  CHECK(latents.sizes() == at::IntArrayRef({5, 3, 8, 6}));
  CHECK(expected->host.said.find("vq-f4: vq.safetensors: 64 codes; ") != std::string::npos);

  const auto file = folder.scratch.path / "model.ckpt";
  const auto check = [&](const std::string& said) {
    const auto loaded = load(file);
    CHECK_THAT(loaded->host.said, Contains(said));
    CHECK(at::equal(loaded->autoencoder->encode(images()), latents));
    CHECK(at::equal(loaded->autoencoder->decode(latents), decoded));
    CHECK(loaded->autoencoder->fingerprint() == expected->autoencoder->fingerprint());
  };
  NamedTensors model = prefixed("first_stage_model.");
  model.emplace_back("model.diffusion_model.out.2.bias", at::zeros({3}));
  write_checkpoint(file, model);  // a latent diffusion model's
  check("from 'state_dict', behind first_stage_model.");
  write_checkpoint(file, weights(), /*lightning=*/false);  // an autoencoder's, as it was cut out
  check("from 'state_dict'");
  auto trained = weights();
  trained.emplace_back("loss.discriminator.main.0.weight", at::zeros({2}));
  trained.emplace_back("loss.logvar", at::zeros({1}));
  write_checkpoint(file, trained);  // of its own training
  check("without 2 tensors of loss.…");
  for (const bool older : {false, true}) {
    auto diffusers = renamed([&](const std::string& name) { return in_diffusers(name, 2, older); });
    for (auto& [name, tensor] : diffusers)
      if (name.find(".attentions.0.") != std::string::npos && tensor.dim() == 4)
        tensor = tensor.squeeze(3).squeeze(2);
    CHECK(diffusers.front().first == "encoder.conv_in.weight");
    io::write_safetensors(file, diffusers);
    check("in diffusers' layout");
  }
}

TEST_CASE("vq-f4: every tensor of diffusers' layout has a name of the reference's",
          "[unit][latent]") {
  for (const bool older : {false, true})
    for (const auto& [name, tensor] : small_vq_weights())  // three levels
      CHECK(autoencoders::from_diffusers(in_diffusers(name, 3, older), 3) == name);
}

TEST_CASE("vq-f4: a file that does not fit is one line that names it and what is wrong",
          "[unit][latent]") {
  const Folder folder;
  const auto refused = [&](const NamedTensors& tensors, const std::string& says) {
    INFO(says);
    const auto file = folder.safetensors(tensors);
    CHECK_THROWS_WITH(load(file), Contains("vq.safetensors") && Contains(says) && !Contains("\n"));
  };
  refused(without(weights(), "decoder.up.1.upsample.conv.bias"),
          "missing decoder.up.1.upsample.conv.bias");
  refused(with(weights(), "quant_conv.weight", at::zeros({3, 4, 1, 1})), "quant_conv.weight");
  refused(with(weights(), "extra", at::zeros({1})), "extra");
  refused(
      with(weights(), "quant_conv.bias", at::full({3}, std::numeric_limits<float>::quiet_NaN())),
      "tensor 'quant_conv.bias': 3 of its 3 values are NaN");
  refused({{"model.diffusion_model.out.2.bias", at::zeros({3})}},
          "no dictionary has quantize.embedding.weight, alone or behind first_stage_model.; a "
          "distilled student's file leaves it out: give its teacher's");
  refused({{"w", at::zeros({3})}}, "the largest has 1 tensors");

  const auto file = folder.safetensors();
  CHECK_THROWS_WITH(
      load(file, tiny_vq_but({{"ch", std::int64_t{64}}})),
      Contains("118 misshapen") && Contains("decoder.conv_in.bias has shape [64], expected [128]"));
  CHECK_THROWS_WITH(load(file, tiny_vq_but({{"ch", std::int64_t{40}}})),
                    Contains("ch is 40, expected a multiple of the 32 groups"));
  CHECK_THROWS_WITH(load(file, tiny_vq_but({{"ch_mult", std::vector<std::int64_t>{}}})),
                    Contains("ch_mult is empty"));
  CHECK_THROWS_WITH(load(folder.scratch.path / "absent.ckpt"),
                    Contains("absent.ckpt: no such file; the autoencoder vq-f4 needs the "
                             "checkpoint of a latent diffusion model"));
  CHECK_THROWS_WITH(load(""), Contains("autoencoder vq-f4: path is not set; give the checkpoint"));
  const std::string bytes = [&] {
    std::ifstream stream(file, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(stream), {});
  }();
  write_bytes(folder.scratch.path / "cut.safetensors", bytes.substr(0, bytes.size() / 2));
  CHECK_THROWS_WITH(load(folder.scratch.path / "cut.safetensors"), Contains("cut.safetensors"));
}

TEST_CASE("vq-f4: shapes are known without a file, which is announced as absent",
          "[unit][latent]") {
  CountingHost host;
  const auto vq = autoencoder("vq-f4", {}, host);
  CHECK(vq->latent_shape({3, 256, 128}) == SampleShape{3, 64, 32});
  CHECK(vq->image_shape({3, 16, 16}) == ImageSpec{3, 64, 64});
  CHECK_THROWS_WITH(vq->latent_shape({3, 254, 256}),
                    Contains("images of 3x254x256, expected 3 channels and sides that are "
                             "multiples of 4"));
  CHECK_THROWS_WITH(vq->latent_shape({1, 256, 256}), Contains("expected 3 channels"));
  CHECK_THROWS_WITH(vq->image_shape({4, 64, 64}),
                    Contains("latents of 4x64x64, expected 3 channels"));

  const auto announced = [](const std::string& path) {
    const auto& info = shipped_plugins().find("autoencoder", "vq-f4");
    return plugin::announced(shipped_plugins(), {info.kind, info.name, info.version,
                                                 Params(info.params, {{"path", path}})});
  };
  REQUIRE(announced("/nowhere/model.ckpt").absent.size() == 1);
  CHECK(announced("/nowhere/model.ckpt").absent[0].path == "/nowhere/model.ckpt");
  CHECK_THAT(announced("").absent.at(0).remedy, Contains("path is not set"));
  const Folder folder;
  CHECK(announced(folder.safetensors().string()).absent.empty());
}

TEST_CASE("vq-f4: latents are scaled by scale_factor alone, and the fingerprint tells",
          "[unit][latent]") {
  const at::NoGradGuard no_grad;
  const Folder folder;
  const auto file = folder.safetensors();
  const auto plain = load(file), scaled = load(file, tiny_vq_but({{"scale_factor", 0.25}}));
  const at::Tensor latents = plain->autoencoder->encode(images());
  CHECK(at::equal(scaled->autoencoder->encode(images()), latents * 0.25));
  CHECK(
      at::equal(scaled->autoencoder->decode(latents * 0.25), plain->autoencoder->decode(latents)));
  CHECK(plain->autoencoder->fingerprint() != scaled->autoencoder->fingerprint());
  const auto other = load(folder.safetensors(with(weights(), "quant_conv.bias", at::ones({3}))));
  CHECK(plain->autoencoder->fingerprint() != other->autoencoder->fingerprint());
}

TEST_CASE("vq-f4: an image's bits are its own, whatever the batch; chunks differ in last bits",
          "[unit][latent]") {
  const at::NoGradGuard no_grad;
  const Folder folder;
  const auto file = folder.safetensors();
  const at::Tensor one_by_one = load(file)->autoencoder->encode(images());
  for (const std::int64_t chunk : {1, 2, 4}) {
    INFO(chunk);
    const auto loaded = load(file, tiny_vq_but({{"chunk", chunk}}));
    Autoencoder& vq = *loaded->autoencoder;
    const at::Tensor latents = vq.encode(images()), decoded = vq.decode(latents);
    CHECK(at::allclose(latents, one_by_one, 1e-4, 1e-5));
    for (std::int64_t i = 0; i < 5; ++i) {
      CHECK(at::equal(vq.encode(images().narrow(0, i, 1)), latents.narrow(0, i, 1)));
      CHECK(at::equal(vq.decode(latents.narrow(0, i, 1)), decoded.narrow(0, i, 1)));
    }
    CHECK(vq.encode(images().narrow(0, 0, 0)).sizes() == at::IntArrayRef({0, 3, 8, 6}));
    CHECK(vq.decode(latents.narrow(0, 0, 0)).sizes() == at::IntArrayRef({0, 3, 16, 12}));
  }
}

TEST_CASE("vq-f4: takes the memory of its chunk beside the results, however many images",
          "[unit][latent]") {
  const at::NoGradGuard no_grad;
  CountingHost host;
  const auto vq = nn::made_on_meta([&] { return autoencoder("vq-f4", {}, host); });
  const auto most = [&](std::int64_t count, bool encode) {
    const auto meta = at::TensorOptions().device(at::kMeta);
    const at::Tensor images = at::empty({count, 3, 256, 256}, meta);
    const at::Tensor latents = at::empty({count, 3, 64, 64}, meta);
    return nn::counted_on_meta([&] { encode ? vq->encode(images) : vq->decode(latents); }).most;
  };
  for (const bool encode : {true, false}) {
    const double result = 4. * 3 * (encode ? 64 * 64 : 256 * 256);
    const double one = most(1, encode), many = most(9, encode);
    INFO((encode ? "encode " : "decode ") << one << " bytes for one, " << many << " for nine");
    CHECK(one > 1e8);
    CHECK(one < 3.5e8);  // 0.3 GB, as its README says
    CHECK(many - one <= 9 * result);
  }
}

TEST_CASE("vq-f4: the nearest code is by float32 distances, the first of equals",
          "[unit][latent]") {
  // Apart by less than bfloat16 tells.
  const at::Tensor codes = at::tensor({1.f, 1.001f, 1.002f, 1.001f}).unsqueeze(1);
  const at::Tensor z = at::tensor({1.0009f, 0.f, 9.f, 1.0011f}).unsqueeze(1);
  const at::Tensor expected = at::tensor({1, 0, 2, 1}, at::kLong);
  CHECK(at::equal(autoencoders::nearest_code(z, codes), expected));
  at::autocast::set_autocast_enabled(at::kCPU, true);
  CHECK(at::ones({2, 2}).mm(at::ones({2, 2})).scalar_type() == at::kBFloat16);
  const at::Tensor cast = autoencoders::nearest_code(z, codes);
  at::autocast::set_autocast_enabled(at::kCPU, false);
  at::autocast::clear_cache();
  CHECK(at::equal(cast, expected));
  // More rows than one table of distances takes.
  const at::Tensor many = at::linspace(0, 2, (1 << 15) + 5).unsqueeze(1);
  const at::Tensor nearest = autoencoders::nearest_code(many, codes);
  CHECK(nearest.size(0) == many.size(0));
  CHECK(nearest[-1].item<std::int64_t>() == 2);
}

TEST_CASE("vq-f4: in 16 bits it is itself to their rounding, its results and codes in float32",
          "[unit][latent]") {
  const at::NoGradGuard no_grad;
  const Folder folder;
  const auto loaded = load(folder.safetensors());
  Autoencoder& vq = *loaded->autoencoder;
  const at::Tensor latents = vq.encode(images()), decoded = vq.decode(latents);
  at::Tensor short_latents, short_decoded;
  {
    const device::PrecisionScope scope(device::Precision::bf16, at::kCPU);
    short_latents = vq.encode(images());
    short_decoded = vq.decode(latents);
  }
  const auto error = [](const at::Tensor& a, const at::Tensor& b) {
    return ((a - b).norm() / b.norm()).item<double>();
  };
  for (const auto& [found, exact] : {std::pair{short_latents, latents}, {short_decoded, decoded}}) {
    CHECK(found.scalar_type() == at::kFloat);
    CHECK(error(found, exact) > 1e-4);  // its convolutions were in bfloat16
    CHECK(error(found, exact) < 5e-2);
  }
}

TEST_CASE("vq-f4: keeps what an autoencoder promises", "[unit][latent]") {
  const Folder folder;
  const auto& info = shipped_plugins().find("autoencoder", "vq-f4");
  const std::atomic<bool> stop{false};
  run::RunHost host(shipped_plugins(), stop, nullptr);
  const Params params(info.params, tiny_vq_but({{"path", folder.safetensors().string()},
                                                {"chunk", std::int64_t{2}}}));
  std::map<std::string, conformance::Finding> found;
  conformance::Checklist list(
      [](const std::string&) {},
      [&](const conformance::Finding& finding) { found[finding.check] = finding; });
  conformance::check_description(info, list);
  conformance::check_behaviour({shipped_plugins(), info, params, host}, list);
  CHECK(found.size() == 13);
  for (const auto& [check, finding] : found) {
    INFO(check << ": " << finding.text);
    CHECK(finding.outcome == conformance::Outcome::passed);
  }
  CHECK(found.at("device").text == "makes nothing on the CPU (tried without memory)");
}

TEST_CASE("autoencoders: one that is too large for any machine is refused before it is made",
          "[unit][latent]") {
  CountingHost host;
  CHECK_THROWS_WITH(
      autoencoder("vq-f4",
                  {{"ch", std::int64_t{4096}},
                   {"ch_mult", std::vector<std::int64_t>{64, 64, 64}},
                   {"num_res_blocks", std::int64_t{64}}},
                  host),
      Contains("autoencoder vq-f4: a network of more than") && Contains("does not fit"));
}

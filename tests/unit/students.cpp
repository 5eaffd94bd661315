// What every student promises, for each architecture at desk size, and what their parameters
// refuse.
#include <ATen/ATen.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "dkdm/nn.hpp"
#include "fixtures/students.hpp"
#include "model/state_dict.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;
using Given = std::map<std::string, Value>;
using List = std::vector<std::int64_t>;

namespace {

constexpr auto kLast = at::MemoryFormat::ChannelsLast;

struct Case {
  std::string name;
  Given given;
  bool silent = true;  // a fresh network says zero
};

Case edm_unet(bool precondition) {
  return {"edm-unet",
          {{"model_channels", std::int64_t{16}},
           {"num_blocks", std::int64_t{1}},
           {"channel_mult", List{1, 2}},
           {"attn_resolutions", List{8}},
           {"precondition", precondition}},
          /*silent=*/false};
}

std::vector<Case> cases() {
  return {{"adm-unet",
           {{"model_channels", std::int64_t{32}},
            {"num_res_blocks", std::int64_t{1}},
            {"channel_mult", List{1, 2}},
            {"attention_resolutions", List{8}},
            {"num_head_channels", std::int64_t{16}}}},
          {"dit",
           {{"depth", std::int64_t{2}},
            {"hidden_size", std::int64_t{48}},
            {"num_heads", std::int64_t{3}},
            {"patch_size", std::int64_t{4}}}},
          {"unet-lite",
           {{"model_channels", std::int64_t{16}},
            {"num_res_blocks", std::int64_t{1}},
            {"channel_mult", List{1, 2}},
            {"num_head_channels", std::int64_t{16}}}},
          {"uvit",
           {{"depth", std::int64_t{2}},
            {"embed_dim", std::int64_t{48}},
            {"num_heads", std::int64_t{3}},
            {"patch_size", std::int64_t{4}}},
           /*silent=*/false},
          edm_unet(false),
          edm_unet(true),
          {"mlp-mixer",
           {{"num_blocks", std::int64_t{2}},
            {"hidden_dim", std::int64_t{48}},
            {"tokens_mlp_dim", std::int64_t{24}},
            {"channels_mlp_dim", std::int64_t{96}},
            {"dropout", 0.1},
            {"patch_size", std::int64_t{4}}}}};
}

// Images [n,C,16,16] and their steps.
at::Tensor images(std::int64_t n, std::int64_t channels = 3) {
  return golden::u_fill(5000, {n, channels, 16, 16}, 1.7).contiguous(kLast);
}

at::Tensor steps(std::int64_t n) { return at::arange(n, at::kLong) * 150 + 7; }

std::shared_ptr<Denoiser> filled(const Case& of, const SampleShape& shape = {3, 16, 16}) {
  auto network = fixtures::student(of.name, of.given, shape);
  fixtures::fill_parameters(*network);
  return network;
}

}  // namespace

TEST_CASE("students: a fresh network says zero, where it starts so, in the image's shape",
          "[unit][students]") {
  const auto of = GENERATE(from_range(cases()));
  INFO(of.name);
  for (const std::int64_t channels : {1, 3}) {
    for (const bool learn_sigma : {true, false}) {
      Given given = of.given;
      given["learn_sigma"] = learn_sigma;
      const auto network = fixtures::student(of.name, given, {channels, 16, 16});
      const at::Tensor out = network->forward(images(2, channels), steps(2));
      CHECK(out.sizes() == at::IntArrayRef({2, learn_sigma ? 2 * channels : channels, 16, 16}));
      CHECK((at::count_nonzero(out).item<int>() == 0) == of.silent);
      CHECK(at::isfinite(out).all().item<bool>());
    }
  }
}

TEST_CASE("students: activations stay channels-last, for grey images too", "[unit][students]") {
  const auto of = GENERATE(from_range(cases()));
  const std::int64_t channels = GENERATE(1, 3);
  INFO(of.name << ", channels " << channels);
  const auto network = filled(of, {channels, 16, 16});
  const at::Tensor out = network->forward(images(2, channels), steps(2));
  CHECK(out.is_contiguous(kLast));
}

TEST_CASE("students: rectangular images, whose rows do not mix", "[unit][students]") {
  const auto of = GENERATE(from_range(cases()));
  INFO(of.name);
  const at::NoGradGuard no_grad;
  const SampleShape wide{3, 16, 32};
  const auto network = filled(of, wide);
  network->eval();
  const at::Tensor x = golden::u_fill(5000, wide.batch(2), 1.7).contiguous(kLast);
  const at::Tensor out = network->forward(x, steps(2));
  CHECK(out.sizes() == at::IntArrayRef(SampleShape{6, 16, 32}.batch(2)));
  CHECK(out.is_contiguous(kLast));
  const at::Tensor alone = network->forward(x.narrow(0, 1, 1), steps(2).narrow(0, 1, 1))[0];
  // Another batch size sums in another order.
  CHECK((alone - out[1]).abs().max().item<float>() < 1e-5 * out.abs().max().item<float>());
  // Not a square image stretched: every place counts.
  at::Tensor other = x.clone();
  other.select(3, 31).add_(1);
  CHECK_FALSE(at::allclose(network->forward(other, steps(2)), out, 1e-5, 1e-6));
  CHECK_THROWS_WITH(fixtures::student(of.name, of.given, {3, 16, 31}), Contains("16 x 31"));
}

TEST_CASE("students: DiT's code of a place is that of its row and column, whatever the grid",
          "[unit][students]") {
  const Given given{{"depth", std::int64_t{1}},
                    {"hidden_size", std::int64_t{48}},
                    {"num_heads", std::int64_t{3}},
                    {"patch_size", std::int64_t{4}}};
  const auto code = [&](std::int64_t rows, std::int64_t columns) {
    const auto network = fixtures::student("dit", given, {3, 4 * rows, 4 * columns});
    return network->named_parameters()["pos_embed"].detach().view({rows, columns, 48});
  };
  const at::Tensor square = code(8, 8);
  CHECK(at::equal(code(4, 8), square.narrow(0, 0, 4)));
  CHECK(at::equal(code(8, 5), square.narrow(1, 0, 5)));
}

TEST_CASE("students: the seed decides the weights", "[unit][students]") {
  const auto of = GENERATE(from_range(cases()));
  INFO(of.name);
  const auto flat = [&](std::uint64_t seed) {
    std::vector<at::Tensor> all;
    const auto network = fixtures::student(of.name, of.given, {3, 16, 16}, seed);
    for (const auto& parameter : network->parameters()) all.push_back(parameter.reshape(-1));
    return at::cat(all).detach();
  };
  CHECK(at::equal(flat(1), flat(1)));
  CHECK_FALSE(at::equal(flat(1), flat(2)));
}

TEST_CASE("students: a row's output depends on that row alone", "[unit][students]") {
  const auto of = GENERATE(from_range(cases()));
  INFO(of.name);
  const at::NoGradGuard no_grad;
  const auto network = filled(of);
  network->eval();
  const at::Tensor x = images(4), t = steps(4), all = network->forward(x, t);
  CHECK(at::equal(all, network->forward(x, t)));
  const at::Tensor third = network->forward(x.narrow(0, 2, 1), t.narrow(0, 2, 1));
  // Other batch sizes sum in other orders.
  CHECK(at::allclose(all.narrow(0, 2, 1), third, 1e-4, 1e-5));
  CHECK_FALSE(at::allclose(all.narrow(0, 1, 1), third, 1e-2, 1e-2));
  CHECK_FALSE(at::allclose(all, network->forward(x, t + 300), 1e-2, 1e-2));
}

TEST_CASE("students: with and without gradient they compute the same, and keep their input",
          "[unit][students]") {
  const auto of = GENERATE(from_range(cases()));
  INFO(of.name);
  const auto network = filled(of);
  network->eval();
  const at::Tensor x = images(2), before = x.clone(), t = steps(2);
  const at::Tensor with = network->forward(x, t).detach();
  const at::NoGradGuard no_grad;
  CHECK(at::allclose(with, network->forward(x, t), 1e-5, 1e-6));
  CHECK(at::equal(x, before));
}

TEST_CASE("students: the gradient reaches every parameter", "[unit][students]") {
  const auto of = GENERATE(from_range(cases()));
  INFO(of.name);
  const auto network = filled(of);
  const at::Tensor out = network->forward(images(2), steps(2));
  (out * golden::u_fill(6000, out.sizes())).sum().backward();
  std::size_t fixed = 0;
  for (const auto& entry : network->named_parameters()) {
    INFO(entry.key());
    if (!entry.value().requires_grad()) {
      ++fixed;
      continue;
    }
    REQUIRE(entry.value().grad().defined());
    CHECK(at::isfinite(entry.value().grad()).all().item<bool>());
    CHECK(entry.value().grad().abs().max().item<double>() > 0);
  }
  CHECK(fixed == (of.name == "dit" ? 1 : 0));  // the position table
}

TEST_CASE("students: saved weights give the same network", "[unit][students]") {
  const auto of = GENERATE(from_range(cases()));
  INFO(of.name);
  const at::NoGradGuard no_grad;
  const auto tensors = [](Denoiser& network) {
    io::TensorMap map;
    for (const auto& entry : network.named_parameters()) map[entry.key()] = entry.value();
    return map;
  };
  const auto file = std::filesystem::temp_directory_path() /
                    ("dkdm-students-" + std::to_string(::getpid()) + ".safetensors");
  const auto saved = filled(of), loaded = fixtures::student(of.name, of.given, {3, 16, 16}, 9);
  io::save_tensors(file, tensors(*saved));
  model::copy_strictly(io::load_tensors(file), tensors(*loaded), file.string());
  std::filesystem::remove(file);
  saved->eval();
  loaded->eval();
  CHECK(at::equal(saved->forward(images(2), steps(2)), loaded->forward(images(2), steps(2))));
}

TEST_CASE("students: dropout does not depend on how a batch is split", "[unit][students]") {
  const at::NoGradGuard no_grad;
  const auto of = GENERATE(from_range(cases()));
  if (of.name == "dit" || of.name == "uvit") return;  // these have none
  INFO(of.name);
  const auto network = filled(of);
  const at::Tensor x = images(6), t = steps(6);
  const auto part = [&](std::int64_t from, std::int64_t count, std::int64_t first_sample) {
    nn::seed_layers(*network, 11, 3, first_sample);
    return network->forward(x.narrow(0, from, count), t.narrow(0, from, count));
  };
  const at::Tensor whole = part(0, 6, 0);
  CHECK(at::allclose(whole, at::cat({part(0, 4, 0), part(4, 2, 4)}), 1e-4, 1e-5));
  CHECK_FALSE(at::allclose(whole.narrow(0, 4, 2), part(4, 2, 0), 1e-2, 1e-2));
  network->eval();
  CHECK_FALSE(at::allclose(whole, network->forward(x, t), 1e-2, 1e-2));
}

TEST_CASE("students: impossible parameters are refused with what would be right",
          "[unit][students]") {
  struct Refused {
    std::string name;
    Given given;
    std::int64_t size;
    std::string culprit, remedy;
  };
  const std::int64_t k = 48;
  const auto wrong = GENERATE_COPY(values<Refused>({
      {"adm-unet", {{"model_channels", k}}, 32, "48", "multiple of the 32 groups"},
      {"adm-unet", {{"num_head_channels", k}}, 32, "num_head_channels is 48", "divisor of the 128"},
      {"adm-unet", {}, 28, "28 pixels, cannot be halved 3 times", "fewer levels"},
      {"adm-unet", {{"channel_mult", List{1, 2}}}, 32, "attention_resolutions has 8", "32, 16"},
      {"adm-unet", {{"channel_mult", List{}}}, 32, "channel_mult is empty", "[1, 2, 2]"},
      {"adm-unet", {{"preset", "57M-CNN-CelebA"}}, 32, "57M-CNN-CelebA", "64 pixels, got 32"},
      {"adm-unet", {{"preset", "14M-CNN"}, {"dropout", 0.1}}, 32, "sets dropout", "leave one"},
      {"adm-unet", {{"preset", "15M-CNN"}}, 32, "15M-CNN", "14M-CNN"},
      {"adm-unet", {{"preset", "LDM-89M"}}, 64, "predicts no variance", "learn_sigma = false"},
      {"dit", {{"patch_size", std::int64_t{5}}}, 32, "patch_size is 5", "divisor of the image"},
      {"dit", {{"num_heads", std::int64_t{7}}}, 32, "num_heads is 7", "divisor of hidden_size"},
      {"dit", {{"hidden_size", std::int64_t{50}}}, 32, "hidden_size is 50", "multiple of 4"},
      {"dit", {{"preset", "DiT-B"}, {"depth", std::int64_t{3}}}, 32, "sets depth", "leave one"},
      {"unet-lite", {{"model_channels", std::int64_t{20}}}, 32, "20", "multiple of the 8 groups"},
      {"unet-lite",
       {{"num_head_channels", k}},
       32,
       "num_head_channels is 48",
       "divisor of the 256"},
      {"unet-lite", {}, 30, "30 pixels, cannot be halved 2 times", "fewer levels"},
      {"unet-lite", {{"channel_mult", List{}}}, 32, "channel_mult is empty", "[1, 2]"},
      {"uvit", {{"patch_size", std::int64_t{5}}}, 32, "patch_size is 5", "divisor of the image"},
      {"uvit", {{"embed_dim", std::int64_t{63}}}, 32, "embed_dim is 63", "even number"},
      {"uvit", {{"num_heads", std::int64_t{7}}}, 32, "num_heads is 7", "divisor of embed_dim, 512"},
      {"uvit", {{"depth", std::int64_t{5}}}, 32, "depth is 5", "even number"},
      {"edm-unet", {{"model_channels", std::int64_t{30}}}, 32, "30", "multiple of 4"},
      {"edm-unet", {{"model_channels", std::int64_t{72}}}, 32, "144", "multiple of the 32 groups"},
      {"edm-unet", {}, 34, "34 pixels, cannot be halved 2 times", "fewer levels"},
      {"edm-unet", {{"attn_resolutions", List{12}}}, 32, "attn_resolutions has 12", "32, 16, 8"},
      {"edm-unet", {{"channel_mult", List{}}}, 32, "channel_mult is empty", "[1, 2]"},
      {"mlp-mixer",
       {{"patch_size", std::int64_t{5}}},
       32,
       "patch_size is 5",
       "divisor of the image"},
      {"mlp-mixer", {{"hidden_dim", std::int64_t{63}}}, 32, "hidden_dim is 63", "even number"},
  }));
  INFO(wrong.name << ": " << wrong.culprit);
  CHECK_THROWS_WITH(fixtures::student(wrong.name, wrong.given, {3, wrong.size, wrong.size}),
                    Contains(wrong.culprit) && Contains(wrong.remedy));
}

TEST_CASE("students: a model's description keeps how its v is read; older ones say nothing of it",
          "[unit][students]") {
  const Case of = cases().front();
  const auto& info = fixtures::registry().find("student", of.name);
  const auto folder =
      std::filesystem::temp_directory_path() / ("dkdm-model-" + std::to_string(getpid()));
  std::filesystem::create_directory(folder);
  const SampleShape wide{3, 16, 32};
  const DiffusionConfig unit{.schedule = "linear", .steps = 500, .variance_range = "unit"};
  model::write_model_description(
      folder, {{info.kind, of.name, info.version, Params(info.params, of.given)}, wide, unit, 7});
  const auto read = [&] { return model::read_model_description(folder, fixtures::registry()); };
  CHECK(read().diffusion == unit);
  CHECK(read().shape == wide);
  CHECK(read().images.empty());
  model::write_model_description(
      folder,
      {{info.kind, of.name, info.version, Params(info.params, of.given)}, wide, unit, 7, "faces"});
  CHECK(read().images == "faces");

  std::string text = io::read_text(folder / "model.json");
  const auto at = text.find(",\n    \"variance_range\": \"unit\"");
  REQUIRE(at != std::string::npos);
  io::write_text(folder / "model.json", text.erase(at, text.find('\n', at + 2) - at));
  CHECK(read().diffusion == DiffusionConfig{.schedule = "linear", .steps = 500});
  const auto sides = text.find("\"height\": 16,\n    \"width\": 32");
  REQUIRE(sides != std::string::npos);
  io::write_text(folder / "model.json",
                 text.replace(sides, text.find("32", sides) + 2 - sides, "\"size\": 16"));
  CHECK(read().shape == SampleShape{3, 16, 16});
  std::filesystem::remove_all(folder);
}

TEST_CASE("students: a number of a model's description that makes no sense is named with its range",
          "[unit][students]") {
  const Case of = cases().front();
  const auto& info = fixtures::registry().find("student", of.name);
  const auto folder =
      std::filesystem::temp_directory_path() / ("dkdm-numbers-" + std::to_string(getpid()));
  std::filesystem::create_directory(folder);
  model::write_model_description(
      folder,
      {{info.kind, of.name, info.version, Params(info.params, of.given)}, {3, 16, 16}, {}, 7});
  const std::string good = io::read_text(folder / "model.json");
  CHECK_NOTHROW(model::read_model_description(folder, fixtures::registry()));

  const auto wrong = GENERATE(table<std::string, std::string, std::string>({
      {"\"num_res_blocks\": 1", "\"num_res_blocks\": 100000",
       "student.params.num_res_blocks: expected range 1…64, got 100000"},
      {"\"num_res_blocks\": 1", "\"num_res_blocks\": 9223372036854775808",
       "num_res_blocks is 9223372036854775808"},
      {"\"num_res_blocks\": 1", "\"num_res_blocks\": 1e300", "num_res_blocks is 1e+300"},
      {"\"num_res_blocks\": 1", "\"num_res_blocks\": \"one\"", "num_res_blocks is \"one\""},
      {"\"channels\": 3", "\"channels\": 3000", "image.channels: expected range 1…64, got 3000"},
      {"\"height\": 16", "\"height\": 1000000", "image.height: expected range 1…4096, got 1000000"},
      {"\"width\": 16", "\"width\": 0", "image.width: expected range 1…4096, got 0"},
      {"\"steps\": 1000", "\"steps\": 100001",
       "diffusion.steps: expected range 2…100000, got 100001"},
      {"\"beta_end\": 0.0", "\"beta_end\": 7", "diffusion.beta_end: expected range 0…1"},
      {"\"trained_steps\": 7", "\"trained_steps\": -7",
       "trained_steps: expected range 0…1000000000"},
      {"\"trained_steps\": 7", "\"trained\": 7", "trained_steps"},
  }));
  const auto& [from, to, says] = wrong;
  INFO(to);
  std::string text = good;
  const auto at = text.find(from);
  REQUIRE(at != std::string::npos);
  io::write_text(folder / "model.json", text.replace(at, from.size(), to));
  try {
    model::read_model_description(folder, fixtures::registry());
    FAIL("accepted");
  } catch (const DataError& error) {
    CHECK_THAT(error.what(), Contains((folder / "model.json").string()) && Contains(says));
    CHECK(std::string(error.what()).find('\n') == std::string::npos);
    CHECK(std::string(error.what()).find("json.exception") == std::string::npos);
  }
  std::filesystem::remove_all(folder);
}

// The teacher ldm on Lightning checkpoints made here: which weights it takes, what it refuses, and
// that it reads no more of a file than it needs.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include <fstream>
#include <functional>
#include <limits>

#include "dkdm/weights_kind.hpp"
#include "fixtures/latent_unet.hpp"
#include "fixtures/lightning.hpp"
#include "fixtures/teachers.hpp"
#include "plugin/announce.hpp"

using namespace dkdm;
using namespace dkdm::fixtures;
using Catch::Matchers::Contains;
using io::NamedTensors;

namespace {

using Given = std::map<std::string, Value>;

constexpr SampleShape kShape{3, 16, 16};

const Given& unet() {
  static const Given values = latent_unet(32, 16);
  return values;
}

// Its weights out of one run of numbers, which they share: a small file. `which` tells sets apart.
NamedTensors weights(std::uint32_t which) {
  static const NamedTensors shaped = filled_weights(unet(), kShape);
  const at::Tensor numbers = golden::v_fill(which, {400'000}, 0.2);
  NamedTensors tensors;
  std::int64_t first = 0;
  for (const auto& [name, like] : shaped) {
    first = (first + 997) % 100'000;
    tensors.emplace_back(name, numbers.narrow(0, first, like.numel()).view(like.sizes()));
  }
  return tensors;
}

NamedTensors state() { return ldm_state(weights(1), weights(2)); }

at::Tensor* find(NamedTensors& tensors, const std::string& name) {
  for (auto& [other, tensor] : tensors)
    if (other == name) return &tensor;
  return nullptr;
}

at::Tensor output_of(Denoiser& network) {
  const at::NoGradGuard no_grad;
  return network.forward(probe(kShape), probe_time());
}

// What the network gives with these weights, filled directly.
at::Tensor expected(const NamedTensors& tensors) {
  const auto network = student("adm-unet", unet(), kShape);
  io::load_strictly(tensors, *network, "here");
  network->eval();
  return output_of(*network);
}

struct File {
  ScratchFolder scratch;
  std::filesystem::path path = scratch.path / "model.ckpt";
  CountingHost host;

  File() = default;
  explicit File(const NamedTensors& tensors) { write_checkpoint(path, tensors); }
  std::shared_ptr<Teacher> teacher(Given given = {}) {
    given["path"] = path.string();
    given.emplace("latent_size", std::int64_t{16});
    return fixtures::teacher("ldm", given, host);
  }
};

void check_refused(const NamedTensors& tensors, const std::string& says, const Given& given = {}) {
  INFO(says);
  File file(tensors);
  CHECK_THROWS_WITH(file.teacher(given)->load(),
                    Contains("model.ckpt") && Contains(says) && !Contains("\n"));
}

}  // namespace

TEST_CASE("ldm: the moving average is taken by its undotted names, the raw weights if asked for",
          "[unit][latent]") {
  File file(state());
  const auto averaged = file.teacher()->load(), raw = file.teacher({{"weights", "raw"}})->load();
  CHECK(at::equal(output_of(*averaged.network), expected(weights(2))));
  CHECK(at::equal(output_of(*raw.network), expected(weights(1))));
  CHECK(averaged.network->parameters().size() == 368);
  CHECK_FALSE(averaged.network->is_training());
  for (const auto& parameter : averaged.network->parameters())
    CHECK_FALSE(parameter.requires_grad());
  CHECK(averaged.shape == kShape);
  CHECK(averaged.diffusion.schedule == "scaled_linear");
  CHECK(averaged.diffusion.steps == 1000);
  CHECK(averaged.diffusion.beta_start == 0.0015);
  CHECK(averaged.diffusion.beta_end == 0.0195);
  CHECK(averaged.diffusion.variance == "fixed_small");

  const auto teacher = file.teacher(), other = file.teacher({{"weights", "raw"}});
  CHECK(dynamic_cast<const StatesWeights&>(*teacher).weights() == "ema");
  CHECK(dynamic_cast<const StatesWeights&>(*other).weights() == "raw");
  CHECK(teacher->fingerprint() == file.teacher()->fingerprint());
  CHECK(teacher->fingerprint() != other->fingerprint());
  CHECK(file.host.said ==
        "ldm: model.ckpt: EMA weights of step 490000, base width 32, 5616931 weights\n"
        "ldm: model.ckpt: raw weights of step 490000, base width 32, 5616931 weights\n");
}

TEST_CASE("ldm: what does not belong to it is named, a student's file is as good as a teacher's",
          "[unit][latent]") {
  auto tensors = state();
  tensors.emplace_back("logvar", at::zeros({1000}));
  tensors.emplace_back("scale_factor", at::ones({}));
  tensors.emplace_back("teacher_model.diffusion_model.out.2.bias", at::zeros({3}));
  File file(tensors);
  file.teacher()->load();
  CHECK_THAT(file.host.said, Contains("weights; not used: logvar\n"));

  for (int i = 0; i < 7; ++i) tensors.emplace_back("loss." + std::to_string(i), at::zeros({1}));
  File many(tensors);
  many.teacher()->load();
  CHECK_THAT(many.host.said,
             Contains("not used: logvar, loss.0, loss.1, loss.2, loss.3 and 3 more\n"));
}

TEST_CASE("ldm: a file that does not fit is one line that names it and what is wrong",
          "[unit][latent]") {
  const auto without = [](const std::string& name) {
    auto tensors = state();
    const auto removed =
        std::erase_if(tensors, [&](const auto& entry) { return entry.first == name; });
    REQUIRE(removed == 1);
    return tensors;
  };
  const auto with = [](const std::string& name, const at::Tensor& value) {
    auto tensors = state();
    if (at::Tensor* there = find(tensors, name)) *there = value;
    else tensors.emplace_back(name, value);
    return tensors;
  };
  const std::string twin = "model_ema.diffusion_modelmiddle_block0in_layers2weight";
  check_refused(without(twin), "has no tensor '" + twin +
                                   "', the moving average of a weight; weights = \"raw\" does "
                                   "without");
  {
    File file(without(twin));
    CHECK(at::equal(output_of(*file.teacher({{"weights", "raw"}})->load().network),
                    expected(weights(1))));
  }
  check_refused(with("model_ema.diffusion_modelout2bias", at::zeros({4})), "out.2.bias");
  check_refused(without("model.diffusion_model.out.2.bias"), "out.2.bias");
  check_refused(with("model.diffusion_model.more", at::zeros({4})),
                "has no tensor 'model_ema.diffusion_modelmore'");
  check_refused(with("model.diffusion_model.more", at::zeros({4})), "more", {{"weights", "raw"}});
  check_refused(with("scale_factor", at::full({}, 0.18215f)),
                "scale_factor is 0.18215, expected 1");
  check_refused(with("model_ema.diffusion_modelout2bias",
                     at::full({3}, std::numeric_limits<float>::infinity())),
                "tensor 'out.2.bias': 3 of its 3 values are NaN or infinite");
  check_refused(with("model_ema.diffusion_modeltime_embed0weight", at::zeros({120, 32})),
                "time_embed.0.weight is [120, 32], expected [4 m, m]");
  check_refused(state(), "model_channels is 224, but", {{"model_channels", std::int64_t{224}}});
  check_refused(without("posterior_mean_coef2"),
                "has no tensor 'posterior_mean_coef2', which a "
                "latent diffusion model has");
  check_refused({{"w", at::zeros({1})}},
                "holds no latent diffusion model: no dictionary has "
                "model.diffusion_model.time_embed.0.weight");

  // Each buffer, off by more than the rounding of f32.
  for (const auto& [name, values] : ldm_schedule()) {
    at::Tensor changed = values.clone();
    changed[500] *= 1 + 3e-6;
    check_refused(with(name, changed), name == "betas" ? "[500] is" : name + "[500] is");
  }
  check_refused(with("betas", at::zeros({1})), "betas has 1 steps");
  check_refused(with("alphas_cumprod", at::zeros({7})), "alphas_cumprod has 7 steps, betas 1000");
}

TEST_CASE("ldm: a cut or damaged file is one line that names it", "[unit][latent]") {
  File file(state());
  std::ifstream stream(file.path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(stream)), {});
  for (const double share : {0.0, 0.3, 0.7, 0.99}) {
    INFO(share);
    write_bytes(file.path, bytes.substr(0, static_cast<std::size_t>(share * double(bytes.size()))));
    CHECK_THROWS_WITH(file.teacher()->load(), Contains("model.ckpt") && !Contains("\n"));
  }
  // A bit of the averaged weights' only entry.
  const at::Tensor numbers = weights(2).front().second;
  const std::string sample(static_cast<const char*>(numbers.const_data_ptr()), 64);
  std::string damaged = bytes;
  const auto at = damaged.find(sample);
  REQUIRE(at != std::string::npos);
  damaged[at + 5] = static_cast<char>(damaged[at + 5] ^ 4);
  write_bytes(file.path, damaged);
  CHECK_THROWS_WITH(file.teacher()->load(), Contains("its checksum is wrong"));
  CHECK_NOTHROW(file.teacher({{"weights", "raw"}})->load());
}

namespace {

// Notes, when the teacher has loaded, how much of the file's mapping is in this process.
class Watching : public CountingHost {
 public:
  explicit Watching(std::filesystem::path file) : file_(std::move(file)) {}
  void log(const std::string& component, const std::string& line) override {
    CountingHost::log(component, line);
    std::ifstream maps("/proc/self/smaps");
    bool inside = false;
    for (std::string text; std::getline(maps, text);) {
      if (text.find(file_.string()) != std::string::npos) inside = true;
      else if (inside && text.starts_with("Rss:")) {
        resident_bytes += std::stoll(text.substr(4)) * 1024;
        inside = false;
        seen = true;
      }
    }
  }
  std::int64_t resident_bytes = 0;
  bool seen = false;

 private:
  std::filesystem::path file_;
};

}  // namespace

TEST_CASE("ldm: nothing is read of what is not needed", "[unit][latent]") {
  // First stage, another network, moments: 32 MiB each beside averages of 1.6 MB.
  constexpr std::int64_t kItems = 8 << 20;
  auto tensors = state();
  tensors.emplace_back("first_stage_model.large", at::ones({kItems}));
  tensors.emplace_back("teacher_model.large", at::ones({kItems}));
  File file;
  write_checkpoint(file.path, tensors, /*lightning=*/true, /*moment=*/at::ones({kItems}));
  REQUIRE(std::filesystem::file_size(file.path) > 3 * 4 * kItems);
  Watching host(file.path);
  fixtures::teacher("ldm", {{"path", file.path.string()}, {"latent_size", std::int64_t{16}}}, host)
      ->load();
  REQUIRE(host.seen);
  INFO(host.resident_bytes << " bytes of " << std::filesystem::file_size(file.path));
  CHECK(host.resident_bytes < 4 << 20);
}

TEST_CASE("ldm: an absent file is announced with the network that it is to hold",
          "[unit][latent]") {
  const auto& info = shipped_plugins().find("teacher", "ldm");
  const auto announced = [&](const Given& given) {
    return plugin::announced(shipped_plugins(),
                             {info.kind, info.name, info.version, Params(info.params, given)});
  };
  const Announced paper = announced({{"path", "/nowhere/model.ckpt"}});
  REQUIRE(paper.absent.size() == 1);
  CHECK_THAT(paper.absent[0].remedy, Contains("no such file; the teacher ldm needs"));
  REQUIRE(paper.network.has_value());
  CHECK(paper.network->student == "adm-unet");
  CHECK(std::get<std::int64_t>(paper.network->values.at("model_channels")) == 224);
  CHECK(paper.network->context.shape == SampleShape{3, 64, 64});
  CHECK(paper.network->context.diffusion.beta_end == 0.0195);
  const Announced given = announced({{"model_channels", std::int64_t{128}}});
  CHECK(std::get<std::int64_t>(given.network->values.at("model_channels")) == 128);
  File file(state());
  CHECK(announced({{"path", file.path.string()}}).absent.empty());
}

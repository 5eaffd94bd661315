// edm-unet, uvit and mlp-mixer against the authors' code: golden/architectures.json
// (make_architectures.py: source commits and versions are in the file); and what the
// preconditioning of edm-unet promises.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include <cmath>

#include "dkdm/diffusion.hpp"
#include "dkdm/files.hpp"
#include "fixtures/golden_file.hpp"
#include "fixtures/teachers.hpp"
#include "golden/packed.hpp"

using namespace dkdm;
using fixtures::Json;
using Given = std::map<std::string, Value>;

namespace {

const Json& networks() {
  static const Json json = fixtures::golden_json("architectures.json").at("networks");
  return json;
}

// Student `name` of `given`, filled, in evaluation mode.
std::shared_ptr<Denoiser> filled(const std::string& name, const Given& given,
                                 const SampleShape& shape, const DiffusionConfig& diffusion = {}) {
  auto network = fixtures::student(name, given, shape, /*seed=*/0, diffusion);
  fixtures::fill_parameters(*network);
  network->eval();
  return network;
}

// The network of a golden case, its weights as make_architectures.py fills them.
std::shared_ptr<Denoiser> golden_network(const Json& golden) {
  Given given;
  for (const auto& [name, value] : golden.at("student").items()) {
    if (name == "plugin") continue;
    if (value.is_boolean()) given[name] = value.get<bool>();
    else if (value.is_array()) given[name] = value.get<std::vector<std::int64_t>>();
    else if (value.is_number_float()) given[name] = value.get<double>();
    else given[name] = value.get<std::int64_t>();
  }
  const auto network = filled(golden.at("student").at("plugin"), given,
                              {golden.at("channels"), golden.at("size"), golden.at("size")});
  const at::NoGradGuard no_grad;
  auto parameters = network->named_parameters();
  if (auto* position = parameters.find("pos_embed"))
    position->copy_(golden::u_fill(0, position->sizes(), 0.1));
  return network;
}

// What the authors' network has: all but the time's layers in a Mixer, which are ours and come
// last.
io::NamedTensors parameters(const Denoiser& network) {
  io::NamedTensors tensors;
  for (const auto& entry : network.named_parameters()) {
    const std::string& name = entry.key();
    if (name.starts_with("time_in.") || name.starts_with("time_out.") ||
        name.starts_with("modulation."))
      continue;
    tensors.emplace_back(name, entry.value());
  }
  return tensors;
}

}  // namespace

TEST_CASE("architectures: names, order, shapes and outputs are the authors'",
          "[conformance][students]") {
  const at::NoGradGuard no_grad;
  REQUIRE(networks().size() == 7);
  for (const auto& [name, golden] : networks().items()) {
    INFO(name);
    const auto network = golden_network(golden);
    CHECK(io::sha256(fixtures::layout(parameters(*network))) ==
          golden.at("layout").get<std::string>());
    for (const auto& entry : network->named_parameters())  // a Mixer that the time does not touch
      if (entry.key().starts_with("modulation.")) entry.value().zero_();
    const at::Tensor x =
        fixtures::probe({golden.at("channels"), golden.at("size"), golden.at("size")});
    fixtures::check_numbers(network->forward(x, fixtures::probe_time()), golden.at("output"));
  }
}

TEST_CASE(
    "edm-unet: eps follows from D(x; sigma) of EDM's Table 1 at every step, under each schedule",
    "[conformance][students]") {
  const at::NoGradGuard no_grad;
  const std::string schedule = GENERATE("cosine", "linear", "scaled_linear");
  const double s = GENERATE(0.5, 1.3);  // sigma_data
  INFO(schedule << ", sigma_data " << s);
  const SampleShape shape{2, 8, 8};
  Given given{{"model_channels", std::int64_t{16}},
              {"channel_mult", std::vector<std::int64_t>{1, 2}},
              {"num_blocks", std::int64_t{1}},
              {"attn_resolutions", std::vector<std::int64_t>{4}}};
  const auto plain = filled("edm-unet", given, shape);  // F(x, noise label)
  given["precondition"] = true;
  given["sigma_data"] = s;
  // The run's own process; that a chain of it is respaced changes no step's noise level.
  DiffusionConfig diffusion{.schedule = schedule, .respacing = "10"};
  if (schedule != "cosine") diffusion.beta_end = 0.01;
  const auto network = filled("edm-unet", given, shape, diffusion);

  diffusion.respacing.clear();
  const GaussianDiffusion process(diffusion);
  const at::Tensor x_t = golden::u_fill(5000, {4, 2, 8, 8}, 1.7);
  const std::vector<std::int64_t> steps{0, 30, 500, 999};
  const at::Tensor out = network->forward(x_t, at::tensor(steps, at::kLong));
  for (std::size_t i = 0; i < steps.size(); ++i) {
    INFO("step " << steps[i]);
    const double a = process.tables().alpha_bar[static_cast<std::size_t>(steps[i])];
    const double sigma = std::sqrt((1 - a) / a), spread = sigma * sigma + s * s;
    const at::Tensor x =
        x_t.narrow(0, static_cast<std::int64_t>(i), 1).to(at::kDouble) / std::sqrt(a);
    const at::Tensor f = plain->forward((x / std::sqrt(spread)).to(at::kFloat),
                                        at::full({1}, std::log(sigma) / 4, at::kFloat));
    const at::Tensor d =
        s * s / spread * x + sigma * s / std::sqrt(spread) * f.narrow(1, 0, 2).to(at::kDouble);
    const at::Tensor own = out.narrow(0, static_cast<std::int64_t>(i), 1);
    CHECK(golden::row_error(own.narrow(1, 0, 2), (x - d) / sigma) < 1e-4);
    CHECK(golden::row_error(own.narrow(1, 2, 2), f.narrow(1, 2, 2)) < 1e-4);
  }
}

TEST_CASE("edm-unet: between two steps the noise level is between theirs",
          "[conformance][students]") {
  const at::NoGradGuard no_grad;
  const Given given{{"model_channels", std::int64_t{16}},
                    {"channel_mult", std::vector<std::int64_t>{1}},
                    {"num_blocks", std::int64_t{1}},
                    {"attn_resolutions", std::vector<std::int64_t>{}},
                    {"precondition", true}};
  const auto network = filled("edm-unet", given, {1, 8, 8});
  const at::Tensor x = golden::u_fill(5000, {1, 1, 8, 8}, 1.7);
  const auto at_step = [&](double t) { return network->forward(x, at::full({1}, t, at::kFloat)); };
  CHECK(at::equal(at_step(300), network->forward(x, at::full({1}, 300, at::kLong))));
  const at::Tensor low = at_step(300), middle = at_step(300.5), high = at_step(301);
  CHECK((low - middle).norm().item<double>() < (low - high).norm().item<double>());
  CHECK((high - middle).norm().item<double>() < (low - high).norm().item<double>());
}

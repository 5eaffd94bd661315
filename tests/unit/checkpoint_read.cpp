// Checkpoints of PyTorch 1.13.1 and 2.15.0 against what PyTorch says is in them (expected.json, by
// make_checkpoints.py), and the parts of the formats that those files do not show.
#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "dkdm/checkpoint.hpp"
#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "fixtures/analytic.hpp"
#include "fixtures/pickles.hpp"
#include "io/array/tensor_types.hpp"

using namespace dkdm;
using namespace dkdm::fixtures;
using Catch::Matchers::Contains;

namespace {

namespace fs = std::filesystem;

const fs::path kFixtures = fs::path(DKDM_SOURCE_DIR) / "tests/fixtures/checkpoints";
const std::vector<std::string> kVersions{"torch-1.13.1", "torch-2.15.0"};

std::string digest(const at::Tensor& tensor) {
  const at::Tensor plain = tensor.contiguous();
  return io::sha256(std::string(static_cast<const char*>(plain.const_data_ptr()), plain.nbytes()));
}

// [state, name, dtype, shape, SHA-256] of every tensor, as expected.json has it.
nlohmann::json listing(const io::CheckpointFile& checkpoint) {
  nlohmann::json rows = nlohmann::json::array();
  for (const io::StateDict& state : checkpoint.states) {
    for (const auto& [name, tensor] : state.tensors) {
      rows.push_back({state.path, name, io::item_of(tensor, name).torch, tensor.sizes().vec(),
                      digest(tensor)});
    }
  }
  return rows;
}

const at::Tensor& named(const io::StateDict& state, const std::string& name) {
  for (const auto& [key, tensor] : state.tensors) {
    if (key == name) return tensor;
  }
  throw std::out_of_range(name);
}

const io::StateDict& state_at(const io::CheckpointFile& checkpoint, const std::string& path) {
  return io::select_state(checkpoint, path, "file");
}

// The checkpoint in a legacy file made of `object`.
io::CheckpointFile read_made(const std::string& object,
                             const std::vector<LegacyStorage>& storages = {}) {
  ScratchFolder scratch;
  const auto file = scratch.path / "made.pt";
  write_bytes(file, legacy(object, storages));
  return io::read_checkpoint(file);
}

}  // namespace

TEST_CASE("checkpoint: every file of PyTorch 1.13 and 2.15 has the tensors that PyTorch put there",
          "[unit][checkpoint]") {
  for (const std::string& version : kVersions) {
    const auto expected =
        nlohmann::json::parse(io::read_text(kFixtures / version / "expected.json"));
    REQUIRE(expected.size() == 10);
    for (const auto& [name, rows] : expected.items()) {
      CAPTURE(version, name);
      const auto checkpoint = io::read_checkpoint(kFixtures / version / (name + ".pt"));
      CHECK(checkpoint.format == (name.starts_with("legacy") ? "torch legacy" : "torch zip"));
      CHECK(listing(checkpoint) == rows);
      for (const io::StateDict& state : checkpoint.states) {
        CHECK_NOTHROW(io::select_state(checkpoint, state.path.empty() ? "." : state.path, name));
      }
    }
  }
}

TEST_CASE("checkpoint: what a training script keeps beside the weights is listed",
          "[unit][checkpoint]") {
  for (const std::string& version : kVersions) {
    for (const std::string name : {"training.pt", "legacy-training.pt"}) {
      CAPTURE(version, name);
      const auto values = io::read_checkpoint(kFixtures / version / name).values;
      CHECK(values.at("epoch") == "3");
      CHECK(values.at("global_step") == "123456789012");
      CHECK(values.at("loss") == "0.125");
      CHECK(values.at("best") == "1.5");
      CHECK(values.at("count") == "7");
      CHECK(values.at("history") == "[0.5, 0.25]");
      CHECK(values.at("note") == "ε \"quoted\"");
      CHECK(values.at("done") == "False");
      CHECK(values.at("nothing") == "None");
      CHECK(values.at("device") == "cpu");
      CHECK(values.at("dtype") == "torch.float16");
      CHECK(values.at("array") == "a numpy array");
      CHECK(values.at("milestones.2") == "2");
      CHECK(values.at("callbacks.ModelCheckpoint.monitor") == "val");
      CHECK(values.at("optimizer_states.0.param_groups.0.betas") == "[0.9, 0.999]");
      CHECK(values.at("optimizer_states.0.param_groups.0.lr") == "1e-04");
    }
  }
}

TEST_CASE("checkpoint: tensors of one storage share memory, with their strides, and the file stays",
          "[unit][checkpoint]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "views.pt";
  fs::copy_file(kFixtures / "torch-2.15.0" / "views.pt", file);
  const std::string before = io::sha256_file(file);
  const auto checkpoint = io::read_checkpoint(file);
  const io::StateDict& odd = state_at(checkpoint, "odd");
  const io::StateDict& model = state_at(checkpoint, "model");
  CHECK(named(odd, "transposed").strides() == at::IntArrayRef{1, 8});
  CHECK(named(odd, "every_third").strides() == at::IntArrayRef{3});
  CHECK(named(odd, "repeated").strides() == at::IntArrayRef{1, 0});
  CHECK(named(odd, "channels_last").is_contiguous(at::MemoryFormat::ChannelsLast));
  CHECK(named(odd, "scalar").item<float>() == -2.5f);
  CHECK(named(odd, "empty").sizes() == at::IntArrayRef{0, 7});

  named(model, "a.weight").fill_(3);  // the first 24 of the 64 that are transposed
  CHECK(named(odd, "transposed").select(1, 0).eq(3).all().item<bool>());
  CHECK_FALSE(named(odd, "transposed").select(1, 3).eq(3).any().item<bool>());
  CHECK(io::sha256_file(file) == before);
}

TEST_CASE("checkpoint: tensors outlive the file they were read from", "[unit][checkpoint]") {
  at::Tensor weight;
  {
    ScratchFolder scratch;
    const auto file = scratch.path / "state.pt";
    fs::copy_file(kFixtures / "torch-1.13.1" / "state.pt", file);
    weight = named(io::read_checkpoint(file).states.at(0), "0.weight");
  }
  const auto again = io::read_checkpoint(kFixtures / "torch-1.13.1" / "state.pt");
  CHECK(at::equal(weight, named(again.states.at(0), "0.weight")));
}

TEST_CASE("checkpoint: which dictionary holds the network", "[unit][checkpoint]") {
  const auto part = [](const std::string& key) { return tensor(storage("s", 2), 0, {2}, {1}); };
  const std::vector<LegacyStorage> data{{"s", 2, floats({1, 2})}};
  const auto holding = [&](const std::vector<std::string>& names) {
    std::vector<std::pair<std::string, std::string>> items;
    for (const std::string& name : names) {
      items.emplace_back(text(name), dict({{text("w"), part(name)}}));
    }
    return read_made(dict(items), data);
  };
  CHECK(state_at(holding({"anything"}), "").path == "anything");
  CHECK(state_at(holding({"net_d", "model", "state_dict"}), "").path == "state_dict");
  CHECK(state_at(holding({"net_d", "model"}), "").path == "model");
  CHECK(state_at(holding({"ema", "model"}), "").path == "ema");
  CHECK(state_at(holding({"ema", "model"}), "model").path == "model");
  CHECK_THROWS_WITH(state_at(holding({"net_d", "net_g"}), ""),
                    Contains("file: holds several") && Contains("'net_d' (1 tensors), 'net_g'"));
  CHECK_THROWS_WITH(state_at(holding({"ema"}), "model"),
                    Contains("no dictionary of tensors 'model'; it holds 'ema'"));
  const auto mixed = read_made(
      dict({{text("w"), part("w")}, {text("deep"), dict({{text("v"), part("v")}})}}), data);
  CHECK(state_at(mixed, "").path.empty());
  CHECK(state_at(mixed, ".").path.empty());
  CHECK(state_at(mixed, "deep").tensors.size() == 1);
  CHECK_THROWS_WITH(state_at(read_made("}"), ""), Contains("holds no tensors"));
}

TEST_CASE(
    "checkpoint: Python 2's dictionaries and texts, the first rebuild function, views of a "
    "storage, a parameter with a state",
    "[unit][checkpoint]") {
  const std::string old_tensor =
      call(global("torch._utils", "_rebuild_tensor"),
           {storage("s", 6, "FloatStorage", tuple({text("view"), integer(2), integer(4)})),
            integer(1), integers({3}), integers({1})});
  const std::string parameter =
      call(global("torch._utils", "_rebuild_parameter_with_state"),
           {old_tensor, "\x88", call(global("collections", "OrderedDict"), {}), "}"});
  const std::string short_string = std::string("U\x01") + "p";
  const auto checkpoint =
      read_made(call(global("collections", "OrderedDict"),
                     {"](](" + short_string + old_tensor + "e](" + text("q") + parameter + "ee"}),
                {{"s", 6, floats({0, 1, 2, 3, 4, 5})}});
  const auto& state = state_at(checkpoint, "");
  REQUIRE(state.tensors.size() == 2);
  for (const auto& [name, tensor] : state.tensors) {
    CHECK(at::equal(tensor, at::tensor({3.0f, 4.0f, 5.0f})));
  }
}

TEST_CASE("checkpoint: numbers of a big-endian machine are turned, complex ones by halves",
          "[unit][checkpoint]") {
  const std::string object =
      dict({{text("f"), tensor(storage("s", 2), 0, {2}, {1})},
            {text("c"), tensor(storage("t", 1, "ComplexFloatStorage"), 0, {1}, {1})}});
  const auto big = [](std::string bytes, std::size_t word) {
    for (std::size_t at = 0; at < bytes.size(); at += word) {
      std::reverse(bytes.begin() + at, bytes.begin() + at + word);
    }
    return bytes;
  };
  ScratchFolder scratch;
  const auto file = scratch.path / "big.pt";
  write_bytes(file, legacy_head(false) + pickle(object) +
                        pickle("](" + text("s") + text("t") + "e") + big(raw<std::int64_t>(2), 8) +
                        big(floats({1.5f, -2}), 4) + big(raw<std::int64_t>(1), 8) +
                        big(floats({3, 4}), 4));
  const auto checkpoint = io::read_checkpoint(file);
  const auto& state = state_at(checkpoint, "");
  CHECK(at::equal(named(state, "f"), at::tensor({1.5f, -2.0f})));
  CHECK(at::equal(at::view_as_real(named(state, "c")), at::tensor({3.0f, 4.0f}).view({1, 2})));
}

TEST_CASE("checkpoint: weights that are not finite are named with their first index",
          "[unit][checkpoint]") {
  const auto nan = std::numeric_limits<float>::quiet_NaN();
  const io::StateDict good{"", {{"n", at::arange(3)}, {"w", at::ones({2, 2})}}};
  CHECK_NOTHROW(io::check_finite(good, "net.pt"));
  for (const auto type : {at::kFloat, at::kHalf, at::kBFloat16, at::kDouble, at::kFloat8_e5m2,
                          at::kComplexFloat, at::kComplexHalf}) {
    CAPTURE(type);
    const at::Tensor bad = at::tensor({1.0f, 2.0f, nan, nan}).view({2, 2});
    const io::StateDict state{"", {{"w", bad.to(type)}}};
    CHECK_THROWS_WITH(io::check_finite(state, "net.pt"),
                      Contains("net.pt: tensor 'w': 2 of its 4 values") && Contains("index 2"));
  }
  const io::StateDict infinite{"", {{"w", at::full({3}, -INFINITY)}}};
  CHECK_THROWS_AS(io::check_finite(infinite, "net.pt"), DataError);
}

TEST_CASE("checkpoint: a network is loaded whole or the tensors that do not fit are listed",
          "[unit][checkpoint]") {
  struct Net : torch::nn::Module {
    Net() {
      auto inner = register_module("inner", std::make_shared<torch::nn::Module>());
      inner->register_parameter("weight", at::zeros({2, 3}));
      register_parameter("bias", at::zeros({2}));
      register_buffer("count", at::zeros({}, at::kLong));
    }
  } net;
  const auto state = io::state_of(net);
  std::vector<std::string> names;
  for (const auto& [name, tensor] : state) names.push_back(name);
  // PyTorch's order: a module's parameters, its buffers, then its children.
  CHECK(names == std::vector<std::string>{"bias", "count", "inner.weight"});

  io::NamedTensors tensors{{"inner.weight", at::ones({2, 3}, at::kHalf)},
                           {"bias", at::ones({2})},
                           {"count", at::ones({}, at::kLong)}};
  io::load_strictly(tensors, net, "net.pt");
  CHECK(net.named_parameters()["inner.weight"].sum().item<float>() == 6);
  CHECK(net.named_buffers()["count"].item<std::int64_t>() == 1);

  // Codes of a quantised network are no weights.
  tensors[0].second = at::ones({2, 3}, at::kChar);
  CHECK_THROWS_WITH(
      io::load_strictly(tensors, net, "net.pt"),
      Contains("net.pt: tensor 'inner.weight' holds int8") && Contains("save it as float32"));
  tensors[0].second = at::ones({2, 3}, at::kHalf);

  tensors[1].second = at::ones({3});
  tensors.pop_back();
  for (int i = 0; i < 12; ++i) tensors.emplace_back("extra." + std::to_string(i), at::ones({1}));
  CHECK_THROWS_WITH(io::load_strictly(tensors, net, "net.pt"),
                    Contains("net.pt: ") && Contains("1 missing, 1 misshapen, 12 unexpected") &&
                        Contains("bias has shape [3], expected [2]") && Contains("missing count") &&
                        Contains("and 4 more"));
  CHECK(net.named_parameters()["bias"].sum().item<float>() == 2);
}

TEST_CASE("checkpoint: other files are told apart from checkpoints", "[unit][checkpoint]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "x";
  io::write_npz(file, {{"a", at::ones({2})}});
  CHECK_THROWS_WITH(io::read_checkpoint(file),
                    Contains("an npz (arrays of numpy)") && Contains("a.npy"));
  write_bytes(file, "\x01\x02\x03 not a checkpoint");
  CHECK_THROWS_WITH(io::read_checkpoint(file), Contains("byte 0: is not a checkpoint"));
  write_bytes(file, pickle("}"));
  CHECK_THROWS_WITH(io::read_checkpoint(file), Contains("not one that torch.save wrote"));
  write_bytes(file, "");
  CHECK_THROWS_WITH(io::read_checkpoint(file), Contains("the file is empty"));
  CHECK_THROWS_WITH(io::read_checkpoint(scratch.path / "none"), Contains("No such file"));
  io::save_tensors(file, {{"w", at::ones({2})}}, {{"step", "12"}});
  const auto checkpoint = io::read_checkpoint(file);
  CHECK(checkpoint.format == "safetensors");
  CHECK(checkpoint.values.at("step") == "12");
  CHECK(at::equal(named(state_at(checkpoint, ""), "w"), at::ones({2})));
}

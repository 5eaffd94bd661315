// What training scripts keep beside their tensors (fixtures/checkpoints/odd, by
// make_odd_checkpoints.py): it is described, whatever it is, and the tensors are had.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include "dkdm/checkpoint.hpp"
#include "fixtures/analytic.hpp"
#include "fixtures/pickles.hpp"

using namespace dkdm;
using namespace dkdm::fixtures;
using Catch::Matchers::Contains;

namespace {

namespace fs = std::filesystem;

const fs::path kOdd = fs::path(DKDM_SOURCE_DIR) / "tests/fixtures/checkpoints/odd";

io::StateDict state_at(const io::CheckpointFile& checkpoint, const std::string& path) {
  return io::select_state(checkpoint, path, "file");
}

const at::Tensor& named(const io::StateDict& state, const std::string& name) {
  for (const auto& [key, tensor] : state.tensors) {
    if (key == name) return tensor;
  }
  throw std::out_of_range(name);
}

io::CheckpointFile read_made(const std::string& object,
                             const std::vector<LegacyStorage>& data = {}) {
  ScratchFolder scratch;
  const auto file = scratch.path / "made.pt";
  write_bytes(file, legacy(object, data));
  return io::read_checkpoint(file);
}

const LegacyStorage kFour{"s", 4, floats({0, 1, 2, 3})};
const std::string kTensor = tensor(storage("s", 4), 0, {4}, {1});

}  // namespace

TEST_CASE("checkpoint: whatever stands beside the tensors, they are read", "[unit][checkpoint]") {
  for (const char* name : {"values.pt", "values-protocol4.pt", "values-legacy.pt"}) {
    CAPTURE(name);
    const auto checkpoint = io::read_checkpoint(kOdd / name);
    CHECK(at::equal(named(state_at(checkpoint, "model"), "w"), at::arange(4, at::kFloat)));
    // Of an object's attribute.
    CHECK(
        at::equal(named(state_at(checkpoint, "ema.shadow"), "w"), at::arange(10, 14, at::kFloat)));
  }
}

TEST_CASE(
    "checkpoint: an object of a class that is not known is said to be one, with its attributes",
    "[unit][checkpoint]") {
  for (const char* name : {"values.pt", "values-protocol4.pt"}) {
    CAPTURE(name);
    const auto values = io::read_checkpoint(kOdd / name).values;
    CHECK(values.at("args") == "an argparse.Namespace");
    CHECK(values.at("args.lr") == "0.125");
    CHECK(values.at("args.betas") == "[0.9, 0.99]");
    CHECK_THAT(values.at("args.path"), Contains("pathlib.PurePosixPath"));
    CHECK(values.at("config") == "an omegaconf.dictconfig.DictConfig");
    CHECK(values.at("config._content.lr._val") == "0.125");
    // Which points back at what it is in.
    CHECK_THAT(values.at("config._content.lr._parent"), Contains("refers back"));
    CHECK(values.at("settings.lr") == "0.25");
    CHECK(values.at("slotted.rate") == "0.5");
    CHECK(values.at("easy.depth") == "3");
    CHECK(values.at("set") == "[3]");
    CHECK(values.at("complex") == "a complex(1.0, 2.0)");
    CHECK(values.at("class") == "collections.Counter");
    CHECK(values.at("default.a") == "[1]");
    CHECK(values.at("counter.a") == "2");
    CHECK(values.at("layout") == "torch.strided");
    CHECK(values.at("size") == "[2, 3]");
    CHECK(values.at("dtype") == "torch.bfloat16");
    CHECK(values.at("quantized dtype") == "torch.qint8");
    CHECK(values.at("numpy scalar") == "1.5");
    CHECK(values.at("numpy array") == "a numpy array");
    CHECK_THAT(values.at("mode"), Contains("project.config.Mode"));
    CHECK(values.at("negative") == "-1");
    CHECK(values.at("text") == "ε\\x1b[31m end");
    CHECK(values.at("surrogate") == "\\xed\\xa0\\x80");
    CHECK_THAT(values.at("date"), Contains("a datetime.datetime"));
  }
}

TEST_CASE("checkpoint: keys of any type, twice in one text, and with control characters",
          "[unit][checkpoint]") {
  const auto values = io::read_checkpoint(kOdd / "values.pt").values;
  CHECK(values.at("keys.[1, a]") == "1");
  CHECK(values.at("keys.1") == "2");      // the integer
  CHECK(values.at("keys.1 (2)") == "3");  // the text
  CHECK(values.at("keys.None") == "4");
  CHECK(values.at("keys.2.5") == "6");
  CHECK(values.at("keys.bell\\x07") == "9");
  CHECK(values.at("keys.float32") == "10");

  // Python keeps the last value of a key that is set twice.
  const auto twice = read_made(dict({{text("a"), "K\x01"}, {text("a"), "K\x02"}}));
  CHECK(twice.values.at("a") == "2");
}

TEST_CASE(
    "checkpoint: tensors that are not made of one storage are named, those beside them are read",
    "[unit][checkpoint]") {
  const auto checkpoint = io::read_checkpoint(kOdd / "tensors.pt");
  const auto model = state_at(checkpoint, "");
  CHECK(model.path == "model");
  CHECK(at::equal(named(model, "w"), at::arange(4, at::kFloat)));
  CHECK(at::equal(named(model, "attribute"), at::ones({2})));
  CHECK(at::equal(named(model, "parameter"), at::ones({2})));
  CHECK(at::equal(named(model, "strided"), at::arange(6, at::kFloat).view({2, 3}).t()));
  CHECK(named(model, "fp8").scalar_type() == at::kFloat8_e8m0fnu);
  CHECK(named(model, "fp4").scalar_type() == at::kFloat4_e2m1fn_x2);
  CHECK(model.tensors.size() == 6);
  std::map<std::string, std::string> left(model.left_out.begin(), model.left_out.end());
  CHECK(left.size() == 5);
  CHECK(left.at("sparse") == "a sparse tensor");
  CHECK(left.at("csr") == "a sparse tensor");
  CHECK(left.at("quantized") == "a quantized tensor");
  CHECK_THAT(left.at("meta"), Contains("meta tensor"));
  CHECK_THAT(left.at("conjugated"), Contains("conjugated"));
  CHECK(checkpoint.values.at("model.sparse") == "a sparse tensor");
}

TEST_CASE("checkpoint: a module pickled whole gives the tensors of its state_dict",
          "[unit][checkpoint]") {
  const auto checkpoint = io::read_checkpoint(kOdd / "module.pt");
  const auto net = state_at(checkpoint, "");
  CHECK(net.path == "net");
  std::vector<std::string> names;
  for (const auto& [name, tensor] : net.tensors) names.push_back(name);
  CHECK(names == std::vector<std::string>{"scale", "body.0.weight", "body.0.bias", "body.1.weight",
                                          "body.1.bias", "body.1.running_mean",
                                          "body.1.running_var", "body.1.num_batches_tracked"});
  CHECK(named(net, "scale").item<float>() == 3);
  CHECK_THAT(checkpoint.values.at("net"),
             Contains("a project.net.Net") && Contains("its weights are read, its code is not"));
  CHECK(checkpoint.values.at("epoch") == "3");
}

TEST_CASE("checkpoint: every opcode of pickle's protocols 0 to 5 is passed by",
          "[unit][checkpoint]") {
  const std::string lines =
      "I12\n" + std::string("I01\n") + "L34L\n" + "F0.5\n" + "S'x'\n" + "Vy\n";
  const std::map<std::string, std::string> odd{
      {"(" + lines + "l", "[12, True, 34, 0.5, x, y]"},
      {"(" + text("k") + "K\x05" + std::string("d"), "5"},
      {"(iproject\nThing\n", "a project.Thing"},
      {"(" + global("project", "Thing") + "o", "a project.Thing"},
      {global("project", "Thing") + ")\x81", "a project.Thing"},
      {global("project", "Thing") + ")}\x92", "a project.Thing"},
      {std::string("\x82\x01") + ")R", "a copyreg.extension"},
      {"\x8f(K\x01\x90", "[1]"},
      {"(K\x01\x91", "[1]"},
      {"K\x01" + std::string("2") + "0", "1"},
      {"K\x01(K\x02" + std::string("1"), "1"},
      {"Pelsewhere\n", "a reference to elsewhere"},
      {"\x97\x98", "0 bytes"},
      {"K\x07p3\n0g3\n", "7"},
      {call(text("x"), {}), "a value made by a call"},
      {global("project", "f") + "K\x01R", "a project.f"},
  };
  for (const auto& [value, expected] : odd) {
    CAPTURE(expected);
    const auto checkpoint = read_made(
        dict({{text("odd"), value}, {text("model"), dict({{text("w"), kTensor}})}}), {kFour});
    CHECK(at::equal(named(state_at(checkpoint, "model"), "w"), at::arange(4, at::kFloat)));
    const auto& values = checkpoint.values;
    CHECK((values.contains("odd") ? values.at("odd") : values.at("odd.k")) == expected);
  }
}

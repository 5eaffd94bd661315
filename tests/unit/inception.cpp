// The Inception network's bad input, its weight files, and the resizing rules by hand.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include <fstream>
#include <functional>

#include "dkdm/files.hpp"
#include "dkdm/graph_def.hpp"
#include "fixtures/analytic.hpp"
#include "fixtures/golden_file.hpp"
#include "fixtures/graph_file.hpp"
#include "fixtures/inception.hpp"
#include "golden/files.hpp"
#include "metrics/preprocess.hpp"
#include "plugins/evaluators/inception_weights.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;
using evaluators::load_inception_weights;
using fixtures::ScratchFolder;
using metrics::Inception;
using metrics::Preprocessing;

namespace {

const metrics::StateDict& state() {
  static const auto made = fixtures::inception_state();
  return made;
}

template <class Error>
std::string message(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

std::string refused(const std::function<void(metrics::StateDict&)>& change) {
  auto changed = state();
  change(changed);
  return message<std::invalid_argument>([&] { Inception net(changed); });
}

std::string graph_bytes() {
  return golden::from_hex(fixtures::golden_json("inception.json").at("graph").get<std::string>());
}

std::filesystem::path written(const std::filesystem::path& file, const std::string& bytes) {
  std::ofstream(file, std::ios::binary) << bytes;
  return file;
}

void check_values(const at::Tensor& tensor, at::IntArrayRef sizes,
                  const std::vector<double>& values) {
  CHECK(tensor.sizes() == sizes);
  CHECK(at::equal(tensor.to(at::kDouble).flatten(), at::tensor(values, at::kDouble)));
}

}  // namespace

TEST_CASE("inception: a state dict that does not fit names the tensor", "[unit][metrics]") {
  CHECK(refused([](auto& s) { s.erase("Conv2d_1a_3x3.bn.running_mean"); }) ==
        "tensor 'Conv2d_1a_3x3.bn.running_mean' is missing");
  CHECK(refused([](auto& s) { s["Conv2d_1a_3x3.conv.weight"] = at::zeros({32, 3, 3, 2}); }) ==
        "tensor 'Conv2d_1a_3x3.conv.weight' is [32, 3, 3, 2], expected [32, 3, 3, 3]");
  CHECK(refused([](auto& s) { s["Conv2d_2a_3x3.bn.bias"] = at::full({32}, NAN); }) ==
        "tensor 'Conv2d_2a_3x3.bn.bias' holds values that are not finite");
  CHECK(refused([](auto& s) { s["Conv2d_2a_3x3.bn.running_var"] = at::full({32}, -1.0f); }) ==
        "tensor 'Conv2d_2a_3x3.bn.running_var' is negative");
  CHECK(refused([](auto& s) { s["AuxLogits.fc.weight"] = at::zeros({1}); }) ==
        "tensor 'AuxLogits.fc.weight' is unexpected");
}

TEST_CASE("inception: the batch norms' counters of the published file are no surprise",
          "[unit][metrics]") {
  auto counted = state();
  counted["Mixed_7c.branch_pool.bn.num_batches_tracked"] = at::zeros({}, at::kLong);
  const Inception net(counted);
  CHECK_THROWS_WITH(net(at::zeros({1, 3, 299, 298})), Contains("expected Float [n,3,299,299]"));
  CHECK_THROWS_WITH(net(at::zeros({1, 3, 299, 299}, at::kByte)), Contains("are Byte"));
  const auto none = net(at::zeros({0, 3, 299, 299}));
  CHECK(none.pooled.sizes() == at::IntArrayRef{0, 2048});
}

TEST_CASE("preprocess: 2 x 2 by hand", "[unit][metrics]") {
  // Rows 0 128 and 64 255; TensorFlow's source of column d is 2 d / 299.
  const auto image = at::tensor({0, 128, 64, 255}, at::kByte).view({1, 1, 2, 2});
  const auto at_pixel = [&](Preprocessing rule, int row, int column) {
    return metrics::preprocess(image, rule)[0][0][row][column].item<double>();
  };
  const auto adm = Preprocessing::adm;
  CHECK(at_pixel(adm, 0, 0) == -1);
  CHECK(at_pixel(adm, 0, 75) == Approx((128 * (150.0 / 299) - 128) / 128));
  CHECK(at_pixel(adm, 0, 298) == 0);  // past the last column there is no neighbour
  CHECK(at_pixel(adm, 298, 298) == Approx((255 - 128) / 128.0));
  CHECK(at_pixel(adm, 75, 0) == Approx((64 * (150.0 / 299) - 128) / 128));
  const auto half = Preprocessing::pytorch_fid;  // source (d + 1/2) 2 / 299 - 1/2
  CHECK(at_pixel(half, 0, 0) == -1);
  CHECK(at_pixel(half, 0, 149) == Approx(128 * 0.5 / 127.5 - 1));
  CHECK(at_pixel(half, 298, 0) == Approx(64 / 127.5 - 1));
}

TEST_CASE("preprocess: grey is three equal channels, and other shapes are refused",
          "[unit][metrics]") {
  const auto grey = fixtures::inception_images({2, 1, 28, 20});
  for (const auto rule : {Preprocessing::adm, Preprocessing::pytorch_fid,
                          Preprocessing::torch_fidelity, Preprocessing::clean}) {
    CHECK(at::equal(metrics::preprocess(grey, rule),
                    metrics::preprocess(grey.expand({2, 3, 28, 20}), rule)));
  }
  const auto said = [](const at::Tensor& images) {
    return message<std::invalid_argument>([&] { metrics::preprocess(images, Preprocessing::adm); });
  };
  CHECK(said(at::zeros({1, 2, 4, 4}, at::kByte)) ==
        "images are Byte [1, 2, 4, 4], expected Byte [n,1,H,W] or [n,3,H,W]");
  CHECK_THAT(said(at::zeros({1, 3, 4, 4})), Contains("are Float"));
  CHECK_THAT(said(at::zeros({1, 3, 0, 4}, at::kByte)), Contains("[1, 3, 0, 4]"));
}

TEST_CASE("graph: constants as TensorFlow's own classes write them", "[unit][io]") {
  ScratchFolder scratch;
  const auto file = written(scratch.path / "graph.pb", graph_bytes());
  const auto constants = io::read_graph_constants(file);
  REQUIRE(constants.size() == 7);
  check_values(constants.at("part/raw"), {2, 3}, {0.5, -1.25, 3, 4, 5, -6});
  check_values(constants.at("listed"), {4}, {1, 2, 3, 4.5});
  check_values(constants.at("repeated"), {2, 2}, {7.5, 7.5, 7.5, 7.5});
  check_values(constants.at("scalar"), {}, {-2});
  check_values(constants.at("double"), {2}, {1e300, -1});
  check_values(constants.at("raw double"), {1}, {0.1});
  CHECK(constants.at("empty").numel() == 0);
}

TEST_CASE("graph: a file that is cut or changed is read or refused, never more", "[unit][io]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "graph.pb";
  const auto bytes = graph_bytes();
  int refused = 0;
  const auto attempt = [&](const std::string& changed) {
    written(file, changed);
    try {
      io::read_graph_constants(file);
    } catch (const DataError& error) {
      ++refused;
      CHECK_THAT(error.what(), Contains(file.string()));
    }
  };
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    attempt(bytes.substr(0, i));
    for (const char flip : {'\x01', '\x80', '\xff'}) {
      auto changed = bytes;
      changed[i] = static_cast<char>(changed[i] ^ flip);
      attempt(changed);
    }
  }
  CHECK(refused > static_cast<int>(bytes.size()));
  const auto said = [&](const std::string& text) {
    written(file, text);
    return message<DataError>([&] { io::read_graph_constants(file); });
  };
  CHECK_THAT(said(""), Contains("the file is empty"));
  CHECK_THAT(said("<html>not found</html>"), Contains("a web page"));
  CHECK_THAT(said(bytes.substr(0, bytes.size() / 2)), Contains("truncated or damaged"));
  CHECK_THAT(said(bytes + fixtures::graph_constant("scalar", at::zeros({1}))),
             Contains("constant 'scalar': is there twice"));
}

TEST_CASE("weights: PyTorch's file and TensorFlow's graph of one network are the same",
          "[unit][evaluators]") {
  ScratchFolder scratch;
  const auto tensors = fixtures::inception_tensors();
  io::write_torch(scratch.path / "weights.pth", tensors);
  fixtures::write_inception_graph(scratch.path / "graph.pb", state());
  const auto torch = load_inception_weights(scratch.path / "weights.pth");
  const auto graph = load_inception_weights(scratch.path / "graph.pb");
  CHECK(torch.sha256 == io::sha256_file(scratch.path / "weights.pth"));
  CHECK_FALSE(torch.published);
  CHECK_FALSE(graph.published);
  CHECK(torch.content == graph.content);
  CHECK(torch.sha256 != graph.sha256);
  REQUIRE(torch.state.size() == tensors.size());
  REQUIRE(graph.state.size() == tensors.size());
  for (const auto& [name, tensor] : tensors) {
    INFO(name);
    CHECK(at::equal(torch.state.at(name), tensor));
    CHECK(at::equal(graph.state.at(name), tensor));
  }
}

TEST_CASE("weights: the graph's names", "[unit][evaluators]") {
  // As torch-fidelity's converter of the graph pairs them.
  const std::map<std::string, std::string> pairs{
      {"Conv2d_4a_3x3", "conv_4"},
      {"Mixed_5b.branch5x5_2", "mixed/tower/conv_1"},
      {"Mixed_5d.branch3x3dbl_3", "mixed_2/tower_1/conv_2"},
      {"Mixed_6a.branch3x3", "mixed_3/conv"},
      {"Mixed_6a.branch3x3dbl_2", "mixed_3/tower/conv_1"},
      {"Mixed_6d.branch1x1", "mixed_6/conv"},
      {"Mixed_6e.branch7x7dbl_5", "mixed_7/tower_1/conv_4"},
      {"Mixed_7a.branch3x3_2", "mixed_8/tower/conv_1"},
      {"Mixed_7a.branch7x7x3_4", "mixed_8/tower_1/conv_3"},
      {"Mixed_7b.branch3x3_2b", "mixed_9/tower/mixed/conv_1"},
      {"Mixed_7c.branch3x3dbl_3a", "mixed_10/tower_1/mixed/conv"},
      {"Mixed_7c.branch_pool", "mixed_10/tower_2/conv"}};
  CHECK(metrics::inception_layers().size() == 94);
  std::size_t found = 0;
  for (const auto& layer : metrics::inception_layers()) {
    if (!pairs.contains(layer.name)) continue;
    CHECK(pairs.at(layer.name) == layer.tensorflow);
    ++found;
  }
  CHECK(found == pairs.size());
}

TEST_CASE("weights: a file that will not do says why", "[unit][evaluators]") {
  ScratchFolder scratch;
  const auto said = [](const std::filesystem::path& file) {
    return message<DataError>([&] { load_inception_weights(file); });
  };
  CHECK_THAT(said(scratch.path / "absent.pth"),
             Contains("no such file") && Contains("pt_inception-2015-12-05-6726825d.pth") &&
                 Contains("classify_image_graph_def.pb"));
  const auto named = scratch.path / "pt_inception-2015-12-05-6726825d.pth";
  io::write_torch(named, {{"fc.bias", at::zeros({1008})}});
  CHECK_THAT(said(named), Contains(io::sha256_file(named)) && Contains("6726825d"));
  CHECK_THAT(said(written(scratch.path / "inception.tgz", "\x1f\x8b\x08")), Contains("unpack"));
  CHECK_THAT(said(written(scratch.path / "page.pb", "<html>")), Contains("page.pb"));
  CHECK_THAT(said(written(scratch.path / "other.pb", graph_bytes())),
             Contains("there is no constant 'conv/conv2d_params'"));
  const std::string left_out = "mixed_9/tower_2/conv/batchnorm/beta";
  fixtures::write_inception_graph(scratch.path / "part.pb", state(), left_out);
  CHECK_THAT(said(scratch.path / "part.pb"),
             Contains("part.pb") && Contains("there is no constant '" + left_out + "'"));
}

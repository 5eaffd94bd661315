// The names side by side; widths from Szegedy et al. 2016 as both files have them.
#include "metrics/inception_layout.hpp"

#include <ATen/ATen.h>

#include <array>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace dkdm::metrics {
namespace {

using Kernel = std::pair<std::int64_t, std::int64_t>;  // height, width

// Layers of one block, whose names begin alike.
class Block {
 public:
  Block(std::vector<InceptionLayer>& layers, std::string name, std::string tensorflow,
        std::int64_t side)
      : layers_(layers), name_(std::move(name)), tensorflow_(std::move(tensorflow)), side_(side) {}

  // Stride 1 keeps the size of the map, stride 2 pads nothing.
  void add(const std::string& name, const std::string& tensorflow, std::int64_t in,
           std::int64_t out, Kernel kernel = {1, 1}, std::int64_t stride = 1) {
    const auto [h, w] = kernel;
    const bool same = stride == 1;
    layers_.push_back({name_ + name, tensorflow_ + tensorflow, side_, in, out, h, w, stride,
                       same ? h / 2 : 0, same ? w / 2 : 0});
  }

 private:
  std::vector<InceptionLayer>& layers_;
  std::string name_, tensorflow_;
  std::int64_t side_;
};

constexpr Kernel k1x3{1, 3}, k3x1{3, 1}, k3x3{3, 3}, k5x5{5, 5}, k1x7{1, 7}, k7x1{7, 1};

void add_stem(std::vector<InceptionLayer>& layers) {
  layers.push_back({"Conv2d_1a_3x3", "conv", 299, 3, 32, 3, 3, 2});
  layers.push_back({"Conv2d_2a_3x3", "conv_1", 149, 32, 32, 3, 3});
  layers.push_back({"Conv2d_2b_3x3", "conv_2", 147, 32, 64, 3, 3, 1, 1, 1});
  layers.push_back({"Conv2d_3b_1x1", "conv_3", 73, 64, 80, 1, 1});
  layers.push_back({"Conv2d_4a_3x3", "conv_4", 73, 80, 192, 3, 3});
}

void add_5(Block block, std::int64_t in, std::int64_t pool) {
  block.add("branch1x1", "conv", in, 64);
  block.add("branch5x5_1", "tower/conv", in, 48);
  block.add("branch5x5_2", "tower/conv_1", 48, 64, k5x5);
  block.add("branch3x3dbl_1", "tower_1/conv", in, 64);
  block.add("branch3x3dbl_2", "tower_1/conv_1", 64, 96, k3x3);
  block.add("branch3x3dbl_3", "tower_1/conv_2", 96, 96, k3x3);
  block.add("branch_pool", "tower_2/conv", in, pool);
}

void add_6a(Block block) {
  block.add("branch3x3", "conv", 288, 384, k3x3, 2);
  block.add("branch3x3dbl_1", "tower/conv", 288, 64);
  block.add("branch3x3dbl_2", "tower/conv_1", 64, 96, k3x3);
  block.add("branch3x3dbl_3", "tower/conv_2", 96, 96, k3x3, 2);
}

void add_6(Block block, std::int64_t width) {
  block.add("branch1x1", "conv", 768, 192);
  block.add("branch7x7_1", "tower/conv", 768, width);
  block.add("branch7x7_2", "tower/conv_1", width, width, k1x7);
  block.add("branch7x7_3", "tower/conv_2", width, 192, k7x1);
  block.add("branch7x7dbl_1", "tower_1/conv", 768, width);
  block.add("branch7x7dbl_2", "tower_1/conv_1", width, width, k7x1);
  block.add("branch7x7dbl_3", "tower_1/conv_2", width, width, k1x7);
  block.add("branch7x7dbl_4", "tower_1/conv_3", width, width, k7x1);
  block.add("branch7x7dbl_5", "tower_1/conv_4", width, 192, k1x7);
  block.add("branch_pool", "tower_2/conv", 768, 192);
}

void add_7a(Block block) {
  block.add("branch3x3_1", "tower/conv", 768, 192);
  block.add("branch3x3_2", "tower/conv_1", 192, 320, k3x3, 2);
  block.add("branch7x7x3_1", "tower_1/conv", 768, 192);
  block.add("branch7x7x3_2", "tower_1/conv_1", 192, 192, k1x7);
  block.add("branch7x7x3_3", "tower_1/conv_2", 192, 192, k7x1);
  block.add("branch7x7x3_4", "tower_1/conv_3", 192, 192, k3x3, 2);
}

void add_7(Block block, std::int64_t in) {
  block.add("branch1x1", "conv", in, 320);
  block.add("branch3x3_1", "tower/conv", in, 384);
  block.add("branch3x3_2a", "tower/mixed/conv", 384, 384, k1x3);
  block.add("branch3x3_2b", "tower/mixed/conv_1", 384, 384, k3x1);
  block.add("branch3x3dbl_1", "tower_1/conv", in, 448);
  block.add("branch3x3dbl_2", "tower_1/conv_1", 448, 384, k3x3);
  block.add("branch3x3dbl_3a", "tower_1/mixed/conv", 384, 384, k1x3);
  block.add("branch3x3dbl_3b", "tower_1/mixed/conv_1", 384, 384, k3x1);
  block.add("branch_pool", "tower_2/conv", in, 192);
}

std::vector<InceptionLayer> make_layers() {
  std::vector<InceptionLayer> layers;
  const auto block = [&](const std::string& name, const std::string& tensorflow,
                         std::int64_t side) {
    return Block(layers, name + ".", tensorflow + "/", side);
  };
  add_stem(layers);
  add_5(block("Mixed_5b", "mixed", 35), 192, 32);
  add_5(block("Mixed_5c", "mixed_1", 35), 256, 64);
  add_5(block("Mixed_5d", "mixed_2", 35), 288, 64);
  add_6a(block("Mixed_6a", "mixed_3", 35));
  add_6(block("Mixed_6b", "mixed_4", 17), 128);
  add_6(block("Mixed_6c", "mixed_5", 17), 160);
  add_6(block("Mixed_6d", "mixed_6", 17), 160);
  add_6(block("Mixed_6e", "mixed_7", 17), 192);
  add_7a(block("Mixed_7a", "mixed_8", 17));
  add_7(block("Mixed_7b", "mixed_9", 8), 1280);
  add_7(block("Mixed_7c", "mixed_10", 8), 2048);
  return layers;
}

constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kNorm{{
    {"weight", "gamma"},
    {"bias", "beta"},
    {"running_mean", "moving_mean"},
    {"running_var", "moving_variance"},
}};

const at::Tensor& constant(const StateDict& constants, const std::string& name,
                           std::int64_t dimensions) {
  const auto found = constants.find(name);
  if (found == constants.end())
    throw std::invalid_argument("there is no constant '" + name +
                                "', which the Inception graph of 2015-12-05 has");
  if (found->second.dim() != dimensions)
    throw std::invalid_argument("constant '" + name + "' has " +
                                std::to_string(found->second.dim()) + " dimensions, expected " +
                                std::to_string(dimensions));
  return found->second;
}

}  // namespace

const std::vector<InceptionLayer>& inception_layers() {
  static const std::vector<InceptionLayer> layers = make_layers();
  return layers;
}

StateDict from_tensorflow(const StateDict& constants) {
  StateDict state;
  for (const auto& layer : inception_layers()) {
    state[layer.name + ".conv.weight"] =
        constant(constants, layer.tensorflow + "/conv2d_params", 4).permute({3, 2, 0, 1});
    for (const auto& [key, name] : kNorm)
      state[layer.name + ".bn." + std::string(key)] =
          constant(constants, layer.tensorflow + "/batchnorm/" + std::string(name), 1);
  }
  state["fc.weight"] = constant(constants, "softmax/weights", 2).t();
  state["fc.bias"] = constant(constants, "softmax/biases", 1);
  return state;
}

}  // namespace dkdm::metrics

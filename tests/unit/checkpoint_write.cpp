// What write_torch and write_safetensors write is what read_checkpoint reads; that PyTorch reads it
// too is verified by tests/fixtures/checkpoints/make_checkpoints.py --verify FILE.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include "dkdm/checkpoint.hpp"
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

std::string bytes_of(const at::Tensor& tensor) {
  const at::Tensor plain = tensor.contiguous();
  return {static_cast<const char*>(plain.const_data_ptr()), plain.nbytes()};
}

void check_same(const io::NamedTensors& read, const io::NamedTensors& written) {
  REQUIRE(read.size() == written.size());
  for (std::size_t i = 0; i < read.size(); ++i) {
    CAPTURE(written[i].first);
    CHECK(read[i].first == written[i].first);
    CHECK(read[i].second.scalar_type() == written[i].second.scalar_type());
    CHECK(read[i].second.sizes() == written[i].second.sizes());
    CHECK(bytes_of(read[i].second) == bytes_of(written[i].second));
  }
}

io::NamedTensors tensors_of(const fs::path& file, const std::string& state = "") {
  return io::select_state(io::read_checkpoint(file), state, file).tensors;
}

// [2,3]. Nothing converts to the 4-bit floats: two of them are a byte as it is.
at::Tensor one_to_six(at::ScalarType type) {
  const at::Tensor values = at::arange(1, 7).view({2, 3});
  return type == at::kFloat4_e2m1fn_x2 ? values.to(at::kByte).view(type)
                                       : values.to(at::kFloat).to(type);
}

}  // namespace

TEST_CASE("write_torch: every type, strides, an empty tensor and a scalar come back in order",
          "[unit][checkpoint]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "w.pt";
  io::NamedTensors tensors;
  for (const at::ScalarType type : io::kScalarTypes) {
    tensors.emplace_back("z." + std::string(c10::toString(type)), one_to_six(type));
  }
  const at::Tensor image = at::arange(120, at::kFloat).view({2, 3, 4, 5});
  tensors.emplace_back("last", image.contiguous(at::MemoryFormat::ChannelsLast));
  tensors.emplace_back("a.view", image.transpose(0, 3));
  tensors.emplace_back("ε", at::scalar_tensor(-2.5).requires_grad_());
  tensors.emplace_back("none", at::empty({0, 7}));
  io::write_torch(file, tensors);

  const auto checkpoint = io::read_checkpoint(file);
  CHECK(checkpoint.format == "torch zip");
  const auto& state = io::select_state(checkpoint, "", file);
  check_same(state.tensors, tensors);
  for (const auto& [name, tensor] : state.tensors) {
    CHECK(tensor.is_contiguous());
    CHECK(reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr()) % 64 == 0);
  }
}

TEST_CASE("write_torch: dimensions beyond 32 bits are written whole", "[unit][checkpoint]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "w.pt";
  const std::int64_t many = std::int64_t{1} << 40;
  io::write_torch(file, {{"none", at::empty({0, many})}});
  CHECK(tensors_of(file).at(0).second.sizes() == at::IntArrayRef{0, many});
}

TEST_CASE("write: what cannot be written leaves no file", "[unit][checkpoint]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "w.pt";
  CHECK_THROWS_WITH(io::write_torch(file, {{"x", at::Tensor()}}), Contains("tensor 'x'"));
  CHECK_THROWS_WITH(io::write_torch(file, {{"x", at::ones({1})}, {"x", at::ones({1})}}),
                    Contains("'x' is given twice"));
  CHECK_THROWS_WITH(io::write_safetensors(file, {{"x", at::ones({1}, at::kComplexDouble)}}),
                    Contains("safetensors files hold no ComplexDouble"));
  CHECK(fs::is_empty(scratch.path));
}

TEST_CASE("conversion: PyTorch's files to safetensors and back keep every byte and the order",
          "[unit][checkpoint]") {
  ScratchFolder scratch;
  for (const std::string version : {"torch-1.13.1", "torch-2.15.0"}) {
    for (const std::string name : {"state.pt", "legacy-state.pt", "views.pt"}) {
      CAPTURE(version, name);
      const auto original = tensors_of(kFixtures / version / name);
      io::write_safetensors(scratch.path / "a.safetensors", original);
      const auto between = tensors_of(scratch.path / "a.safetensors");
      io::write_torch(scratch.path / "b.pt", between);
      const auto back = tensors_of(scratch.path / "b.pt");
      check_same(back, between);
      // safetensors puts wider types first; within a type the order stays.
      auto expected = original;
      std::stable_sort(expected.begin(), expected.end(), [](const auto& a, const auto& b) {
        return a.second.element_size() > b.second.element_size();
      });
      check_same(back, expected);
    }
  }
}

TEST_CASE("conversion: a file may be written over the one that is being read",
          "[unit][checkpoint]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "state.pt";
  fs::copy_file(kFixtures / "torch-2.15.0" / "state.pt", file);
  const auto before = tensors_of(file);
  io::write_safetensors(file, before);
  io::NamedTensors after = tensors_of(file);
  CHECK(io::read_checkpoint(file).format == "safetensors");
  CHECK(after.size() == before.size());
  CHECK(bytes_of(before.at(0).second) ==
        bytes_of(tensors_of(kFixtures / "torch-2.15.0" / "state.pt").at(0).second));
}

TEST_CASE("safetensors: every type that the format names comes back", "[unit][checkpoint]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "t.safetensors";
  io::NamedTensors tensors;
  for (const auto& item : io::kItems) {
    if (item.safetensors.empty()) continue;
    tensors.emplace_back(item.safetensors, one_to_six(io::scalar_type(item.type)));
  }
  REQUIRE(tensors.size() == 20);  // of safetensors 0.7; the rest of its list no tensor can hold
  io::write_safetensors(file, tensors);
  for (const auto& [name, tensor] : tensors_of(file)) {
    const auto written =
        std::find_if(tensors.begin(), tensors.end(),
                     [&, &name = name](const auto& one) { return one.first == name; });
    CAPTURE(name);
    CHECK(tensor.scalar_type() == written->second.scalar_type());
    CHECK(bytes_of(tensor) == bytes_of(written->second));
  }
}

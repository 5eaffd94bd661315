// safetensors and npz: round trips, and files that other programs wrote.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include "dkdm/io.hpp"
#include "fixtures/analytic.hpp"
#include "golden/files.hpp"
#include "golden/u_fill.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;
using fixtures::ScratchFolder;
using fixtures::values;

namespace {

std::string little_endian_length(std::size_t length) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(length >> (8 * i) & 0xff);
  return bytes;
}

bool same(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && at::equal(a, b);
}

}  // namespace

TEST_CASE("safetensors: every type, an empty tensor, a scalar and metadata come back",
          "[unit][io]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "t.safetensors";
  io::TensorMap tensors;
  for (const auto type : {at::kFloat, at::kHalf, at::kBFloat16, at::kDouble, at::kLong, at::kInt,
                          at::kByte, at::kBool}) {
    tensors[c10::toString(type)] = (golden::u_fill(3, {3, 5}, 100) + 100).to(type);
  }
  tensors["none"] = at::empty({0, 7});
  tensors["scalar"] = at::scalar_tensor(-2.5);
  const std::map<std::string, std::string> metadata{{"step", "12"}, {"note", "ε \"quoted\""}};
  io::save_tensors(file, tensors, metadata);

  std::map<std::string, std::string> read_metadata;
  const io::TensorMap read = io::load_tensors(file, &read_metadata);
  CHECK(read_metadata == metadata);
  REQUIRE(read.size() == tensors.size());
  for (const auto& [name, tensor] : tensors) {
    CAPTURE(name);
    CHECK(same(read.at(name), tensor));
  }
}

TEST_CASE("safetensors: channels-last and strided tensors are written in logical order",
          "[unit][io]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "t.safetensors";
  const at::Tensor plain = golden::u_fill(1, {2, 3, 4, 5});
  io::save_tensors(file, {{"last", plain.contiguous(at::MemoryFormat::ChannelsLast)},
                          {"view", plain.transpose(0, 3)},
                          {"part", plain.select(1, 2)}});
  const io::TensorMap read = io::load_tensors(file);
  CHECK(read.at("last").is_contiguous());
  CHECK(same(read.at("last"), plain));
  CHECK(same(read.at("view"), plain.transpose(0, 3)));
  CHECK(same(read.at("part"), plain.select(1, 2)));
}

TEST_CASE("safetensors: a file written by hand after the format's description is read",
          "[unit][io]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "t.safetensors";
  const std::string header =
      R"({"__metadata__":{"a":"b"},"x":{"dtype":"I32","shape":[2],"data_offsets":[1,9]},)"
      R"("y":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  io::write_text(file, little_endian_length(header.size()) + header +
                           std::string("\x07\x01\0\0\0\xff\xff\xff\xff", 9));
  const io::TensorMap read = io::load_tensors(file);
  CHECK(values(read.at("x")) == std::vector<std::int64_t>{1, -1});
  CHECK(values(read.at("y")) == std::vector<std::int64_t>{7});
}

TEST_CASE("safetensors: data begin at a multiple of 8, wide elements before narrow ones",
          "[unit][io]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "t.safetensors";
  io::save_tensors(file, {{"a", at::ones({3}, at::kByte)}, {"b", at::ones({1}, at::kDouble)}});
  const std::string bytes = io::read_text(file);
  const auto header = static_cast<unsigned char>(bytes[0]);
  CHECK(header % 8 == 0);
  CHECK(bytes.size() == 8u + header + 8 + 3);
  CHECK_THAT(bytes, Contains(R"("b":{"data_offsets":[0,8],"dtype":"F64","shape":[1]})"));
}

TEST_CASE("safetensors: each fault of a header is named with its tensor", "[unit][io]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "t.safetensors";
  const auto fault = [&](const std::string& header, const std::string& data) {
    io::write_text(file, little_endian_length(header.size()) + header + data);
    try {
      io::load_tensors(file);
    } catch (const DataError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  const auto tensor = [](const std::string& shape, const std::string& offsets) {
    return R"({"dtype":"U8","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
  };
  const std::string two = tensor("[2]", "[0,2]");
  CHECK(fault(R"({"a":)" + two + "}", "ab") == "accepted");
  CHECK_THAT(fault(R"({"a":)" + two + R"(,"b":)" + tensor("[2]", "[1,3]") + "}", "abc"),
             Contains("tensor 'b': overlaps") && Contains("begins at 1, expected 2"));
  CHECK_THAT(fault(R"({"a":)" + two + R"(,"b":)" + tensor("[2]", "[3,5]") + "}", "abcde"),
             Contains("tensor 'b': leaves a gap"));
  CHECK_THAT(fault(R"({"a":)" + two + "}", "a"), Contains("tensor 'a': bytes 0 to 2 lie outside"));
  CHECK_THAT(fault(R"({"a":)" + two + "}", "abc"), Contains("1 bytes at the end belong to no"));
  CHECK_THAT(fault(R"({"a":)" + two + R"(,"a":)" + two + "}", "ab"),
             Contains("\"a\" stands there twice"));
  CHECK_THAT(fault(R"({"a":)" + tensor("[3]", "[0,2]") + "}", "ab"),
             Contains("has 2 bytes, but its shape and dtype take 3"));
  CHECK_THAT(fault(R"({"a":)" + tensor("[-2]", "[0,2]") + "}", "ab"), Contains("shape holds -2"));
  CHECK_THAT(fault(R"({"a":)" + tensor("[0,4611686018427387904,8]", "[0,0]") + "}", ""),
             Contains("impossible"));
  CHECK_THAT(fault(R"({"a":{"dtype":"F8","shape":[],"data_offsets":[0,1]}})", "a"),
             Contains("dtype 'F8' is not one of F32"));
  CHECK_THAT(fault(R"({"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}})", "\x02"),
             Contains("neither 0 nor 1"));
  CHECK_THAT(fault(R"({"a":1})", ""), Contains("tensor 'a': needs dtype"));
  CHECK_THAT(fault(R"({"__metadata__":{"k":1}})", ""), Contains("'k' is not a text"));
  CHECK_THAT(fault("{]", ""), Contains("byte 9: the safetensors header is not JSON"));
}

TEST_CASE("safetensors: what the format cannot hold is refused before anything is written",
          "[unit][io]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "t.safetensors";
  CHECK_THROWS_WITH(io::save_tensors(file, {{"z", at::zeros({1}, at::kComplexDouble)}}),
                    Contains("tensor 'z'") && Contains("ComplexDouble"));
  CHECK_THROWS_AS(io::save_tensors(file, {{"u", at::Tensor()}}), StoreError);
  CHECK_THROWS_WITH(io::save_tensors(file, {{"\xff", at::ones({1})}}), Contains("UTF-8"));
  CHECK(std::filesystem::is_empty(scratch.path));
}

TEST_CASE("npz: the bytes that numpy writes are read, and written again", "[unit][io]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "a.npz";
  io::write_text(file, golden::kStoredNpz);
  const at::Tensor a = io::read_npz(file, "a"), b = io::read_npz(file, "b");
  CHECK(same(a, at::arange(12).to(at::kByte).view({2, 2, 3})));
  CHECK(same(b, at::tensor({0.5f, -1.25f}).view({1, 2})));
  CHECK(io::npz_keys(file) == std::vector<std::string>{"a", "b"});

  io::write_npz(file, {{"a", a}, {"b", b}});
  CHECK(io::read_text(file) == golden::kStoredNpz);
}

TEST_CASE("npz: deflated arrays of numpy are unpacked", "[unit][io]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "a.npz";
  io::write_text(file, golden::kDeflatedNpz);
  CHECK(same(io::read_npz(file, "a"), at::zeros({4, 50}, at::kByte)));
  CHECK(same(io::read_npz(file, "b"), at::arange(5)));
}

TEST_CASE("npz: every type, an empty array and a scalar come back", "[unit][io]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "a.npz";
  io::TensorMap arrays;
  for (const auto type : {at::kByte, at::kInt, at::kLong, at::kHalf, at::kFloat, at::kDouble}) {
    arrays[c10::toString(type)] = (golden::u_fill(2, {2, 3, 4}, 9) + 9).to(type).transpose(0, 2);
  }
  arrays["none"] = at::empty({0, 3}, at::kByte);
  arrays["scalar"] = at::scalar_tensor(3.5);
  io::write_npz(file, arrays);
  for (const auto& [name, array] : arrays) {
    CAPTURE(name);
    CHECK(same(io::read_npz(file, name), array));
  }
}

TEST_CASE("npz: an absent array, a type without a name and damaged data are named", "[unit][io]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "a.npz";
  io::write_text(file, golden::kStoredNpz);
  CHECK_THROWS_WITH(io::read_npz(file, "arr_0"),
                    Contains("has no array 'arr_0'; it holds a.npy, b.npy"));
  CHECK_THROWS_WITH(io::write_npz(file, {{"x", at::ones({1}, at::kBool)}}),
                    Contains("array 'x'") && Contains("not Bool"));
  std::string damaged = golden::kStoredNpz;
  damaged[damaged.find("\x01\x02\x03\x04\x05")] = 9;
  io::write_text(file, damaged);
  CHECK_THROWS_WITH(io::read_npz(file, "a"), Contains("entry 'a.npy'") && Contains("checksum"));
  std::string fortran = golden::kStoredNpz;
  fortran.replace(fortran.find("False"), 5, "True ");
  io::write_text(file, fortran);
  CHECK_THROWS_WITH(io::read_npz(file, "a"), Contains("'fortran_order'") || Contains("Fortran"));
}

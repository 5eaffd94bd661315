// safetensors and npz: round trips, and files that other programs wrote.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "dkdm/npy_file.hpp"
#include "dkdm/store_error.hpp"
#include "fixtures/analytic.hpp"
#include "golden/files.hpp"
#include "golden/u_fill.hpp"
#include "io/checkpoint/tensor_bytes.hpp"
#include "io/zip_writer.hpp"

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

TEST_CASE("safetensors: the narrow floats of today come back, two 4-bit ones to a byte",
          "[unit][io]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "t.safetensors";
  const at::Tensor bytes = at::arange(8, at::kByte).view({2, 4});
  const std::map<std::string, at::ScalarType> types{{"F8_E4M3FNUZ", at::kFloat8_e4m3fnuz},
                                                    {"F8_E5M2FNUZ", at::kFloat8_e5m2fnuz},
                                                    {"F8_E8M0", at::kFloat8_e8m0fnu},
                                                    {"F4", at::kFloat4_e2m1fn_x2}};
  for (const auto& [name, type] : types) {
    CAPTURE(name);
    io::save_tensors(file, {{"x", bytes.view(type)}});
    CHECK_THAT(io::read_text(file), Contains("\"dtype\":\"" + name + "\""));
    // As safetensors 0.7 writes it: the header of F4 counts numbers, not bytes.
    CHECK_THAT(io::read_text(file), Contains(name == "F4" ? "\"shape\":[2,8]" : "\"shape\":[2,4]"));
    const at::Tensor read = io::load_tensors(file).at("x");
    CHECK(read.scalar_type() == type);
    CHECK(at::equal(read.view(at::kByte), bytes));
  }
  const std::string odd = R"({"x":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}})";
  io::write_text(file, little_endian_length(odd.size()) + odd + "ab");
  CHECK_THROWS_WITH(io::load_tensors(file), Contains("tensor 'x'") && Contains("a multiple of 2"));
  const std::string six = R"({"x":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}})";
  io::write_text(file, little_endian_length(six.size()) + six + "abc");
  CHECK_THROWS_WITH(io::load_tensors(file), Contains("dtype 'F6_E2M3' is not one of"));
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

TEST_CASE("safetensors: bytes that do not lie in order go out in blocks, and are the same bytes",
          "[unit][io]") {
  const at::Tensor numbers = at::arange(2 * 3 * 4 * 5, at::kFloat).reshape({2, 3, 4, 5});
  const at::Tensor strided =
      numbers.permute({0, 2, 3, 1}).contiguous().permute({0, 3, 1, 2});  // channels-last
  const std::string expected(static_cast<const char*>(numbers.const_data_ptr()), numbers.nbytes());
  for (const std::size_t block : {1, 4, 7, 100, 240, 241, 480, 1000}) {
    INFO("blocks of at most " << block << " bytes");
    std::string bytes;
    std::size_t largest = 0, pieces = 0;
    io::for_each_block(
        strided,
        [&](std::string_view piece) {
          bytes += piece;
          largest = std::max(largest, piece.size());
          ++pieces;
        },
        block);
    CHECK(bytes == expected);
    CHECK(largest <= std::max<std::size_t>(block, 5 * sizeof(float)));  // a line is one piece
    CHECK(pieces >= expected.size() / std::max<std::size_t>(block, 5 * sizeof(float)));
  }
  int pieces = 0;
  io::for_each_block(
      numbers, [&](std::string_view piece) { pieces += piece.data() == numbers.const_data_ptr(); },
      4);
  CHECK(pieces == 1);  // what lies in order is not copied at all
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
}

namespace {

// An npz of one array with this header's text and these bytes; as a file of its own it is the same.
at::Tensor read_array(const std::string& text, const std::string& bytes, int version = 1) {
  ScratchFolder scratch;
  const auto file = scratch.path / "made.npz";
  std::string header("\x93NUMPY", 6);
  header += {static_cast<char>(version), '\0'};
  const std::string padded = text + "\n";
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i)
    header += static_cast<char>(padded.size() >> (8 * i) & 0xff);
  io::ZipWriter zip(file);
  zip.add("x.npy", header + padded, bytes);
  zip.commit();
  at::Tensor array = io::read_npz(file, "x");
  io::write_text(scratch.path / "made.npy", header + padded + bytes);
  REQUIRE(same(io::read_npy(scratch.path / "made.npy"), array));
  return array;
}

std::string refused_array(const std::string& text) {
  try {
    read_array(text, "");
  } catch (const DataError& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("npz: every header that numpy reads without pickle is read", "[unit][io]") {
  const std::string six("\x01\x02\x03\x04\x05\x06");
  const at::Tensor bytes = at::tensor({1, 2, 3, 4, 5, 6}, at::kByte).view({2, 3});
  for (const char* text : {
           "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }",
           "{'shape': (2L, 3L), 'descr': '<u1', 'fortran_order': False}",  // Python 2, cnpy
           "{'fortran_order': False, 'shape': (2,3), 'descr': '>u1'}",
           "  {\"descr\" : \"=u1\" , 'fortran_order':False,'shape':( 2 , 3 , ) } ",
           "{'descr': 'uint8', 'fortran_order': False, 'shape': (2, 3)}",
           "{u'descr': u'u1', 'fortran_order': False, 'shape': (2, 3)}",
       }) {
    CAPTURE(text);
    for (const int version : {1, 2, 3}) CHECK(same(read_array(text, six, version), bytes));
  }
  // The first index runs fastest.
  CHECK(same(read_array("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }", six),
             at::tensor({1, 3, 5, 2, 4, 6}, at::kByte).view({2, 3})));
  CHECK(same(read_array("{'descr': '>i2', 'fortran_order': False, 'shape': (3,), }", six),
             at::tensor({0x0102, 0x0304, 0x0506}, at::kShort)));
  const at::Tensor unsigned_short =
      read_array("{'descr': '<u2', 'fortran_order': False, 'shape': (3,), }", six);
  CHECK(unsigned_short.scalar_type() == at::kUInt16);
  CHECK(same(unsigned_short.to(at::kInt), at::tensor({0x0201, 0x0403, 0x0605}, at::kInt)));
  CHECK(same(read_array("{'descr': '>f4', 'fortran_order': False, 'shape': (), }",
                        std::string("\x3f\xc0\0\0", 4)),
             at::scalar_tensor(1.5)));
  // The halves of a complex number are turned one by one.
  CHECK(same(read_array("{'descr': '>c8', 'fortran_order': False, 'shape': (1,), }",
                        std::string("\x3f\x80\0\0\x40\0\0\0", 8)),
             at::complex(at::tensor({1.0f}), at::tensor({2.0f}))));
  CHECK(same(read_array("{'descr': '|b1', 'fortran_order': False, 'shape': (2,), }",
                        std::string("\1\0", 2)),
             at::tensor({1, 0}).to(at::kBool)));
}

TEST_CASE("npz: what numpy would not read, or only by pickle, is named", "[unit][io]") {
  const auto with = [](const std::string& descr) {
    return refused_array("{'descr': " + descr + ", 'fortran_order': False, 'shape': (0,)}");
  };
  CHECK_THAT(with("'|O'"), Contains("arrays of |O, Python objects") && Contains("entry 'x.npy'"));
  CHECK_THAT(with("'<U5'"), Contains("<U5, texts"));
  CHECK_THAT(with("'<M8[ns]'"), Contains("dates"));
  CHECK_THAT(with("'<f16'"), Contains("long doubles"));
  CHECK_THAT(with("[('a', '<i4'), ('b', '<f8')]"), Contains("a structured type"));
  CHECK_THAT(with("'<u3'"), Contains("arrays of <u3 are not read, only of u1 i4"));
  const auto said = [](const std::string& text) { return refused_array(text); };
  CHECK_THAT(said("{'descr': '|u1', 'shape': (0,)}"), Contains("not all of them"));
  CHECK_THAT(said("{'descr': '|u1', 'fortran_order': False, 'shape': (0,), 'x': 1}"),
             Contains("the key 'x'"));
  CHECK_THAT(said("{'descr': '|u1', 'fortran_order': 0, 'shape': (0,)}"),
             Contains("fortran_order '0'"));
  CHECK_THAT(said("{'descr': '|u1', 'fortran_order': False, 'shape': (-1,)}"),
             Contains("a shape of"));
  CHECK_THAT(said("{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999,)}"),
             Contains("is impossible"));
  CHECK_THAT(said("{'descr': '|u1', 'fortran_order': False, 'shape': (0,)} x"),
             Contains("behind its end"));
  CHECK_THAT(said("{'descr': '|u1"), Contains("a text without end"));
  CHECK_THAT(said("{" + std::string(20'000, ' ') + "}"),
             Contains("claims 20003 bytes; numpy reads 10000"));
  CHECK_THAT(said(""), Contains("'{' is expected") || Contains("no end"));
}

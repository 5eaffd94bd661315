// What people have instead of the file that is wanted: it is said what it is and what helps.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include "dkdm/checkpoint.hpp"
#include "dkdm/documents.hpp"
#include "dkdm/files.hpp"
#include "dkdm/graph_def.hpp"
#include "dkdm/io.hpp"
#include "fixtures/analytic.hpp"
#include "fixtures/pickles.hpp"
#include "io/zip_writer.hpp"

using namespace dkdm;
using namespace std::string_literals;
using Catch::Matchers::Contains;

namespace {

// What the reader of checkpoints and that of npz files say about these bytes.
std::string said_of(const std::string& bytes) {
  fixtures::ScratchFolder scratch;
  const auto file = scratch.path / "given";
  fixtures::write_bytes(file, bytes);
  std::string said;
  const auto add = [&](auto&& read) {
    try {
      read();
      said += "accepted";
    } catch (const DataError& error) {
      CHECK_THAT(error.what(), Contains("given: "));
      said += error.what() + "\n"s;
    }
  };
  add([&] { io::read_checkpoint(file); });
  add([&] { io::npz_keys(file); });
  return said;
}

}  // namespace

TEST_CASE("foreign files: pointers, pages, archives and other formats are named by both readers",
          "[unit][io]") {
  std::string tar(512, '\0');
  tar.replace(257, 5, "ustar");
  const std::vector<std::pair<std::string, std::string>> cases{
      {"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1234567\n",
       "a Git LFS pointer (1234567 bytes are elsewhere): run git lfs pull"},
      {"/annex/objects/SHA256E-s1--00.pt\n", "git annex get"},
      {"<!DOCTYPE html>\n<html><head><title>Quota exceeded</title></head></html>\n",
       "a web page (Quota exceeded)"},
      {"\xef\xbb\xbf\n <HTML><body>Sign in</body>", "a web page (Sign in)"},
      {"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>",
       "an XML text (AccessDenied)"},
      {"\x1f\x8b\x08\0\0\0"s, "a gzip archive: unpack it first"},
      {"\x28\xb5\x2f\xfd\0\0"s, "a zstd archive"},
      {"\xfd"
       "7zXZ\0\0"s,
       "an xz archive"},
      {"BZh91AY&SY", "a bzip2 archive"},
      {"7z\xbc\xaf\x27\x1c\0\4"s, "a 7z archive"},
      {"Rar!\x1a\x07\1\0"s, "a RAR archive"},
      {tar, "a tar archive"},
      {"\x93NUMPY\1\0v\0"s, "a numpy array (.npy)"},
      {"\x81\xa6params\x82\xa3"
       "abc"s,
       "given: byte 0: is not a "},  // msgpack (Flax): no text
      {"a text of caf\xc3\xa9s", "a text (\"a text of caf\xc3\xa9s\")"},
      {"\0\0\x08\x03\0\0\0\1"s, "an IDX file (MNIST's format)"},
      {std::string(48, 'x') + "\x57\xfb\x80\x8b\x24\x75\x47\xdb",
       "the index of a TensorFlow checkpoint"},
      {"\x89HDF\r\n\x1a\n"s, "an HDF5 file"},
      {"GGUF\3\0\0\0"s, "a GGUF file"},
      {"\x08\x07\x12\x07pytorch\x1a\x03"
       "2.1",
       "an ONNX model"},
      {"\x89PNG\r\n\x1a\n"s, "a PNG image"},
      {"{\"metadata\": {}, \"weight_map\": {\"a\": \"model-00001-of-00002.safetensors\"}}",
       "the index of a checkpoint in shards"},
      {"{\"error\": \"not found\"}", "a JSON text ({\"error\": \"not found\"})"},
      {"404: Not Found\n", "a text (\"404: Not Found\")"},
      {"", "the file is empty"},
      {std::string(4096, '\0'), "nothing but zero bytes"},
  };
  for (const auto& [bytes, expected] : cases) {
    CAPTURE(expected);
    const std::string said = said_of(bytes);
    const auto first = said.find(expected);
    CHECK(first != std::string::npos);
    CHECK(said.find(expected, first + 1) != std::string::npos);
  }
}

TEST_CASE("foreign files: a numpy array is to go into an npz where an npz is wanted",
          "[unit][io]") {
  CHECK_THAT(said_of("\x93NUMPY\1\0v\0"s),
             Contains("a numpy array (.npy), not a checkpoint") &&
                 Contains("a numpy array (.npy): put it in an npz as arr_0"));
}

TEST_CASE("foreign files: archives of other programs, and downloads that broke off", "[unit][io]") {
  fixtures::ScratchFolder scratch;
  const auto zipped = [&](const std::string& name) {
    const auto file = scratch.path / "made.zip";
    io::ZipWriter zip(file);
    zip.add(name, "{}");
    zip.commit();
    return io::read_text(file);
  };
  CHECK_THAT(said_of(zipped("archive/archive_format")), Contains("torch.export saved (.pt2)"));
  CHECK_THAT(said_of(zipped("serialized_exported_program.json")), Contains("(.pt2)"));
  CHECK_THAT(said_of(zipped("net/constants.pkl")), Contains("a TorchScript module"));
  CHECK_THAT(said_of(zipped("model.weights.h5")), Contains("a Keras model"));
  CHECK_THAT(said_of(zipped("weights/model.pt")), Contains("unpack it first"));
  CHECK_THAT(said_of(zipped("a/data.pkl").substr(0, 40)), Contains("was not finished"));

  io::save_tensors(scratch.path / "t.safetensors", {{"w", at::ones({100})}});
  const std::string whole = io::read_text(scratch.path / "t.safetensors");
  CHECK_THAT(said_of(whole.substr(0, 20)),
             Contains("without its end: the download was not finished"));
  CHECK_THAT(said_of(fixtures::pickle("}")), Contains("write it with torch.save"));
}

TEST_CASE("foreign files: a distributed checkpoint is named by its folder, its parts and its plan",
          "[unit][io]") {
  fixtures::ScratchFolder scratch;
  const auto said = [](const std::filesystem::path& file) {
    try {
      io::read_checkpoint(file);
    } catch (const DataError& error) {
      return std::string(error.what());
    }
    return "accepted"s;
  };
  CHECK_THAT(said(scratch.path), Contains("is a folder, not a regular file"));
  io::write_text(scratch.path / "model_index.json", "{}");
  CHECK_THAT(said(scratch.path),
             Contains("is a pipeline of diffusers: the teacher diffusers reads it"));
  fixtures::write_bytes(scratch.path / "__0_0.distcp", "PK\x03\x04 zips behind each other");
  fixtures::write_bytes(scratch.path / ".metadata", fixtures::pickle("}"));
  for (const auto& file :
       {scratch.path, scratch.path / "__0_0.distcp", scratch.path / ".metadata"}) {
    CHECK_THAT(said(file),
               Contains("a distributed checkpoint of PyTorch") && Contains("dcp_to_torch"));
  }
}

TEST_CASE("foreign files: the readers of IDX, of graphs and of JSON say what they have instead",
          "[unit][io]") {
  fixtures::ScratchFolder scratch;
  const auto file = scratch.path / "given";
  const auto said = [&](const std::string& bytes, auto&& read) {
    fixtures::write_bytes(file, bytes);
    try {
      read(file);
    } catch (const DataError& error) {
      return std::string(error.what());
    }
    return "accepted"s;
  };
  const auto idx = [](const auto& given) { io::read_idx(given); };
  const auto graph = [](const auto& given) { io::read_graph_constants(given); };
  const auto json = [](const auto& given) { io::read_document(given); };
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n";
  const std::string page = "<!DOCTYPE html><title>Not Found</title>";
  for (const std::string& text : {said(pointer, idx), said(pointer, graph), said(pointer, json)})
    CHECK_THAT(text, Contains("a Git LFS pointer (7 bytes are elsewhere): run git lfs pull"));
  for (const std::string& text : {said(page, idx), said(page, graph), said(page, json)})
    CHECK_THAT(text, Contains("a web page (Not Found)"));
  CHECK_THAT(said("\0\0\x0d\x03\0\0\0\1"s, idx), Contains("magic number 00000d03"));  // floats
  CHECK_THAT(said("\x7f"
                  "ELF...",
                  graph),
             Contains("not a TensorFlow graph (a binary GraphDef"));
  CHECK_THAT(said("nothing of the kind", json), Contains("not a JSON document"));
  CHECK(said(" {\"a\": 1}", json) == "accepted");
}

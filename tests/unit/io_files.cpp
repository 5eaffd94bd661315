// Text, hashes, IDX files.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include <fstream>

#include "dkdm/io.hpp"
#include "fixtures/analytic.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;
using fixtures::ScratchFolder;
using fixtures::values;

namespace {

// The header of an IDX file of 2 x 1 x 3 unsigned bytes.
const std::string kIdxHeader("\0\0\x08\x03\0\0\0\x02\0\0\0\x01\0\0\0\x03", 16);

std::size_t files_in(const std::filesystem::path& folder) {
  return std::distance(std::filesystem::directory_iterator(folder), {});
}

}  // namespace

TEST_CASE("text: what is written is read, replaces what was there and leaves nothing else",
          "[unit][io]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "note";
  io::write_text(file, "first, and longer");
  const std::string text("a\0b\n", 4);
  io::write_text(file, text);
  CHECK(io::read_text(file) == text);
  CHECK(files_in(scratch.path) == 1);
  io::write_text(file, "");
  CHECK(io::read_text(file).empty());
}

TEST_CASE("text: a name without a folder is written to the working folder", "[unit][io]") {
  ScratchFolder scratch;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(scratch.path);
  io::write_text("bare", "x");
  std::filesystem::current_path(before);
  CHECK(io::read_text(scratch.path / "bare") == "x");
}

TEST_CASE("sha256: the digests of FIPS 180-4's examples, of a text and of a file", "[unit][io]") {
  CHECK(io::sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(io::sha256("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  // A million times "a" is the standard's third example; twice that is read in two pieces.
  const std::string million(1'000'000, 'a');
  const std::string expected = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
  CHECK(io::sha256(million) == expected);
  ScratchFolder scratch;
  io::write_text(scratch.path / "a", million);
  CHECK(io::sha256_file(scratch.path / "a") == expected);
  io::write_text(scratch.path / "a", million + million);
  CHECK(io::sha256_file(scratch.path / "a") == io::sha256(million + million));
}

TEST_CASE("idx: dimensions are big-endian and the last one runs fastest", "[unit][io]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "x.idx";
  io::write_text(file, kIdxHeader + "\x01\x02\x03\xfd\xfe\xff");
  const at::Tensor data = io::read_idx(file);
  CHECK(data.scalar_type() == at::kByte);
  CHECK(data.sizes() == at::IntArrayRef({2, 1, 3}));
  CHECK(values(data) == std::vector<std::int64_t>{1, 2, 3, 253, 254, 255});
}

TEST_CASE("idx: Debian's Fashion-MNIST, unpacked, has the sums that Python finds", "[unit][io]") {
  // gzip.open and numpy 2.4.6: shape, sum of all pixels, of the first image, of the last.
  const std::filesystem::path root = "/usr/share/datasets/fashion-mnist";
  const at::Tensor images = io::read_idx(root / "t10k-images-idx3-ubyte.gz");
  CHECK(images.sizes() == at::IntArrayRef({10000, 28, 28}));
  CHECK(images.sum().item<std::int64_t>() == 573469082);
  CHECK(images[0].sum().item<std::int64_t>() == 33456);
  CHECK(images[9999].sum().item<std::int64_t>() == 24390);
  const at::Tensor labels = io::read_idx(root / "t10k-labels-idx1-ubyte.gz");
  CHECK(values(labels.narrow(0, 0, 8)) == std::vector<std::int64_t>{9, 2, 1, 1, 6, 1, 4, 6});
}

TEST_CASE("idx: a file cut anywhere is refused with the byte where it ends", "[unit][io]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "x.idx";
  const std::string whole = kIdxHeader + "abcdef";
  for (std::size_t length = 0; length < whole.size(); ++length) {
    io::write_text(file, whole.substr(0, length));
    CAPTURE(length);
    CHECK_THROWS_AS(io::read_idx(file), DataError);
    CHECK_THROWS_WITH(io::read_idx(file), Contains("x.idx: byte ") && Contains("truncated"));
  }
  io::write_text(file, whole.substr(0, 19));
  CHECK_THROWS_WITH(io::read_idx(file), Contains("byte 19: truncated: 6 bytes were promised, 3"));
}

TEST_CASE("idx: a wrong magic number, a wrong type and bytes too many are named", "[unit][io]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "x.idx";
  io::write_text(file, "\x7f" "ELF and more");
  CHECK_THROWS_WITH(io::read_idx(file), Contains("byte 0: magic number 7f454c46"));
  std::string floats = kIdxHeader;
  floats[2] = 0x0d;
  io::write_text(file, floats);
  CHECK_THROWS_WITH(io::read_idx(file), Contains("00000d03") && Contains("000008nn"));
  io::write_text(file, kIdxHeader + "abcdefg");
  CHECK_THROWS_WITH(io::read_idx(file), Contains("byte 23: bytes follow the last element"));
}

TEST_CASE("idx: an absent file is a DataError with the system's reason", "[unit][io]") {
  CHECK_THROWS_AS(io::read_idx("absent.idx"), DataError);
  CHECK_THROWS_WITH(io::read_idx("absent.idx"), "absent.idx: No such file or directory");
  CHECK_THROWS_WITH(io::read_idx("/tmp"), "/tmp: is not a regular file");
}

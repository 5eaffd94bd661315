// Text, hashes, IDX files.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "dkdm/documents.hpp"
#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "dkdm/store_error.hpp"
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
  io::write_text(file,
                 "\x7f"
                 "ELF and more");
  CHECK_THROWS_WITH(
      io::read_idx(file),
      Contains("byte 0: a program or library (ELF), not an IDX file of unsigned bytes"));
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
  CHECK_THROWS_WITH(io::read_idx("/tmp"), "/tmp: is a folder, not a regular file");
}

TEST_CASE("inputs: what is no regular file is refused at once, whatever reads it", "[unit][io]") {
  ScratchFolder scratch;
  const auto pipe = scratch.path / "x.npz";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  // Each of these would wait for somebody to write.
  CHECK_THROWS_WITH(io::read_text(pipe), Contains("x.npz: is a pipe, not a regular file"));
  CHECK_THROWS_WITH(io::read_npz(pipe, "arr_0"), Contains("is a pipe"));
  CHECK_THROWS_WITH(io::load_tensors(pipe), Contains("is a pipe"));
  CHECK_THROWS_WITH(io::read_image(pipe, 3), Contains("is a pipe"));
  CHECK_THROWS_WITH(io::sha256_file(pipe), Contains("is a pipe"));
  CHECK_THROWS_WITH(io::read_document(pipe), Contains("is a pipe"));
  std::filesystem::create_symlink(pipe, scratch.path / "link");
  CHECK_THROWS_WITH(io::read_text(scratch.path / "link"), Contains("is a pipe"));
  // And this has no end.
  CHECK_THROWS_WITH(io::read_text("/dev/zero"), "/dev/zero: is a device, not a regular file");
}

TEST_CASE("documents: nesting and size are limited before a parser sees them", "[unit][io]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "x.json";
  const std::string deep(100'000, '[');
  io::write_text(file, deep);
  CHECK_THROWS_WITH(io::read_document(file), Contains("x.json: byte 64: nested too deeply"));
  const auto at = [](const std::string& text, io::Syntax syntax) {
    return io::too_deep(text, syntax);
  };
  constexpr auto fine = std::string::npos;
  CHECK(at(std::string(64, '[') + std::string(64, ']'), io::Syntax::json) == fine);
  CHECK(at("\"" + deep + "\"", io::Syntax::json) == fine);  // a text
  CHECK(at("\"\\\"" + deep, io::Syntax::json) == fine);     // still the text
  CHECK(at("\"a\"" + deep, io::Syntax::json) == 3 + 64);
  CHECK(at("x = " + deep, io::Syntax::toml) == 4 + 64);
  CHECK(at("# " + deep + "\nx = 1", io::Syntax::toml) == fine);  // a comment
  CHECK(at("x = '" + deep + "'", io::Syntax::toml) == fine);
  CHECK(at("x = \"\"\"\n'" + deep + "\"\"\"\"\ny = 1", io::Syntax::toml) == fine);
  CHECK(at("x = '''a'''" + deep, io::Syntax::toml) != fine);
  // Tables within tables without a bracket.
  std::string dotted = "a";
  for (int i = 0; i < 100'000; ++i) dotted += ".a";
  CHECK(at(dotted + " = 1", io::Syntax::toml) < 100);
  CHECK(at("[" + dotted + "]", io::Syntax::toml) < 100);
  std::string numbers = "x = [0.5";
  for (int i = 0; i < 1000; ++i) numbers += ", 0.5";
  CHECK(at(numbers + "]\n\"a.b\" = 1.5\n", io::Syntax::toml) == fine);
}

TEST_CASE("outputs: a link stays a link, and what it points to is replaced with its permissions",
          "[unit][io]") {
  namespace fs = std::filesystem;
  ScratchFolder scratch;
  fs::create_directory(scratch.path / "real");
  const auto real = scratch.path / "real/page.html", link = scratch.path / "page.html";
  io::write_text(real, "before");
  fs::permissions(real, fs::perms::owner_read | fs::perms::owner_write);
  fs::create_symlink("real/page.html", link);
  io::write_text(link, "after");
  CHECK(fs::read_symlink(link) == "real/page.html");
  CHECK(io::read_text(real) == "after");
  CHECK(fs::status(real).permissions() == (fs::perms::owner_read | fs::perms::owner_write));
  CHECK(files_in(scratch.path / "real") == 1);

  fs::create_symlink("real/new.html", scratch.path / "dangling");
  io::write_text(scratch.path / "dangling", "made");
  CHECK(fs::is_symlink(scratch.path / "dangling"));
  CHECK(io::read_text(scratch.path / "real/new.html") == "made");

  fs::create_symlink("circle", scratch.path / "circle");
  CHECK_THROWS_AS(io::write_text(scratch.path / "circle", "x"), StoreError);
  CHECK_THROWS_WITH(io::write_text(scratch.path / "real", "x"), Contains("Is a directory"));
}

TEST_CASE("outputs: a pipe or device stays one and is written into", "[unit][io]") {
  namespace fs = std::filesystem;
  ScratchFolder scratch;
  const auto pipe = scratch.path / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK_THROWS_WITH(io::write_text(pipe, "x"), Contains("pipe or socket that nobody reads"));
  const int reader = ::open(pipe.c_str(), O_RDONLY | O_NONBLOCK);
  REQUIRE(reader >= 0);
  io::write_text(pipe, "through");
  char got[16] = "";
  CHECK(::read(reader, got, sizeof got) == 7);
  CHECK(std::string(got) == "through");
  ::close(reader);
  CHECK(fs::is_fifo(pipe));
  CHECK(files_in(scratch.path) == 1);
  // Where the file system has these devices. The test must not depend on being unprivileged: a link
  // stands before them, so that what would be replaced is the link.
  fs::create_symlink("/dev/full", scratch.path / "full");
  CHECK_THROWS_WITH(io::write_text(scratch.path / "full", "x"),
                    Contains("No space left on device"));
  CHECK(fs::is_symlink(scratch.path / "full"));
  fs::create_symlink("/dev/null", scratch.path / "null");
  CHECK_NOTHROW(io::write_text(scratch.path / "null", "x"));
  CHECK(fs::is_symlink(scratch.path / "null"));
  CHECK(fs::is_character_file("/dev/null"));
}

TEST_CASE("outputs: an open file of this process is written into where it stands", "[unit][io]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "log";
  io::write_text(file, "before ");
  const int open = ::open(file.c_str(), O_WRONLY | O_APPEND);
  REQUIRE(open >= 0);
  io::write_text("/dev/fd/" + std::to_string(open), "after");
  ::close(open);
  CHECK(io::read_text(file) == "before after");
}

// Full disks and hostile files.
#include <ATen/ATen.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include <cerrno>
#include <csignal>
#include <fstream>
#include <functional>
#include <random>

#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "dkdm/store_error.hpp"
#include "fixtures/analytic.hpp"
#include "golden/files.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;
using fixtures::ScratchFolder;

namespace {
std::int64_t bytes_until_full = -1;  // -1: the disk never fills
int sync_error = 0;
}  // namespace

// dkdm_core's calls of write and fsync come here instead of the C library: a disk that fills.
extern "C" __attribute__((visibility("default"))) ssize_t write(int file, const void* data,
                                                                std::size_t bytes) {
  if (bytes_until_full >= 0 && file > 2) {
    if (bytes_until_full == 0) {
      errno = ENOSPC;
      return -1;
    }
    bytes = std::min<std::size_t>(bytes, static_cast<std::size_t>(bytes_until_full));
    bytes_until_full -= static_cast<std::int64_t>(bytes);
  }
  return ::syscall(SYS_write, file, data, bytes);
}

extern "C" __attribute__((visibility("default"))) int fsync(int file) {
  if (sync_error == 0) return static_cast<int>(::syscall(SYS_fsync, file));
  errno = sync_error;
  return -1;
}

namespace {

// The message of the StoreError that `work` throws; "" if it throws none.
std::string store_error(const std::function<void()>& work) {
  try {
    work();
  } catch (const StoreError& error) {
    return error.what();
  }
  return "";
}

std::size_t files_in(const std::filesystem::path& folder) {
  return std::distance(std::filesystem::directory_iterator(folder), {});
}

void write_plain(const std::filesystem::path& file, const std::string& bytes) {
  std::ofstream(file, std::ios::binary) << bytes;
}

// Hands `rounds` damaged versions of `whole` to `reader`, which may only succeed or throw DataError
// naming the file. Returns how many were refused.
int refused(const std::string& whole, int rounds,
            const std::function<void(const std::filesystem::path&)>& reader) {
  ScratchFolder scratch;
  const auto file = scratch.path / "fuzzed";
  std::mt19937 random(20250);
  int count = 0;
  for (int round = 0; round < rounds; ++round) {
    std::string bytes = whole;
    for (unsigned i = 0; i <= random() % 4; ++i) {
      // Any byte, or often one of those that lengths are made of: 0 and 255.
      const auto value = random() % 3 ? random() : random() % 2 - 1;
      bytes[random() % bytes.size()] = static_cast<char>(value);
    }
    if (round % 5 == 0) bytes.resize(random() % bytes.size());
    std::filesystem::remove(file);  // ext4 flushes a file that is cut to nothing and written again
    write_plain(file, bytes);
    CAPTURE(round);
    try {
      reader(file);
    } catch (const DataError& error) {
      if (std::string(error.what()).find("fuzzed") == std::string::npos) FAIL(error.what());
      ++count;
    } catch (const std::exception& error) {
      FAIL("not a DataError: " << error.what());
    }
  }
  return count;
}

}  // namespace

TEST_CASE("full disk: every writer says so, keeps the old file and leaves no other",
          "[robustness][io]") {
  ScratchFolder scratch;
  const at::Tensor image = at::zeros({3, 40, 40}, at::kByte);
  const std::map<std::string, std::function<void(const std::filesystem::path&)>> writers{
      {"text", [](const auto& file) { io::write_text(file, std::string(500, 'x')); }},
      {"tensors", [&](const auto& file) { io::save_tensors(file, {{"x", image}}); }},
      {"npz", [&](const auto& file) { io::write_npz(file, {{"x", image}}); }},
      {"png", [&](const auto& file) { io::write_png(file, image); }}};
  for (const auto& [name, writer] : writers) {
    const auto file = scratch.path / name;
    write_plain(file, "old");
    for (const std::int64_t room : {0, 1, 50}) {
      bytes_until_full = room;
      const std::string message = store_error([&, &writer = writer] { writer(file); });
      bytes_until_full = -1;
      CAPTURE(name, room);
      CHECK(message == file.string() + ": cannot write: No space left on device");
      CHECK(io::read_text(file) == "old");
    }
  }
  CHECK(files_in(scratch.path) == writers.size());
}

TEST_CASE("full disk: a failure that only the sync reports is one too", "[robustness][io]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "a";
  write_plain(file, "old");
  sync_error = EIO;
  const std::string message = store_error([&] { io::write_text(file, "new"); });
  sync_error = 0;
  CHECK(message == file.string() + ": cannot write to disk: Input/output error");
  CHECK(io::read_text(file) == "old");
  CHECK(files_in(scratch.path) == 1);
}

TEST_CASE("file size limit: the real system call's refusal is reported", "[robustness][io]") {
  ScratchFolder scratch;
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  rlimit tight = before;
  tight.rlim_cur = 4096;
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &tight);
  const std::string message =
      store_error([&] { io::write_text(scratch.path / "big", std::string(10'000, 'x')); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK_THAT(message, Contains("big: cannot write: File too large"));
  CHECK(files_in(scratch.path) == 0);
}

TEST_CASE("writers: a missing folder and a folder in the way are named", "[robustness][io]") {
  ScratchFolder scratch;
  CHECK_THAT(store_error([&] { io::write_text(scratch.path / "no/x", ""); }),
             Contains("no/x: cannot create: No such file or directory"));
  std::filesystem::create_directory(scratch.path / "dir");
  CHECK_THAT(store_error([&] { io::write_text(scratch.path / "dir", ""); }),
             Contains("dir: cannot write: Is a directory"));
  CHECK(files_in(scratch.path) == 1);
}

TEST_CASE("npz: thousands of damaged files are refused or read, nothing else", "[robustness][io]") {
  const auto read_all = [](const std::filesystem::path& file) {
    for (const std::string& key : io::npz_keys(file)) io::read_npz(file, key);
  };
  // Flips in times and attributes go unseen; those in data, lengths and headers must not.
  CHECK(refused(golden::kStoredNpz, 2000, read_all) > 1000);
  CHECK(refused(golden::kDeflatedNpz, 2000, read_all) > 1000);
}

TEST_CASE("safetensors: thousands of damaged files are refused or read, nothing else",
          "[robustness][io]") {
  ScratchFolder scratch;
  io::save_tensors(scratch.path / "t",
                   {{"weight", at::ones({2, 3})}, {"mask", at::ones({3}, at::kBool)}},
                   {{"step", "1"}});
  const std::string whole = io::read_text(scratch.path / "t");
  CHECK(refused(whole, 3000, [](const auto& file) { io::load_tensors(file); }) > 1500);
}

TEST_CASE("images and idx: damaged files are refused or read, nothing else", "[robustness][io]") {
  const auto read_image = [](const auto& file) { io::read_image(file, 3); };
  CHECK(refused(golden::kPalettePng, 1500, read_image) > 750);
  CHECK(refused(golden::kJpeg, 1500, read_image) > 300);  // many flips only change pixels
  const std::string idx(
      "\0\0\x08\x02\0\0\0\x02\0\0\0\x03"
      "abcdef",
      18);
  CHECK(refused(idx, 1500, [](const auto& file) { io::read_idx(file); }) > 750);
}

TEST_CASE("promises: a few bytes that claim terabytes are refused before memory is asked for",
          "[robustness][io]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "bomb";
  write_plain(file, std::string("\0\0\x08\x03\x7f\xff\xff\xff\x00\x00\xff\xff\0\0\0\x03", 16));
  CHECK_THROWS_WITH(io::read_idx(file), Contains("bomb") && Contains("can hold"));
  write_plain(file, std::string("\0\0\x08\x03", 4) + std::string(12, '\xff'));
  CHECK_THROWS_WITH(io::read_idx(file), Contains("impossible"));
  write_plain(file, std::string("\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10));
  CHECK_THROWS_WITH(io::load_tensors(file), Contains("a header of 9223372036854775807 bytes"));
  std::string npz = golden::kStoredNpz;
  npz.replace(npz.find("(2, 2, 3), }      "), 18, "(2, 2, 999999999)}");
  write_plain(file, npz);
  CHECK_THROWS_AS(io::read_npz(file, "a"), DataError);
  // A PNG of 65535 x 65535: width and height stand at bytes 16 to 23, before a checksum that
  // libpng looks at first; so any refusal will do.
  std::string png = golden::kPalettePng;
  png.replace(16, 8, std::string("\0\0\xff\xff\0\0\xff\xff", 8));
  write_plain(file, png);
  CHECK_THROWS_AS(io::read_image(file, 3), DataError);
}

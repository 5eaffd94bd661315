// Files beyond 4 GB, made of holes: what lies behind the hole is read, the hole is not.
#include <ATen/ATen.h>
#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <catch2/catch.hpp>

#include "dkdm/checkpoint.hpp"
#include "fixtures/analytic.hpp"
#include "fixtures/pickles.hpp"

using namespace dkdm;
using namespace dkdm::fixtures;

namespace {

constexpr std::int64_t kItems = (std::int64_t{9} << 30) / 8;  // 4.5 GB of floats
constexpr std::int64_t kBytes = 4 * kItems;

// head, a hole of kBytes, tail. False where the file system cannot.
bool write_sparse(const std::filesystem::path& file, const std::string& head,
                  const std::string& tail) {
  write_bytes(file, head);
  const int descriptor = ::open(file.c_str(), O_WRONLY | O_CLOEXEC);
  const auto end = static_cast<off_t>(head.size()) + kBytes;
  const bool written = ::ftruncate(descriptor, end) == 0 &&
                       ::pwrite(descriptor, tail.data(), tail.size(), end) == ssize_t(tail.size());
  ::close(descriptor);
  if (!written) WARN("this file system holds no sparse file of 4.5 GB");
  return written;
}

// {"hole": {"w": the storage's last float}, "model": {"w": three of four floats}}
std::string object(const std::string& hole, const std::string& four, const std::string& padding) {
  return dict(
      {{text("hole"), dict({{text("w"), tensor(storage(hole, kItems), kItems - 1, {1}, {1})}})},
       {text("model"), dict({{text("w"), tensor(storage(four, 4), 1, {3}, {1})}})},
       {text("padding"), text(padding)}});
}

void check(const std::filesystem::path& file, const std::string& format) {
  const auto checkpoint = io::read_checkpoint(file);
  CHECK(checkpoint.format == format);
  const auto& model = io::select_state(checkpoint, "", file);
  CHECK(model.path == "model");
  CHECK(at::equal(model.tensors.at(0).second, at::tensor({2.0f, 3.0f, 4.0f})));
  CHECK(checkpoint.states.at(0).tensors.at(0).second.item<float>() == 0);
}

// An entry of a zip64 archive: local header, directory entry.
struct Entry {
  std::string name;
  std::uint32_t crc;
  std::uint64_t bytes, header = 0;

  std::string common() const {
    return raw<std::uint16_t>(45) + std::string(8, '\0') + raw(crc) + std::string(8, '\xff') +
           raw(static_cast<std::uint16_t>(name.size()));
  }
  std::string local() const {
    return "PK\x03\x04" + common() + raw<std::uint16_t>(20) + name + raw<std::uint16_t>(1) +
           raw<std::uint16_t>(16) + raw(bytes) + raw(bytes);
  }
  std::string directory() const {
    return "PK\x01\x02" + raw<std::uint16_t>(45) + common() + raw<std::uint16_t>(28) +
           std::string(10, '\0') + std::string(4, '\xff') + name + raw<std::uint16_t>(1) +
           raw<std::uint16_t>(24) + raw(bytes) + raw(bytes) + raw(header);
  }
};

std::uint32_t crc(const std::string& bytes) {
  return static_cast<std::uint32_t>(
      ::crc32(0, reinterpret_cast<const unsigned char*>(bytes.data()), unsigned(bytes.size())));
}

}  // namespace

TEST_CASE("legacy stream: a tensor behind 4.5 GB is read", "[robustness][checkpoint]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "large.pt";
  const auto head_with = [](const std::string& padding) {
    return legacy_head() + pickle(object("a", "s", padding)) +
           pickle("](" + text("a") + text("s") + "e") + raw(kItems);
  };
  // Aligned, or the reader would have to copy it.
  const std::string head = head_with(std::string((4 - head_with("").size() % 4) % 4, ' '));
  if (!write_sparse(file, head, raw<std::int64_t>(4) + floats({1, 2, 3, 4}))) return;
  check(file, "torch legacy");
}

TEST_CASE("torch zip: an entry behind 4.5 GB is read, and the checksum of the hole is not computed",
          "[robustness][checkpoint]") {
  ScratchFolder scratch;
  const auto file = scratch.path / "large.pt";
  const std::string four = floats({1, 2, 3, 4});
  Entry pickled{"x/data.pkl", 0, 0}, hole{"x/data/0", 12345, kBytes};
  Entry small{"x/data/1", crc(four), four.size()};
  std::string head, padding;
  do {  // until the hole is aligned, or the reader would have to copy it
    const std::string objects = pickle(object("0", "1", padding));
    pickled.crc = crc(objects);
    pickled.bytes = objects.size();
    head = pickled.local() + objects;
    hole.header = head.size();
    head += hole.local();
    padding += ' ';
  } while (head.size() % 4 != 0);
  small.header = head.size() + kBytes;
  std::string tail = small.local() + four;
  const std::uint64_t directory_at = head.size() + kBytes + tail.size();
  const std::string directory = pickled.directory() + hole.directory() + small.directory();
  tail += directory + "PK\x06\x06" + raw<std::uint64_t>(44) + raw<std::uint16_t>(45) +
          raw<std::uint16_t>(45) + std::string(8, '\0') + raw<std::uint64_t>(3) +
          raw<std::uint64_t>(3) + raw<std::uint64_t>(directory.size()) + raw(directory_at) +
          "PK\x06\x07" + std::string(4, '\0') + raw(directory_at + directory.size()) +
          raw<std::uint32_t>(1) + "PK\x05\x06" + std::string(4, '\0') + std::string(12, '\xff') +
          std::string(2, '\0');
  if (!write_sparse(file, head, tail)) return;
  check(file, "torch zip");
}

// IDX, the format of MNIST: two zero bytes, type, number of dimensions, each dimension big-endian
// 32 bits, then the elements (http://yann.lecun.com/exdb/mnist). Plain, or packed by gzip.
#include <ATen/ATen.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include "dkdm/io.hpp"
#include "io/input_file.hpp"

namespace dkdm::io {
namespace {

constexpr unsigned char kUnsignedByte = 0x08;

// The bytes of a file, unpacked where it is gzip.
class GzipReader {
 public:
  explicit GzipReader(const std::filesystem::path& file)
      : path_(file), stream_(::gzopen(file.c_str(), "rb"), &::gzclose) {
    if (!stream_) throw DataError(file.string(), errno ? std::strerror(errno) : "cannot open");
    ::gzbuffer(stream_.get(), 1 << 18);
  }

  // Reads up to `bytes`; fewer only at the end. Throws DataError for a damaged stream.
  std::uint64_t read(void* out, std::uint64_t bytes) {
    std::uint64_t done = 0;
    while (done < bytes) {
      const auto piece = static_cast<unsigned>(std::min<std::uint64_t>(bytes - done, 1u << 28));
      const int got = ::gzread(stream_.get(), static_cast<char*>(out) + done, piece);
      if (got < 0) {
        int code = 0;
        const char* reason = ::gzerror(stream_.get(), &code);
        throw DataError(where(), code == Z_BUF_ERROR ? "the gzip file is truncated"
                                 : code == Z_ERRNO   ? std::strerror(errno)
                                                     : std::string("damaged gzip: ") + reason);
      }
      if (got == 0) break;
      done += static_cast<std::uint64_t>(got);
      offset_ += static_cast<std::uint64_t>(got);
    }
    return done;
  }

  bool packed() { return ::gzdirect(stream_.get()) == 0; }
  std::string where() {
    return at_byte(path_, offset_) + (packed() ? " of the unpacked data" : "");
  }

 private:
  std::filesystem::path path_;
  std::unique_ptr<gzFile_s, int (*)(gzFile)> stream_;
  std::uint64_t offset_ = 0;
};

}  // namespace

at::Tensor read_idx(const std::filesystem::path& file) {
  const std::uint64_t file_bytes = InputFile(file).size();
  GzipReader input(file);

  std::array<unsigned char, 4> magic{};
  if (input.read(magic.data(), magic.size()) < magic.size()) {
    throw DataError(input.where(), "truncated: an IDX file begins with 4 bytes");
  }
  if (magic[0] != 0 || magic[1] != 0 || magic[2] != kUnsignedByte || magic[3] == 0) {
    char text[16];
    std::snprintf(text, sizeof text, "%02x%02x%02x%02x", magic[0], magic[1], magic[2], magic[3]);
    throw DataError(at_byte(file, 0),
                    std::string("magic number ") + text +
                        " is not that of an IDX file of unsigned bytes (000008nn)");
  }
  std::vector<std::int64_t> shape;
  for (int i = 0; i < magic[3]; ++i) {
    std::array<unsigned char, 4> side{};
    if (input.read(side.data(), side.size()) < side.size()) {
      throw DataError(input.where(), "truncated: the dimensions end at byte " +
                                         std::to_string(4 + 4 * int{magic[3]}));
    }
    shape.push_back(std::int64_t{side[0]} << 24 | side[1] << 16 | side[2] << 8 | side[3]);
  }
  const std::uint64_t expected = array_bytes(shape, 1, input.where());
  if (expected / (input.packed() ? kDeflateLimit : 1) > file_bytes) {
    throw DataError(input.where(), "promises " + std::to_string(expected) +
                                       " bytes, more than a file of " + std::to_string(file_bytes) +
                                       " bytes can hold (truncated?)");
  }
  at::Tensor data = at::empty(shape, at::kByte);
  const std::uint64_t got = input.read(data.mutable_data_ptr<std::uint8_t>(), expected);
  if (got < expected) {
    throw DataError(input.where(), "truncated: " + std::to_string(expected) +
                                       " bytes were promised, " + std::to_string(got) + " follow");
  }
  char more = 0;  // asking for one byte too many also makes zlib check the gzip checksum
  if (input.read(&more, 1) != 0) throw DataError(input.where(), "bytes follow the last element");
  return data;
}

}  // namespace dkdm::io

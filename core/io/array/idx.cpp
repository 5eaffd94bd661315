// IDX, the format of MNIST: two zero bytes, type, number of dimensions, each dimension big-endian
// 32 bits, then the elements (http://yann.lecun.com/exdb/mnist). Plain, or packed by gzip.
#include <ATen/ATen.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "io/foreign_file.hpp"
#include "io/input_file.hpp"

namespace dkdm::io {
namespace {

constexpr unsigned char kUnsignedByte = 0x08;

// The bytes of a file, unpacked where it is gzip. (zlib's own gzread takes a file that lacks the
// end of its checksum for whole.)
class Bytes {
 public:
  explicit Bytes(const std::filesystem::path& file)
      : path_(file), raw_(read_text(file)), packed_(raw_.starts_with("\x1f\x8b")) {
    if (packed_ && ::inflateInit2(&stream_, MAX_WBITS + 16) != Z_OK) {
      throw Error(path_.string() + ": zlib has no memory");
    }
  }
  ~Bytes() {
    if (packed_) ::inflateEnd(&stream_);
  }
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;

  // Reads up to `bytes`; fewer only at the end. Throws DataError for a damaged stream.
  std::uint64_t read(void* out, std::uint64_t bytes) {
    const std::uint64_t got = packed_ ? inflate(static_cast<unsigned char*>(out), bytes)
                                      : raw_.copy(static_cast<char*>(out), bytes, offset_);
    offset_ += got;
    return got;
  }
  // Whether anything follows. Also makes zlib check the checksum.
  bool more() {
    char next = 0;
    return read(&next, 1) != 0 || (packed_ && taken_ != raw_.size());
  }
  // More than the file can hold, whatever it promises.
  bool too_many(std::uint64_t bytes) const {
    return bytes / (packed_ ? kDeflateLimit : 1) > raw_.size();
  }
  std::uint64_t file_bytes() const { return raw_.size(); }
  std::string where() const {
    return at_byte(path_, offset_) + (packed_ ? " of the unpacked data" : "");
  }

 private:
  std::uint64_t inflate(unsigned char* out, std::uint64_t bytes) {
    std::uint64_t done = 0;
    while (done < bytes && !ended_) {
      // zlib counts in 32 bits.
      constexpr std::uint64_t limit = std::uint64_t{1} << 30;
      const auto room = static_cast<unsigned>(std::min(bytes - done, limit));
      const auto given = static_cast<unsigned>(std::min(raw_.size() - taken_, limit));
      stream_.next_in = reinterpret_cast<unsigned char*>(raw_.data()) + taken_;
      stream_.avail_in = given;
      stream_.next_out = out + done;
      stream_.avail_out = room;
      const int status = ::inflate(&stream_, Z_NO_FLUSH);
      taken_ += given - stream_.avail_in;
      done += room - stream_.avail_out;
      ended_ = status == Z_STREAM_END;
      if (status == Z_BUF_ERROR || (status == Z_OK && taken_ == raw_.size() && stream_.avail_out)) {
        throw DataError(at_byte(path_, taken_), "the gzip file is truncated");
      }
      if (status != Z_OK && !ended_) {
        throw DataError(at_byte(path_, taken_),
                        std::string("damaged gzip: ") + (stream_.msg ? stream_.msg : "no stream"));
      }
    }
    return done;
  }

  std::filesystem::path path_;
  std::string raw_;
  bool packed_, ended_ = false;
  z_stream stream_{};
  std::uint64_t offset_ = 0, taken_ = 0;  // bytes given out; bytes of the file used
};

// Says what the file is that does not begin as an IDX file, by its unpacked bytes.
[[noreturn]] void refuse(const std::filesystem::path& file,
                         const std::array<unsigned char, 4>& magic) {
  Bytes again(file);
  std::string begin(std::size_t{4096}, '\0');
  begin.resize(again.read(begin.data(), begin.size()));
  const std::string kind = recognised_kind(MappedFile(file, begin));
  if (!kind.empty() && !kind.starts_with("an IDX file"))
    refuse_kind(file, kind, "an IDX file of unsigned bytes (magic number 000008nn)");
  char text[16];
  std::snprintf(text, sizeof text, "%02x%02x%02x%02x", magic[0], magic[1], magic[2], magic[3]);
  throw DataError(at_byte(file, 0), "magic number " + std::string(text) +
                                        " is not that of an IDX file of unsigned "
                                        "bytes (000008nn)");
}

}  // namespace

at::Tensor read_idx(const std::filesystem::path& file) {
  Bytes input(file);

  std::array<unsigned char, 4> magic{};
  if (input.read(magic.data(), magic.size()) < magic.size()) {
    throw DataError(input.where(), "truncated: an IDX file begins with 4 bytes");
  }
  if (magic[0] != 0 || magic[1] != 0 || magic[2] != kUnsignedByte || magic[3] == 0) {
    refuse(file, magic);
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
  if (input.too_many(expected)) {
    throw DataError(input.where(),
                    "promises " + std::to_string(expected) + " bytes, more than a file of " +
                        std::to_string(input.file_bytes()) + " bytes can hold (truncated?)");
  }
  at::Tensor data = at::empty(shape, at::kByte);
  const std::uint64_t got = input.read(data.mutable_data_ptr<std::uint8_t>(), expected);
  if (got < expected) {
    throw DataError(input.where(), "truncated: " + std::to_string(expected) +
                                       " bytes were promised, " + std::to_string(got) + " follow");
  }
  if (input.more()) throw DataError(input.where(), "bytes follow the last element");
  return data;
}

}  // namespace dkdm::io

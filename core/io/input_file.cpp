// Positional reads and mappings with the system's reason in every failure.
#include "io/input_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

namespace dkdm::io {

std::string at_byte(const std::filesystem::path& file, std::uint64_t offset) {
  return file.string() + ": byte " + std::to_string(offset);
}

void ByteSource::require(std::uint64_t offset, std::uint64_t bytes) const {
  if (offset > size_ || bytes > size_ - offset) {
    throw DataError(at_byte(path_, offset), "needs " + std::to_string(bytes) +
                                                " bytes here, but the file ends at byte " +
                                                std::to_string(size_) + " (truncated?)");
  }
}

std::string ByteSource::read(std::uint64_t offset, std::uint64_t bytes) const {
  require(offset, bytes);  // before memory is asked for
  std::string text(bytes, '\0');
  read(offset, text.data(), bytes);
  return text;
}

namespace {

// Throws unless `mode` is a regular file's: reading anything else may wait for ever, or have no
// end.
void require_regular(const std::filesystem::path& file, mode_t mode) {
  if (S_ISREG(mode)) return;
  const char* kind = S_ISDIR(mode)    ? "a folder"
                     : S_ISFIFO(mode) ? "a pipe"
                     : S_ISSOCK(mode) ? "a socket"
                                      : "a device";
  throw DataError(file.string(),
                  std::string("is ") + kind + ", not a regular file" +
                      (S_ISFIFO(mode) ? "; save what it brings to a file first" : ""));
}

}  // namespace

Descriptor::Descriptor(const std::filesystem::path& file) : number_(-1) {
  // Asked first, since opening some devices does something.
  struct stat status{};
  if (::stat(file.c_str(), &status) != 0) throw DataError(file.string(), std::strerror(errno));
  require_regular(file, status.st_mode);
  // And not waited for, should a pipe have taken its place since.
  number_ = ::open(file.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (number_ < 0) throw DataError(file.string(), std::strerror(errno));
  try {
    if (::fstat(number_, &status) != 0) throw DataError(file.string(), std::strerror(errno));
    require_regular(file, status.st_mode);
  } catch (...) {
    ::close(number_);
    throw;
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
}

Descriptor::~Descriptor() { ::close(number_); }

void InputFile::read(std::uint64_t offset, void* out, std::uint64_t bytes) const {
  require(offset, bytes);
  char* to = static_cast<char*>(out);
  while (bytes > 0) {
    const std::size_t piece = std::min<std::uint64_t>(bytes, std::uint64_t{1} << 30);
    const ssize_t got = ::pread(number(), to, piece, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw DataError(at_byte(path(), offset), std::strerror(errno));
    if (got == 0) throw DataError(at_byte(path(), offset), "the file shrank while it was read");
    to += got;
    offset += static_cast<std::uint64_t>(got);
    bytes -= static_cast<std::uint64_t>(got);
  }
}

MappedFile::MappedFile(const std::filesystem::path& file) : MappedFile(file, Descriptor(file)) {}

MappedFile::MappedFile(const std::filesystem::path& file, const Descriptor& open)
    : ByteSource(file, open.size()), mapped_(open.size() > 0) {
  if (!mapped_) return;  // the system maps no empty file
  // Private and writable: a tensor over it may be changed, and the file stays as it is.
  void* memory = ::mmap(nullptr, size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE,
                        open.number(), 0);
  if (memory == MAP_FAILED) {
    throw DataError(file.string(), std::string("cannot be mapped: ") + std::strerror(errno));
  }
  data_ = static_cast<const char*>(memory);
}

MappedFile::MappedFile(const std::filesystem::path& name, std::string_view bytes)
    : ByteSource(name, bytes.size()), data_(bytes.data()) {}

MappedFile::~MappedFile() {
  if (mapped_) ::munmap(const_cast<char*>(data_), size());
}

std::string_view MappedFile::view(std::uint64_t offset, std::uint64_t bytes) const {
  require(offset, bytes);
  return {data_ + offset, bytes};
}

void MappedFile::read(std::uint64_t offset, void* out, std::uint64_t bytes) const {
  const std::string_view from = view(offset, bytes);
  std::copy(from.begin(), from.end(), static_cast<char*>(out));
}

std::uint64_t array_bytes(const std::vector<std::int64_t>& shape, std::uint64_t item_size,
                          const std::string& where) {
  std::uint64_t bytes = item_size, padded = item_size;
  for (const std::int64_t side : shape) {
    const std::uint64_t length = static_cast<std::uint64_t>(side);
    if (side < 0 || __builtin_mul_overflow(padded, std::max<std::uint64_t>(length, 1), &padded) ||
        padded > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      throw DataError(where, "dimension " + std::to_string(side) + " is impossible");
    }
    bytes *= length;
  }
  return bytes;
}

}  // namespace dkdm::io

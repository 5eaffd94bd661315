// Positional reads with the system's reason in every failure.
#include "io/input_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

namespace dkdm::io {

std::string at_byte(const std::filesystem::path& file, std::uint64_t offset) {
  return file.string() + ": byte " + std::to_string(offset);
}

InputFile::InputFile(std::filesystem::path file)
    : path_(std::move(file)), descriptor_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (descriptor_ < 0) throw DataError(path_.string(), std::strerror(errno));
  struct stat status{};
  const bool known = ::fstat(descriptor_, &status) == 0;
  if (!known || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    throw DataError(path_.string(), "is not a regular file");
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
}

InputFile::~InputFile() { ::close(descriptor_); }

void InputFile::read(std::uint64_t offset, void* out, std::uint64_t bytes) const {
  if (offset > size_ || bytes > size_ - offset) {
    throw DataError(at_byte(path_, offset), "needs " + std::to_string(bytes) +
                                                " bytes here, but the file ends at byte " +
                                                std::to_string(size_) + " (truncated?)");
  }
  char* to = static_cast<char*>(out);
  while (bytes > 0) {
    const std::size_t piece = std::min<std::uint64_t>(bytes, std::uint64_t{1} << 30);
    const ssize_t got = ::pread(descriptor_, to, piece, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw DataError(at_byte(path_, offset), std::strerror(errno));
    if (got == 0) throw DataError(at_byte(path_, offset), "the file shrank while it was read");
    to += got;
    offset += static_cast<std::uint64_t>(got);
    bytes -= static_cast<std::uint64_t>(got);
  }
}

std::string InputFile::read(std::uint64_t offset, std::uint64_t bytes) const {
  if (offset > size_ || bytes > size_ - offset) read(offset, nullptr, bytes);  // throws
  std::string text(bytes, '\0');
  read(offset, text.data(), bytes);
  return text;
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

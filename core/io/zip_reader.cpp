// Zip as PKWARE's APPNOTE 6.3 describes it: end record, central directory, local headers. The sizes
// of the central directory count; those of local headers may be absent.
#include "io/zip_reader.hpp"

#include <algorithm>
#include <set>
#include <string_view>

#include "io/foreign_file.hpp"

namespace dkdm::io {
namespace {

constexpr std::uint64_t kEndBytes = 22, kEnd64Bytes = 56, kLocatorBytes = 20;
constexpr std::uint64_t kEntryBytes = 46, kLocalBytes = 30;
constexpr std::string_view kEndMark = "PK\x05\x06", kEnd64Mark = "PK\x06\x06";
constexpr std::string_view kLocatorMark = "PK\x06\x07", kEntryMark = "PK\x01\x02";
constexpr std::string_view kLocalMark = "PK\x03\x04";
constexpr std::uint32_t kIn64 = 0xffffffff;  // "see the zip64 record"
constexpr std::uint16_t kZip64Field = 1, kEncryptedFlag = 1, kStored = 0, kDeflated = 8;

std::uint16_t u16(const std::string& bytes, std::uint64_t at) {
  return little_endian<std::uint16_t>(bytes.data() + at);
}
std::uint32_t u32(const std::string& bytes, std::uint64_t at) {
  return little_endian<std::uint32_t>(bytes.data() + at);
}
std::uint64_t u64(const std::string& bytes, std::uint64_t at) {
  return little_endian<std::uint64_t>(bytes.data() + at);
}

// Those of size, packed and header that say "see zip64" come from the extra fields, in that order.
void apply_zip64(ZipEntry& entry, const std::string& bytes, std::uint64_t at, std::uint64_t end,
                 const std::string& where) {
  while (at + 4 <= end) {
    const std::uint16_t id = u16(bytes, at);
    std::uint64_t field = at + 4;
    const std::uint64_t field_end = field + u16(bytes, at + 2);
    if (field_end > end) break;
    if (id == kZip64Field) {
      for (std::uint64_t* value : {&entry.size, &entry.packed, &entry.header}) {
        if (*value != kIn64) continue;
        if (field + 8 > field_end) throw DataError(where, "its zip64 field is too short");
        *value = u64(bytes, field);
        field += 8;
      }
    }
    at = field_end;
  }
}

}  // namespace

ZipReader::ZipReader(const std::filesystem::path& file)
    : own_(std::make_unique<InputFile>(file)), file_(*own_) {
  read_directory();
}

ZipReader::ZipReader(const ByteSource& source) : file_(source) { read_directory(); }

void ZipReader::read_directory() {
  const Directory directory = find_directory();
  directory_offset_ = directory.offset;
  const std::string bytes = file_.read(directory.offset, directory.bytes);
  std::set<std::string> names;
  for (std::uint64_t at = 0; at < bytes.size();) {
    entries_.push_back(parse_entry(bytes, at));
    if (!names.insert(entries_.back().name).second) {
      throw DataError(file_.path().string(),
                      "entry '" + entries_.back().name + "' stands there twice");
    }
  }
  if (entries_.size() != directory.count) {
    throw DataError(at_byte(file_.path(), directory.offset),
                    "the zip directory promises " + std::to_string(directory.count) +
                        " entries and holds " + std::to_string(entries_.size()));
  }
}

ZipReader::Directory ZipReader::find_directory() const {
  // The end record is last but for a comment of up to 65535 bytes, whose length it holds.
  const std::uint64_t tail_bytes = std::min(file_.size(), kEndBytes + 0xffff);
  const std::uint64_t tail_offset = file_.size() - tail_bytes;
  const std::string tail = file_.read(tail_offset, tail_bytes);
  std::size_t at = tail.rfind(kEndMark);
  while (at != std::string::npos &&
         (at + kEndBytes > tail.size() || at + kEndBytes + u16(tail, at + 20) != tail.size())) {
    at = at == 0 ? std::string::npos : tail.rfind(kEndMark, at - 1);
  }
  if (at == std::string::npos) {
    if (file_.size() < kLocalMark.size() || file_.read(0, kLocalMark.size()) != kLocalMark) {
      refuse_foreign(file_, "a zip archive (.npz, .pt)");
    }
    throw DataError(
        at_byte(file_.path(), file_.size()),
        "no end record of a zip archive: the file is truncated (a download that was not "
        "finished?)");
  }
  const std::uint64_t end = tail_offset + at;
  Directory directory{
      .offset = u32(tail, at + 16), .bytes = u32(tail, at + 12), .count = u16(tail, at + 10)};
  const bool split = u16(tail, at + 4) != 0 || u16(tail, at + 6) != 0;
  if (split && u16(tail, at + 4) != 0xffff) {
    throw DataError(at_byte(file_.path(), end), "a zip archive in several parts is not read");
  }
  std::uint64_t limit = end;
  if (directory.offset == kIn64 || directory.bytes == kIn64 || directory.count == 0xffff) {
    const std::string locator =
        end < kLocatorBytes ? "" : file_.read(end - kLocatorBytes, kLocatorBytes);
    if (!locator.starts_with(kLocatorMark)) {
      throw DataError(at_byte(file_.path(), end), "the zip64 record before it is missing");
    }
    limit = u64(locator, 8);
    const std::string record = file_.read(limit, kEnd64Bytes);
    if (!record.starts_with(kEnd64Mark)) {
      throw DataError(at_byte(file_.path(), limit), "not the zip64 record it should be");
    }
    directory = {.offset = u64(record, 48), .bytes = u64(record, 40), .count = u64(record, 32)};
  }
  if (directory.offset > limit || directory.bytes > limit - directory.offset) {
    throw DataError(at_byte(file_.path(), end),
                    "the zip directory (byte " + std::to_string(directory.offset) + ", " +
                        std::to_string(directory.bytes) + " bytes) lies outside the file");
  }
  return directory;
}

ZipEntry ZipReader::parse_entry(const std::string& directory, std::uint64_t& at) const {
  const std::string where = at_byte(file_.path(), directory_offset_ + at);
  if (directory.size() - at < kEntryBytes ||
      std::string_view(directory).substr(at, 4) != kEntryMark) {
    throw DataError(where, "not the zip directory entry it should be");
  }
  const std::uint64_t name_bytes = u16(directory, at + 28), extra_bytes = u16(directory, at + 30);
  const std::uint64_t name_at = at + kEntryBytes, extra_at = name_at + name_bytes;
  const std::uint64_t next = extra_at + extra_bytes + u16(directory, at + 32);
  if (next > directory.size()) throw DataError(where, "the zip directory entry is truncated");

  ZipEntry entry;
  entry.name = directory.substr(name_at, name_bytes);
  entry.crc = u32(directory, at + 16);
  entry.packed = u32(directory, at + 20);
  entry.size = u32(directory, at + 24);
  entry.header = u32(directory, at + 42);
  apply_zip64(entry, directory, extra_at, extra_at + extra_bytes, where);
  const std::uint16_t method = u16(directory, at + 10);
  if (u16(directory, at + 8) & kEncryptedFlag) throw DataError(where, "the entry is encrypted");
  if (method != kStored && method != kDeflated) {
    throw DataError(where, "compression method " + std::to_string(method) +
                               " is not read, only stored (0) and deflate (8)");
  }
  entry.deflated = method == kDeflated;
  const bool impossible =
      entry.deflated ? entry.size / kDeflateLimit > entry.packed : entry.size != entry.packed;
  if (impossible || entry.packed > directory_offset_ || entry.header > directory_offset_) {
    throw DataError(where, "entry '" + entry.name + "' of " + std::to_string(entry.size) +
                               " bytes cannot lie in " + std::to_string(entry.packed) +
                               " bytes at byte " + std::to_string(entry.header));
  }
  at = next;
  return entry;
}

std::uint64_t ZipReader::data_offset(const ZipEntry& entry) const {
  const std::string header = file_.read(entry.header, kLocalBytes);
  const std::uint64_t offset = entry.header + kLocalBytes + u16(header, 26) + u16(header, 28);
  if (!header.starts_with(kLocalMark) || offset > directory_offset_ ||
      entry.packed > directory_offset_ - offset) {
    throw DataError(at_byte(file_.path(), entry.header),
                    "entry '" + entry.name + "' does not lie where the zip directory says");
  }
  return offset;
}

ZipStream::ZipStream(const ZipReader& zip, const ZipEntry& entry)
    : zip_(zip), entry_(entry), at_(zip.data_offset(entry)), end_(at_ + entry.packed) {
  if (!entry_.deflated) return;
  packed_.resize(std::size_t{1} << 18);
  if (::inflateInit2(&stream_, -MAX_WBITS) != Z_OK) throw Error(where() + ": zlib has no memory");
}

ZipStream::~ZipStream() {
  if (entry_.deflated) ::inflateEnd(&stream_);
}

std::string ZipStream::where() const {
  return zip_.file().path().string() + ": entry '" + entry_.name + "'";
}

void ZipStream::read(void* out, std::uint64_t bytes) {
  if (bytes > left()) {
    throw DataError(where(), "needs " + std::to_string(bytes) + " bytes from its byte " +
                                 std::to_string(done_) + ", but has " + std::to_string(left()));
  }
  if (entry_.deflated) {
    inflate(static_cast<unsigned char*>(out), bytes);
  } else {
    zip_.file().read(at_, out, bytes);
    at_ += bytes;
  }
  if (bytes == 0) return;  // crc32_z takes a null pointer as "give the initial value"
  const auto* added = static_cast<const unsigned char*>(out);
  crc_ = static_cast<std::uint32_t>(::crc32_z(crc_, added, bytes));
  done_ += bytes;
}

std::string ZipStream::read(std::uint64_t bytes) {
  std::string text(std::min(bytes, left()), '\0');
  read(text.data(), bytes);
  return text;
}

void ZipStream::inflate(unsigned char* out, std::uint64_t bytes) {
  while (bytes > 0) {
    if (stream_.avail_in == 0 && at_ < end_) {
      const std::uint64_t piece = std::min<std::uint64_t>(packed_.size(), end_ - at_);
      zip_.file().read(at_, packed_.data(), piece);
      stream_.next_in = packed_.data();
      stream_.avail_in = static_cast<unsigned>(piece);
      at_ += piece;
    }
    const auto piece = static_cast<unsigned>(std::min<std::uint64_t>(bytes, 1u << 30));
    stream_.next_out = out;
    stream_.avail_out = piece;
    const int status = ::inflate(&stream_, Z_NO_FLUSH);
    const unsigned got = piece - stream_.avail_out;
    out += got;
    bytes -= got;
    if (bytes > 0 && (status == Z_STREAM_END || (status != Z_OK && got == 0))) {
      throw DataError(at_byte(zip_.file().path(), at_ - stream_.avail_in),
                      "entry '" + entry_.name + "': " +
                          (stream_.msg ? stream_.msg : "its deflate stream ends too early"));
    }
  }
}

void ZipStream::finish() {
  if (left() != 0) throw DataError(where(), std::to_string(left()) + " bytes follow its array");
  if (crc_ != entry_.crc) throw DataError(where(), "its checksum is wrong: the data are damaged");
}

}  // namespace dkdm::io

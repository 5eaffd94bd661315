#include "results/admin/archive.hpp"

#include <archive.h>
#include <archive_entry.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <memory>
#include <set>

#include "core/io/atomic_file.hpp"
#include "core/io/input_file.hpp"
#include "core/io/plain_text.hpp"
#include "dkdm/error.hpp"
#include "dkdm/store_error.hpp"

namespace dkdm::results {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBlock = 1 << 20;
constexpr std::size_t kNameLimit = 1000;

using Archive = std::unique_ptr<archive, int (*)(archive*)>;
using Entry = std::unique_ptr<archive_entry, void (*)(archive_entry*)>;

// libarchive's own description, with what was being done.
void require(bool done, archive* handle, const fs::path& file, const std::string& what) {
  if (done) return;
  const char* reason = archive_error_string(handle);
  throw StoreError(file.string() + ": " + what + ": " + (reason != nullptr ? reason : "unknown"));
}

void write_entry(archive* out, const ArchiveEntry& entry, const fs::path& target) {
  const io::InputFile in(entry.file);
  const Entry header(archive_entry_new(), archive_entry_free);
  archive_entry_set_pathname(header.get(), entry.name.c_str());
  archive_entry_set_size(header.get(), static_cast<la_int64_t>(in.size()));
  archive_entry_set_filetype(header.get(), AE_IFREG);
  archive_entry_set_perm(header.get(), 0644);
  require(archive_write_header(out, header.get()) == ARCHIVE_OK, out, target, "cannot be written");
  for (std::uint64_t at = 0; at < in.size();) {
    const auto piece = in.read(at, std::min<std::uint64_t>(in.size() - at, kBlock));
    require(archive_write_data(out, piece.data(), piece.size()) ==
                static_cast<la_ssize_t>(piece.size()),
            out, target, "cannot be written");
    at += piece.size();
  }
}

// libarchive's writer into a file of ours. Exceptions do not cross it: the first is kept.
struct Output {
  io::AtomicFile file;
  std::exception_ptr failure;

  static la_ssize_t write(archive* handle, void* self, const void* data, std::size_t bytes) {
    auto& output = *static_cast<Output*>(self);
    try {
      output.file.write(data, bytes);
      return static_cast<la_ssize_t>(bytes);
    } catch (...) {
      output.failure = std::current_exception();
      archive_set_error(handle, EIO, "the file");
      return -1;
    }
  }
};

// An entry's place below the folder that an archive is unpacked into, "" for a folder that holds
// nothing of ours. What `dkdm runs export` does not write is refused, whatever it might be good
// for.
fs::path place_of(archive_entry* entry, const fs::path& source) {
  const char* raw = archive_entry_pathname(entry);
  const std::string name = raw != nullptr ? raw : "";
  const auto type = archive_entry_filetype(entry);
  const auto refuse = [&](const std::string& why) {
    throw StoreError(source.string() + ": entry '" + io::shown(name) + "' " + why +
                     "; expected what `dkdm runs export` writes");
  };
  fs::path path = fs::path(name).lexically_normal();
  bool inside = !name.empty() && path.is_relative();
  for (const auto& part : path) inside = inside && part != "..";
  if (!inside || (type != AE_IFREG && type != AE_IFDIR) || archive_entry_hardlink(entry)) {
    refuse("is a link or leads out of the archive");
  }
  if (name.size() > kNameLimit || io::has_control(name)) refuse("has an impossible name");
  if (type == AE_IFDIR) return {};  // made for what lies in it
  const auto parts = std::distance(path.begin(), path.end());
  const bool artifact = *path.begin() == "artifacts" && parts >= 4;
  if (!artifact && path != "results.sqlite" && path != "config.toml") refuse("is not known");
  return path;
}

void unpack_entry(archive* in, const fs::path& source, const fs::path& target) {
  std::error_code error;
  fs::create_directories(target.parent_path(), error);
  if (error) throw StoreError(target.string() + ": cannot be made: " + error.message());
  io::AtomicFile out(target);
  std::string buffer(kBlock, '\0');
  for (;;) {
    const auto count = archive_read_data(in, buffer.data(), buffer.size());
    require(count >= 0, in, source, target.filename().string() + " in it cannot be read");
    if (count == 0) break;
    out.write(buffer.data(), static_cast<std::uint64_t>(count));
  }
  out.commit();
}

}  // namespace

void write_archive(const fs::path& target, const std::vector<ArchiveEntry>& entries) {
  Output output{io::AtomicFile(target), nullptr};
  const Archive out(archive_write_new(), archive_write_free);
  archive_write_set_format_pax_restricted(out.get());
  archive_write_set_bytes_in_last_block(out.get(), 1);  // a pipe or file, no tape
  try {
    require(archive_write_open(out.get(), &output, nullptr, Output::write, nullptr) == ARCHIVE_OK,
            out.get(), target, "cannot be written");
    for (const auto& entry : entries) write_entry(out.get(), entry, target);
    require(archive_write_close(out.get()) == ARCHIVE_OK, out.get(), target, "cannot be written");
  } catch (...) {
    if (output.failure) std::rethrow_exception(output.failure);
    throw;
  }
  output.file.commit();
}

void unpack_archive(const fs::path& source, const fs::path& folder) {
  const io::Descriptor file(source);
  const Archive in(archive_read_new(), archive_read_free);
  // Plain tar alone: some of libarchive's filters are programs that it starts.
  archive_read_support_format_tar(in.get());
  const std::string unlike = "not an archive of `dkdm runs export` (an uncompressed tar)";
  require(archive_read_open_fd(in.get(), file.number(), kBlock) == ARCHIVE_OK, in.get(), source,
          unlike);
  std::set<fs::path> seen;
  std::uint64_t left = file.size();  // an entry with holes would say more than the archive holds
  for (;;) {
    archive_entry* entry = nullptr;
    const int code = archive_read_next_header(in.get(), &entry);
    if (code == ARCHIVE_EOF) return;
    require(code == ARCHIVE_OK, in.get(), source, unlike);
    const auto place = place_of(entry, source);
    if (place.empty()) continue;
    const auto bytes = static_cast<std::uint64_t>(archive_entry_size(entry));
    if (!archive_entry_size_is_set(entry) || archive_entry_size(entry) < 0 || bytes > left) {
      throw StoreError(source.string() + ": entry '" + place.string() +
                       "' promises more bytes than the archive holds");
    }
    left -= bytes;
    if (!seen.insert(place).second) {
      throw StoreError(source.string() + ": entry '" + place.string() + "' is there twice");
    }
    unpack_entry(in.get(), source, folder / place);
  }
}

}  // namespace dkdm::results

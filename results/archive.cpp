#include "results/archive.hpp"

#include <archive.h>
#include <archive_entry.h>

#include <fstream>
#include <memory>

#include "dkdm/error.hpp"

namespace dkdm::results {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBlock = 1 << 20;

using Archive = std::unique_ptr<archive, int (*)(archive*)>;
using Entry = std::unique_ptr<archive_entry, void (*)(archive_entry*)>;

// libarchive's own description, with what was being done.
void require(bool done, archive* handle, const fs::path& file, const std::string& what) {
  if (done) return;
  const char* reason = archive_error_string(handle);
  throw StoreError(file.string() + ": " + what + ": " + (reason != nullptr ? reason : "unknown"));
}

void write_entry(archive* out, const ArchiveEntry& entry, const fs::path& target) {
  std::ifstream in(entry.file, std::ios::binary);
  std::error_code error;
  const auto bytes = fs::file_size(entry.file, error);
  if (!in || error) throw StoreError(entry.file.string() + ": cannot be read for the archive");
  const Entry header(archive_entry_new(), archive_entry_free);
  archive_entry_set_pathname(header.get(), entry.name.c_str());
  archive_entry_set_size(header.get(), static_cast<la_int64_t>(bytes));
  archive_entry_set_filetype(header.get(), AE_IFREG);
  archive_entry_set_perm(header.get(), 0644);
  require(archive_write_header(out, header.get()) == ARCHIVE_OK, out, target, "cannot be written");
  std::vector<char> buffer(kBlock);
  std::uintmax_t written = 0;
  while (in.read(buffer.data(), static_cast<std::streamsize>(buffer.size())), in.gcount() > 0) {
    const auto count = static_cast<std::size_t>(in.gcount());
    require(archive_write_data(out, buffer.data(), count) == static_cast<la_ssize_t>(count), out,
            target, "cannot be written");
    written += count;
  }
  if (written != bytes) throw StoreError(entry.file.string() + ": changed while it was archived");
}

void unpack_entry(archive* in, archive_entry* entry, const fs::path& source,
                  const fs::path& folder) {
  const char* raw = archive_entry_pathname(entry);
  const std::string name = raw != nullptr ? raw : "";
  const auto type = archive_entry_filetype(entry);
  const fs::path path(name);
  bool inside = !name.empty() && path.is_relative();
  for (const auto& part : path) inside = inside && part != "..";
  if (!inside || (type != AE_IFREG && type != AE_IFDIR) || archive_entry_hardlink(entry)) {
    throw StoreError(source.string() + ": entry '" + name +
                     "' is a link or leads out of the archive; expected what `dkdm runs export` "
                     "writes");
  }
  const auto target = folder / path;
  fs::create_directories(type == AE_IFDIR ? target : target.parent_path());
  if (type == AE_IFDIR) return;
  std::ofstream out(target, std::ios::binary);
  std::vector<char> buffer(kBlock);
  for (;;) {
    const auto count = archive_read_data(in, buffer.data(), buffer.size());
    require(count >= 0, in, source, "entry '" + name + "' cannot be read");
    if (count == 0) break;
    out.write(buffer.data(), count);
  }
  out.close();
  if (!out) throw StoreError(target.string() + ": cannot be written; is the disk full?");
}

}  // namespace

void write_archive(const fs::path& target, const std::vector<ArchiveEntry>& entries) {
  const auto part = target.string() + ".part";
  const Archive out(archive_write_new(), archive_write_free);
  archive_write_set_format_pax_restricted(out.get());
  require(archive_write_open_filename(out.get(), part.c_str()) == ARCHIVE_OK, out.get(), target,
          "cannot be written");
  try {
    for (const auto& entry : entries) write_entry(out.get(), entry, target);
    require(archive_write_close(out.get()) == ARCHIVE_OK, out.get(), target, "cannot be written");
  } catch (...) {
    std::error_code ignored;
    fs::remove(part, ignored);
    throw;
  }
  std::error_code error;
  fs::rename(part, target, error);
  if (error) throw StoreError(target.string() + ": cannot be written: " + error.message());
}

void unpack_archive(const fs::path& source, const fs::path& folder) {
  const Archive in(archive_read_new(), archive_read_free);
  archive_read_support_format_tar(in.get());
  archive_read_support_filter_all(in.get());
  require(archive_read_open_filename(in.get(), source.c_str(), kBlock) == ARCHIVE_OK, in.get(),
          source, "not an archive of `dkdm runs export`");
  for (;;) {
    archive_entry* entry = nullptr;
    const int code = archive_read_next_header(in.get(), &entry);
    if (code == ARCHIVE_EOF) return;
    require(code == ARCHIVE_OK, in.get(), source, "not an archive of `dkdm runs export`");
    unpack_entry(in.get(), entry, source, folder);
  }
}

}  // namespace dkdm::results

// PyTorch's two containers: a zip of a pickle and one stored entry a storage, and the stream that
// torch.save wrote before 1.6 (and still writes on request).
#include <zlib.h>

#include <algorithm>

#include "io/checkpoint/torch_objects.hpp"
#include "io/checkpoint/torch_tensors.hpp"
#include "io/foreign_file.hpp"
#include "io/plain_text.hpp"
#include "io/zip_reader.hpp"

namespace dkdm::io {
namespace {

constexpr std::uint64_t kSmallEntry = 64;  // bytes of "byteorder"

std::uint32_t checksum_of(std::string_view bytes) {
  if (bytes.empty()) return 0;  // crc32_z takes a null pointer as "give the initial value"
  return static_cast<std::uint32_t>(
      ::crc32_z(0, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()));
}

class Archive {
 public:
  explicit Archive(const MappedFile& file) : file_(file), zip_(file) {
    for (const ZipEntry& entry : zip_.entries()) {
      entries_[entry.name] = &entry;
      has_checksums_ = has_checksums_ || entry.crc != 0;
    }
    root_ = find_root();
    if (entries_.contains(root_ + "constants.pkl")) {
      throw DataError(file_.path().string(), zip_kind(zip_.entries()));
    }
  }

  const ZipEntry* find(const std::string& name) const {
    const auto found = entries_.find(root_ + name);
    return found == entries_.end() ? nullptr : found->second;
  }

  // Of an entry that is stored as it is.
  std::uint64_t begin(const ZipEntry& entry) const {
    const std::uint64_t offset = zip_.data_offset(entry);
    if (entry.deflated) {
      throw DataError(at_byte(file_.path(), offset),
                      "entry '" + shown(entry.name) +
                          "' is compressed; PyTorch stores entries as "
                          "they are");
    }
    return offset;
  }

  // Nothing where torch.save was told to leave checksums out (set_crc32_options): all are 0 then.
  std::optional<std::uint32_t> checksum(const ZipEntry& entry) const {
    return has_checksums_ ? std::optional(entry.crc) : std::nullopt;
  }

  // A small entry's bytes, compared with its checksum.
  std::string_view checked(const ZipEntry& entry) const {
    const std::string_view bytes = file_.view(begin(entry), entry.size);
    if (has_checksums_ && checksum_of(bytes) != entry.crc) {
      throw DataError(
          at_byte(file_.path(), begin(entry)),
          "entry '" + shown(entry.name) + "': its checksum is wrong: the data are damaged");
    }
    return bytes;
  }

 private:
  std::string find_root() const {
    const std::string pickle = "/data.pkl";
    std::string root, others;
    for (const auto& [name, entry] : entries_) {
      if (name.ends_with(pickle)) {
        if (!root.empty()) throw DataError(file_.path().string(), "holds two entries data.pkl");
        root = name.substr(0, name.size() - pickle.size() + 1);
      } else if (others.size() < 60) {
        others += (others.empty() ? "" : ", ") + shown(name, 30);
      }
    }
    const std::string kind = zip_kind(zip_.entries());
    if (root.empty() && !kind.empty()) {
      throw DataError(file_.path().string(), kind.find(':') == std::string::npos
                                                 ? kind + ", not a checkpoint; it holds " + others
                                                 : kind);
    }
    if (root.empty()) {
      throw DataError(file_.path().string(),
                      "a zip archive, but none of PyTorch's: no data.pkl; it "
                      "holds " +
                          (others.empty() ? "nothing" : others));
    }
    return root;
  }

  const MappedFile& file_;
  ZipReader zip_;
  bool has_checksums_ = false;
  std::map<std::string, const ZipEntry*> entries_;
  std::string root_;
};

// The next pickle of a stream; `at` goes behind it.
pickle::Pickle next_pickle(const MappedFile& file, std::uint64_t& at, const std::string& name) {
  pickle::Pickle pickle(file, at, file.size(), name);
  at = pickle.end();
  return pickle;
}

const pickle::Node* entry_of(const pickle::Pickle& pickle, std::string_view key) {
  const auto& items = pickle.root().items;
  for (std::size_t i = 0; pickle.root().kind == pickle::Kind::dict && i < items.size(); i += 2) {
    if (pickle.at(items[i]).data == key) return &pickle.at(items[i + 1]);
  }
  return nullptr;
}

// A damaged header can put an entry onto another one, whose checksum would then be taken for its
// own.
void refuse_overlaps(const MappedFile& file, std::vector<StoredBytes> parts) {
  std::erase_if(parts, [](const StoredBytes& part) { return part.bytes == 0; });
  std::sort(parts.begin(), parts.end(),
            [](const StoredBytes& a, const StoredBytes& b) { return a.offset < b.offset; });
  for (std::size_t i = 1; i < parts.size(); ++i) {
    if (parts[i].offset - parts[i - 1].offset < parts[i - 1].bytes) {
      throw DataError(
          at_byte(file.path(), parts[i].offset),
          "the entries '" + parts[i - 1].name + "' and '" + parts[i].name + "' overlap");
    }
  }
}

}  // namespace

TensorFile parse_torch_zip(const MappedFile& file) {
  const Archive archive(file);
  TensorFile out{.format = "torch zip"};
  if (const ZipEntry* order = archive.find("byteorder")) {
    const std::string_view text = order->size > kSmallEntry ? "" : archive.checked(*order);
    if (text != "little" && text != "big") {
      throw DataError(at_byte(file.path(), archive.begin(*order)),
                      "the byte order is '" + shown(text) + "', expected little or big");
    }
    out.big_endian = text == "big";
  }
  const ZipEntry& objects = *archive.find("data.pkl");
  archive.checked(objects);
  const std::uint64_t begin = archive.begin(objects);
  const pickle::Pickle pickle(file, begin, begin + objects.size, shown(objects.name));
  if (pickle.end() != begin + objects.size) {
    throw DataError(at_byte(file.path(), pickle.end()), "bytes follow the pickle's end");
  }

  std::map<std::string_view, std::size_t> index;
  for (const auto& [key, storage] : storages_of(pickle)) {
    const ZipEntry* entry = archive.find("data/" + std::string(key));
    if (!entry) {
      throw DataError(file.path().string(), "has no entry for the storage '" + shown(key) + "'");
    }
    const std::uint64_t offset = archive.begin(*entry);
    if (entry->size != storage.bytes()) {
      throw DataError(at_byte(file.path(), offset),
                      "entry '" + shown(entry->name) + "' has " + std::to_string(entry->size) +
                          " bytes, but its storage takes " + std::to_string(storage.bytes()));
    }
    index[key] = out.storages.size();
    out.storages.push_back({offset, entry->size, archive.checksum(*entry), shown(entry->name)});
  }
  refuse_overlaps(file, out.storages);
  read_objects(pickle, index, out);
  return out;
}

// Five pickles (magic number, version, system, object, keys of the storages in their order), then
// for each storage its count of items (int64) and its bytes.
TensorFile parse_torch_legacy(const MappedFile& file) {
  TensorFile out{.format = "torch legacy"};
  std::uint64_t at = 0;
  const auto magic = next_pickle(file, at, "magic number");
  constexpr std::string_view kMagic = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
  if (magic.root().kind != pickle::Kind::big_integer || magic.root().data != kMagic) {
    throw DataError(at_byte(file.path(), 0),
                    "a pickle, but not one that torch.save wrote: load it with pickle "
                    "and write it with torch.save");
  }
  const auto version = next_pickle(file, at, "version");
  constexpr std::int64_t kVersion = 1001;
  if (version.root().kind != pickle::Kind::integer || version.root().number != kVersion) {
    throw DataError(version.where(version.root()), "a version of PyTorch's format other than 1001");
  }
  const auto system = next_pickle(file, at, "system");
  const pickle::Node* little = entry_of(system, "little_endian");
  out.big_endian = little && little->kind == pickle::Kind::boolean && little->number == 0;

  const auto object = next_pickle(file, at, "objects");
  const auto storages = storages_of(object);
  const auto keys = next_pickle(file, at, "storage keys");
  if (keys.root().kind != pickle::Kind::list) {
    throw DataError(keys.where(keys.root()), "the storages' keys are no list");
  }
  std::map<std::string_view, std::size_t> index;
  for (const pickle::Ref ref : keys.root().items) {
    const pickle::Node& key = keys.at(ref);
    const auto storage = storages.find(key.data);
    if (key.kind != pickle::Kind::text || storage == storages.end() || index.contains(key.data)) {
      throw DataError(keys.where(key), "the storage '" + shown(key.data) +
                                           "' stands there twice or belongs to no tensor");
    }
    std::string count_bytes = file.read(at, sizeof(std::uint64_t));
    if (out.big_endian) std::reverse(count_bytes.begin(), count_bytes.end());
    if (little_endian<std::uint64_t>(count_bytes.data()) != storage->second.items) {
      throw DataError(at_byte(file.path(), at),
                      "the storage '" + shown(key.data) + "' has " +
                          std::to_string(little_endian<std::uint64_t>(count_bytes.data())) +
                          " items, expected " + std::to_string(storage->second.items));
    }
    at += sizeof(std::uint64_t);
    const std::uint64_t bytes = storage->second.bytes();
    file.view(at, bytes);  // throws where they are not there
    index[key.data] = out.storages.size();
    out.storages.push_back({at, bytes, std::nullopt, "storage " + shown(key.data)});
    at += bytes;
  }
  for (const auto& [key, storage] : storages) {
    if (!index.contains(key)) {
      throw DataError(file.path().string(),
                      "the bytes of the storage '" + shown(key) + "' are not in the file");
    }
  }
  if (at != file.size()) {
    throw DataError(at_byte(file.path(), at), "bytes follow the last storage");
  }
  read_objects(object, index, out);
  return out;
}

}  // namespace dkdm::io

#include "record/artifact_store.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <set>

#include "dkdm/files.hpp"
#include "dkdm/store_error.hpp"
#include "io/atomic_file.hpp"
#include "log/log.hpp"

namespace dkdm::record {
namespace {

namespace fs = std::filesystem;

void create_folders(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    throw StoreError(folder.string() + ": cannot create the folder: " + error.message() +
                     "; set DKDM_HOME to a folder that can be written");
}

std::vector<ManifestFile> described(const fs::path& folder, const std::vector<std::string>& names) {
  std::vector<ManifestFile> files;
  for (const auto& name : names)
    files.push_back(
        {name, std::int64_t(fs::file_size(folder / name)), io::sha256_file(folder / name)});
  return files;
}

// What a plugin left in its folder; names that begin with a dot are temporary files, its own or the
// file system's. A link would make the artifact depend on what lies outside of it.
std::vector<std::string> files_left(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const auto name = fs::relative(entry.path(), folder).string();
    if (entry.is_symlink()) throw Error(name + " is a link; a stage's output is files of its own");
    const bool temporary =
        entry.path().filename().string().starts_with('.') || entry.path().extension() == ".damaged";
    if (entry.is_regular_file() && name != kManifestFile && !temporary) names.push_back(name);
  }
  return names;
}

// Leaves exactly `names` in `folder`.
void keep_only(const fs::path& folder, const std::vector<std::string>& names) {
  std::vector<fs::path> strangers;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_directory() && !entry.is_symlink()) continue;
    if (!std::binary_search(names.begin(), names.end(),
                            fs::relative(entry.path(), folder).string()))
      strangers.push_back(entry.path());
  }
  for (const auto& path : strangers) {
    std::error_code error;
    if (!fs::remove(path, error) || error)
      throw StoreError(path.string() + ": does not belong to the artifact and cannot be removed: " +
                       error.message());
  }
}

// The manifest of the artifact that was published in `folder`, or why there is none: `damage`, "" =
// it is whole, as far as sizes show.
std::optional<Manifest> whole_manifest(const fs::path& folder, const std::string& stage,
                                       const std::string& key, std::string& damage) {
  std::error_code error;
  auto manifest = read_manifest(folder / kManifestFile);
  if (!fs::exists(folder / kManifestFile, error)) damage = "is missing";
  else if (!manifest) damage = "is not a manifest";
  else if (manifest->stage != stage || manifest->key != key) damage = "is of another artifact";
  if (!damage.empty()) damage = std::string(kManifestFile) + ' ' + damage;
  else damage = damage_of(folder, *manifest, false);
  return manifest;
}

// Completes `manifest` by what lies in `folder` and puts it there.
void seal(const fs::path& folder, Manifest& manifest) {
  auto& names = manifest.outputs;
  if (names.empty()) names = files_left(folder);
  std::sort(names.begin(), names.end());
  for (const auto& name : names)
    if (!fs::is_regular_file(fs::symlink_status(folder / name)))
      throw Error("made no " + name + ", which is part of its output");
  keep_only(folder, names);
  manifest.files = described(folder, names);
  std::string digest;
  manifest.bytes = 0;
  for (const auto& file : manifest.files) {
    manifest.bytes += file.bytes;
    digest += file.name + ' ' + file.sha256 + '\n';
  }
  manifest.sha256 = io::sha256(digest);
  write_manifest(folder / kManifestFile, manifest);
}

// Throws unless an artifact can be put at `published`: told before the work, not after days of it.
void require_room(const fs::path& published) {
  create_folders(published.parent_path());
  if (::access(published.parent_path().c_str(), W_OK | X_OK) != 0)
    throw StoreError(published.parent_path().string() +
                     ": cannot be written: " + std::strerror(errno) +
                     "; correct its permissions or set DKDM_HOME to another folder");
  if (fs::exists(fs::symlink_status(published)))
    throw StoreError(published.string() +
                     ": is damaged and cannot be set aside; move it away or remove it");
}

// The artifact that `folder` is or is a folder of, and the names of `files` in it.
std::optional<fs::path> artifact_of(const fs::path& folder, std::vector<std::string>& files) {
  if (fs::exists(folder / kManifestFile)) return folder;
  const auto real = fs::absolute(folder).lexically_normal();
  const auto parent = real.has_filename() ? real.parent_path() : real.parent_path().parent_path();
  if (!fs::exists(parent / kManifestFile)) return std::nullopt;
  for (auto& file : files) file = (fs::relative(real, parent) / file).string();
  return parent;
}

// Files that were read and found right, as they were then: device, inode, size, time of the last
// change.
class KnownFiles {
 public:
  bool contains(const fs::path& file) {
    const std::scoped_lock lock(mutex_);
    return known_.contains(identity(file));
  }
  void add(const fs::path& file) {
    const std::scoped_lock lock(mutex_);
    known_.insert(identity(file));
  }

 private:
  using Identity = std::array<std::int64_t, 5>;
  static Identity identity(const fs::path& file) {
    struct stat now{};
    if (::stat(file.c_str(), &now) != 0) return {};
    return {std::int64_t(now.st_dev), std::int64_t(now.st_ino), now.st_size, now.st_mtim.tv_sec,
            now.st_mtim.tv_nsec};
  }

  std::mutex mutex_;
  std::set<Identity> known_;
};

}  // namespace

ArtifactStore::ArtifactStore(const fs::path& root) : root_(fs::absolute(root)) {
  create_folders(root_ / "artifacts");
  create_folders(root_ / "work");
}

fs::path ArtifactStore::path(const std::string& stage, const std::string& key) const {
  return root_ / "artifacts" / stage / key;
}

std::optional<Manifest> ArtifactStore::find(const std::string& stage,
                                            const std::string& key) const {
  const auto folder = path(stage, key);
  std::error_code error;
  if (!fs::exists(folder, error)) return std::nullopt;
  std::string damage;
  const auto manifest = whole_manifest(folder, stage, key, damage);
  if (damage.empty()) return manifest;
  const fs::path aside = folder.string() + ".damaged";
  fs::remove_all(aside, error);
  fs::rename(folder, aside, error);
  if (!error)
    log::warn("store", folder.string() + " is damaged: " + damage + "; set aside as " +
                           aside.filename().string() + ", to be made again when it is needed");
  return std::nullopt;
}

void check_contents(const fs::path& folder, const std::vector<std::string>& files) {
  auto names = files;
  const auto artifact = artifact_of(folder, names);
  if (!artifact) return;
  const auto refuse = [&](const std::string& file, const std::string& why) {
    throw DataError((*artifact / file).string(), why + "; restore a copy, or remove the folder " +
                                                     artifact->string() +
                                                     " and the next run makes it again");
  };
  static KnownFiles known;
  const auto manifest = read_manifest(*artifact / kManifestFile);
  if (!manifest) refuse(kManifestFile, "is not a manifest");
  for (const auto& file : manifest->files) {
    if (!names.empty() && std::find(names.begin(), names.end(), file.name) == names.end()) continue;
    const auto path = *artifact / file.name;
    if (!fs::exists(path)) refuse(file.name, "is missing, though its manifest names it");
    if (known.contains(path)) continue;
    if (io::sha256_file(path) != file.sha256)
      refuse(file.name,
             "is damaged: its content is not the one that was published (SHA-256 differs "
             "from the manifest's)");
    known.add(path);
  }
}

bool ArtifactStore::has_partial_work(const std::string& stage, const std::string& key) const {
  const auto folder = root_ / "work" / stage / key;
  return fs::exists(folder) && !fs::is_empty(folder);
}

void ArtifactStore::retire(const std::string& stage, const std::string& key) {
  const auto folder = path(stage, key).string();
  for (int number = 1;; ++number) {
    const auto earlier = folder + ".earlier-" + std::to_string(number);
    if (fs::exists(earlier)) continue;
    std::error_code error;
    fs::rename(folder, earlier, error);
    if (error) throw StoreError(folder + ": cannot set the artifact aside: " + error.message());
    return;
  }
}

Manifest ArtifactStore::make(const std::string& stage, const std::string& key, Manifest manifest,
                             const std::function<void(const fs::path&, Manifest&)>& work,
                             const Waiting& waiting) {
  const auto working = root_ / "work" / stage / key;
  create_folders(working);
  const fs::path lock_file = working.string() + ".lock";
  const WorkLock lock(lock_file, waiting);
  if (auto made = find(stage, key)) return *made;
  const auto published = path(stage, key);
  require_room(published);
  create_folders(working);  // the process that held the lock may have published it and failed later
  io::remove_temporaries(working);

  manifest.stage = stage;
  manifest.key = key;
  work(working, manifest);
  seal(working, manifest);
  std::error_code error;
  fs::rename(working, published, error);
  if (error)
    throw StoreError(published.string() + ": cannot publish the artifact: " + error.message());
  fs::remove(lock_file, error);
  return manifest;
}

}  // namespace dkdm::record

#include "run/artifact_store.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <set>

#include "dkdm/documents.hpp"
#include "dkdm/io.hpp"
#include "dkdm/json.hpp"
#include "io/work_file.hpp"
#include "log/log.hpp"

namespace dkdm::run {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kManifest = "manifest.json";

void create_folders(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    throw StoreError(folder.string() + ": cannot create the folder: " + error.message() +
                     "; set DKDM_HOME to a folder that can be written");
}

Json described(const fs::path& folder, const std::vector<std::string>& names) {
  Json files = Json::array();
  for (const auto& name : names)
    files.push_back({{"name", name},
                     {"bytes", fs::file_size(folder / name)},
                     {"sha256", io::sha256_file(folder / name)}});
  return files;
}

// What a plugin left in its folder; names that begin with a dot are temporary files, its own or the file
// system's. A link would make the artifact depend on what lies outside of it.
std::vector<std::string> files_left(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const auto name = fs::relative(entry.path(), folder).string();
    if (entry.is_symlink()) throw Error(name + " is a link; a stage's output is files of its own");
    const bool temporary = entry.path().filename().string().starts_with('.') ||
                           entry.path().extension() == ".damaged";
    if (entry.is_regular_file() && name != kManifest && !temporary) names.push_back(name);
  }
  return names;
}

// Leaves exactly `names` in `folder`.
void keep_only(const fs::path& folder, const std::vector<std::string>& names) {
  std::vector<fs::path> strangers;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_directory() && !entry.is_symlink()) continue;
    if (!std::binary_search(names.begin(), names.end(), fs::relative(entry.path(), folder).string()))
      strangers.push_back(entry.path());
  }
  for (const auto& path : strangers) {
    std::error_code error;
    if (!fs::remove(path, error) || error)
      throw StoreError(path.string() + ": does not belong to the artifact and cannot be removed: " +
                       error.message());
  }
}

Json to_json(const Manifest& manifest, const Json& files) {
  Json parts = Json::object();
  for (const auto& [name, value] : manifest.parts) parts[name] = value;
  return {{"stage", manifest.stage},
          {"key", manifest.key},
          {"plugin", manifest.plugin},
          {"determined_by", parts},
          {"elapsed_s", manifest.elapsed_s},
          {"steps", manifest.steps},
          {"teacher_evaluations", manifest.teacher_evaluations},
          {"flops", manifest.flops ? Json(*manifest.flops) : Json()},
          {"peak_bytes", manifest.peak_bytes},
          {"bytes", manifest.bytes},
          {"sha256", manifest.sha256},
          {"files", files}};
}

Manifest from_json(const Json& json) {
  Manifest manifest;
  io::read_field(json, "stage", manifest.stage);
  io::read_field(json, "key", manifest.key);
  io::read_field(json, "plugin", manifest.plugin);
  for (const auto& [name, value] : json.at("determined_by").items())
    manifest.parts.emplace_back(name, io::as<std::string>(value));
  io::read_field(json, "elapsed_s", manifest.elapsed_s);
  io::read_field(json, "steps", manifest.steps);
  io::read_field(json, "teacher_evaluations", manifest.teacher_evaluations);
  // Artifacts of before FLOPs were counted do not have it.
  io::read_field(json, "flops", manifest.flops);
  io::read_field(json, "peak_bytes", manifest.peak_bytes);
  io::read_field(json, "bytes", manifest.bytes);
  io::read_field(json, "sha256", manifest.sha256);
  return manifest;
}

// Why the folder of an artifact is not what was published; "" = it is, as far as sizes show.
std::string damage_of(const fs::path& folder, const std::string& stage, const std::string& key,
                      Json& manifest) {
  std::error_code error;
  if (!fs::exists(folder / kManifest, error)) return std::string(kManifest) + " is missing";
  try {
    manifest = Json::parse(io::read_document(folder / kManifest));
    if (manifest.at("stage") != stage || manifest.at("key") != key)
      return std::string(kManifest) + " is of another artifact";
    for (const auto& file : manifest.at("files")) {
      const auto name = io::as<std::string>(file.at("name"));
      const auto bytes = fs::file_size(folder / name, error);
      if (error) return name + " is missing";
      if (bytes != io::as<std::uintmax_t>(file.at("bytes")))
        return name + " has " + std::to_string(bytes) + " bytes, its manifest says " +
               std::to_string(io::as<std::uintmax_t>(file.at("bytes")));
    }
    from_json(manifest);
  } catch (const Json::exception&) {
    return std::string(kManifest) + " is not a manifest";
  } catch (const DataError&) {
    if (::access((folder / kManifest).c_str(), R_OK) != 0) throw;  // somebody else's, as it seems
    return std::string(kManifest) + " is not a manifest";
  }
  return "";
}

// Completes `manifest` by what lies in `folder` and puts it there.
void seal(const fs::path& folder, Manifest& manifest) {
  if (manifest.files.empty()) manifest.files = files_left(folder);
  std::sort(manifest.files.begin(), manifest.files.end());
  for (const auto& name : manifest.files)
    if (!fs::is_regular_file(fs::symlink_status(folder / name)))
      throw Error("made no " + name + ", which is part of its output");
  keep_only(folder, manifest.files);
  const Json files = described(folder, manifest.files);
  std::string digest;
  manifest.bytes = 0;
  for (const auto& file : files) {
    manifest.bytes += io::as<std::int64_t>(file.at("bytes"));
    digest += io::as<std::string>(file.at("name")) + ' ' + io::as<std::string>(file.at("sha256")) + '\n';
  }
  manifest.sha256 = io::sha256(digest);
  io::write_text(folder / kManifest, to_json(manifest, files).dump(2) + "\n");
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
  if (fs::exists(folder / kManifest)) return folder;
  const auto real = fs::absolute(folder).lexically_normal();
  const auto parent = real.has_filename() ? real.parent_path() : real.parent_path().parent_path();
  if (!fs::exists(parent / kManifest)) return std::nullopt;
  for (auto& file : files) file = (fs::relative(real, parent) / file).string();
  return parent;
}

// Files that were read and found right, as they were then: device, inode, size, time of the last change.
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

void write_manifest(const fs::path& file, const Manifest& manifest) {
  io::write_text(file, to_json(manifest, Json::array()).dump(2) + "\n");
}

std::optional<Manifest> read_manifest(const fs::path& file) {
  if (!fs::exists(file)) return std::nullopt;
  try {
    return from_json(Json::parse(io::read_document(file)));
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

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
  Json json;
  const auto damage = damage_of(folder, stage, key, json);
  if (damage.empty()) return from_json(json);
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
    throw DataError((*artifact / file).string(),
                    why + "; restore a copy, or remove the folder " + artifact->string() +
                        " and the next run makes it again");
  };
  static KnownFiles known;
  try {
    const auto json = Json::parse(io::read_document(*artifact / kManifest));
    for (const auto& file : json.at("files")) {
      const auto name = io::as<std::string>(file.at("name"));
      if (!names.empty() && std::find(names.begin(), names.end(), name) == names.end()) continue;
      const auto path = *artifact / name;
      if (!fs::exists(path)) refuse(name, "is missing, though its manifest names it");
      if (known.contains(path)) continue;
      if (io::sha256_file(path) != io::as<std::string>(file.at("sha256")))
        refuse(name, "is damaged: its content is not the one that was published (SHA-256 differs "
                     "from the manifest's)");
      known.add(path);
    }
  } catch (const Json::exception&) {
    refuse(kManifest, "is not a manifest");
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

Manifest ArtifactStore::make(
    const std::string& stage, const std::string& key, Manifest manifest,
    const std::function<void(const fs::path&, Manifest&)>& work, const Waiting& waiting) {
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

}  // namespace dkdm::run

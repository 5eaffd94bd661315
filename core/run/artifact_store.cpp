#include "run/artifact_store.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>
#include <thread>

#include "dkdm/documents.hpp"
#include "dkdm/io.hpp"

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

Json files_of(const fs::path& folder) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file() && entry.path().filename() != kManifest)
      paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  Json files = Json::array();
  for (const auto& path : paths)
    files.push_back({{"name", fs::relative(path, folder).string()},
                     {"bytes", fs::file_size(path)},
                     {"sha256", io::sha256_file(path)}});
  return files;
}

bool is_whole(const fs::path& folder, const Json& json) {
  for (const auto& file : json.at("files")) {
    std::error_code error;
    const auto bytes = fs::file_size(folder / file.at("name").get<std::string>(), error);
    if (error || bytes != file.at("bytes").get<std::uintmax_t>()) return false;
  }
  return true;
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
  manifest.stage = json.at("stage");
  manifest.key = json.at("key");
  manifest.plugin = json.at("plugin");
  for (const auto& [name, value] : json.at("determined_by").items())
    manifest.parts.emplace_back(name, value.get<std::string>());
  manifest.elapsed_s = json.at("elapsed_s");
  manifest.steps = json.at("steps");
  manifest.teacher_evaluations = json.at("teacher_evaluations");
  // Artifacts of before FLOPs were counted do not have it.
  if (json.contains("flops") && !json.at("flops").is_null()) manifest.flops = json.at("flops");
  manifest.peak_bytes = json.at("peak_bytes");
  manifest.bytes = json.at("bytes");
  manifest.sha256 = json.at("sha256");
  return manifest;
}

// Completes `manifest` by what lies in `folder` and puts it there.
void seal(const fs::path& folder, Manifest& manifest) {
  const Json files = files_of(folder);
  std::string digest;
  manifest.bytes = 0;
  for (const auto& file : files) {
    manifest.bytes += file.at("bytes").get<std::int64_t>();
    digest += file.at("name").get<std::string>() + ' ' + file.at("sha256").get<std::string>() + '\n';
  }
  manifest.sha256 = io::sha256(digest);
  io::write_text(folder / kManifest, to_json(manifest, files).dump(2) + "\n");
}

// Holds an exclusive lock on a file for its lifetime.
class Lock {
 public:
  Lock(const fs::path& file, const std::function<void()>& waiting) {
    descriptor_ = ::open(file.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644);
    if (descriptor_ < 0)
      throw StoreError(file.string() + ": cannot open the lock: " + std::strerror(errno));
    while (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      waiting();
      std::this_thread::sleep_for(std::chrono::milliseconds(500));
    }
  }
  ~Lock() { ::close(descriptor_); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  int descriptor_ = -1;
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
  if (!fs::exists(folder / kManifest)) return std::nullopt;
  try {
    const auto json = Json::parse(io::read_document(folder / kManifest));
    if (is_whole(folder, json)) return from_json(json);
  } catch (const DataError&) {
  } catch (const Json::exception&) {
    // An unreadable manifest is a damaged artifact like any other.
  }
  std::error_code ignored;
  fs::remove_all(folder.string() + ".damaged", ignored);
  fs::rename(folder, folder.string() + ".damaged", ignored);
  return std::nullopt;
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
    const std::function<void(const fs::path&, Manifest&)>& work,
    const std::function<void()>& waiting) {
  const auto working = root_ / "work" / stage / key;
  create_folders(working);
  const fs::path lock_file = working.string() + ".lock";
  const Lock lock(lock_file, waiting);
  if (auto made = find(stage, key)) return *made;
  create_folders(working);  // the process that held the lock may have published it and failed later

  work(working, manifest);
  manifest.stage = stage;
  manifest.key = key;
  seal(working, manifest);
  const auto published = path(stage, key);
  create_folders(published.parent_path());
  std::error_code error;
  fs::rename(working, published, error);
  if (error)
    throw StoreError(published.string() + ": cannot publish the artifact: " + error.message());
  fs::remove(lock_file, error);
  return manifest;
}

}  // namespace dkdm::run

#include "results/store/artifacts.hpp"

#include <unistd.h>

#include <algorithm>

#include "core/io/atomic_file.hpp"
#include "core/io/input_file.hpp"
#include "core/io/sha256.hpp"
#include "core/record/manifest.hpp"
#include "dkdm/error.hpp"
#include "dkdm/store_error.hpp"

namespace dkdm::results {
namespace {

namespace fs = std::filesystem;

// The hash of a file's bytes, handed piece by piece to `take` as well.
template <class Take>
std::string sha256_of(const fs::path& file, const Take& take) {
  const io::InputFile input(file);
  io::Sha256 digest;
  for (std::uint64_t at = 0; at < input.size();) {
    const auto piece = input.read(at, std::min<std::uint64_t>(input.size() - at, 1 << 20));
    digest.add(piece);
    take(piece);
    at += piece.size();
  }
  return digest.hexadecimal();
}

// One folder's name and no path.
bool is_name(const std::string& name) {
  return record::stays_below(name) && name.find('/') == std::string::npos;
}

// Nothing also of one that this user may not read.
std::optional<record::Manifest> manifest_of(const fs::path& file) {
  try {
    return record::read_manifest(file);
  } catch (const DataError&) {
    return std::nullopt;
  }
}

[[noreturn]] void fail_to_copy(const fs::path& to, const std::error_code& error) {
  throw StoreError(to.string() + ": the artifact cannot be copied: " + error.message());
}

}  // namespace

record::ArtifactRecord ArtifactFolder::record() const {
  return {key, kind, path, manifest->sha256, manifest->bytes};
}

record::StageRecord ArtifactFolder::stage(const std::string& name) const {
  record::StageRecord stage;
  stage.name = name;
  stage.key = key;
  stage.plugin = manifest->plugin;
  stage.status = record::StageStatus::cached;
  stage.elapsed_s = manifest->elapsed_s;
  stage.artifact = path;
  stage.bytes = manifest->bytes;
  stage.steps = manifest->steps;
  stage.teacher_evaluations = manifest->teacher_evaluations;
  stage.flops = manifest->flops;
  stage.teacher_s = manifest->teacher_s;
  stage.held_bytes = manifest->held_bytes;
  stage.peak_bytes = manifest->peak_bytes;
  stage.device_peak_bytes = manifest->device_peak_bytes;
  stage.graphs = manifest->graphs;
  stage.determined_by = manifest->parts;
  return stage;
}

std::optional<ArtifactFolder> find_artifact(const fs::path& root, const std::string& kind,
                                            const std::string& key) {
  const auto path = fs::path("artifacts") / kind / key;
  if (!is_name(kind) || !is_name(key)) return std::nullopt;
  std::error_code absent;
  if (!fs::is_directory(root / path, absent)) return std::nullopt;
  ArtifactFolder artifact;
  artifact.kind = kind;
  artifact.key = key;
  artifact.path = path.string();
  artifact.manifest = manifest_of(root / path / record::kManifestFile);
  return artifact;
}

std::optional<ArtifactFolder> find_streamed(const fs::path& root,
                                            const ArtifactFolder& evaluation) {
  ArtifactFolder samples;
  samples.manifest = manifest_of(root / evaluation.path / record::kSamplesManifest);
  if (!samples.manifest || !evaluation.manifest) return std::nullopt;
  for (const auto& [part, value] : evaluation.manifest->parts) {
    if (part == "samples") samples.key = value;
  }
  samples.kind = "sample";
  return samples;
}

std::vector<ArtifactFolder> list_artifacts(const fs::path& root) {
  std::vector<ArtifactFolder> artifacts;
  std::error_code absent;
  for (const auto& kind : fs::directory_iterator(root / "artifacts", absent)) {
    if (!kind.is_directory()) continue;
    for (const auto& entry : fs::directory_iterator(kind)) {
      const auto found = find_artifact(root, kind.path().filename(), entry.path().filename());
      if (found) artifacts.push_back(*found);
    }
  }
  std::sort(artifacts.begin(), artifacts.end(),
            [](const auto& a, const auto& b) { return a.path < b.path; });
  return artifacts;
}

std::string damage_of(const fs::path& root, const ArtifactFolder& artifact, bool hash) {
  if (!artifact.manifest) return "its manifest cannot be read";
  return record::damage_of(root / artifact.path, *artifact.manifest, hash);
}

void copy_artifact(const fs::path& from, const fs::path& to, const ArtifactFolder& artifact) {
  const auto target = to / artifact.path;
  const auto part = to / "work" / ("copy-" + std::to_string(getpid())) / artifact.key;
  std::error_code error;
  fs::remove_all(part, error);
  // Hashed while it is copied: the file that was looked at before may not be the one that is there.
  const auto copy = [&](const std::string& name) {
    fs::create_directories((part / name).parent_path(), error);
    if (error) fail_to_copy(part / name, error);
    io::AtomicFile output(part / name);
    auto hash = sha256_of(from / artifact.path / name,
                          [&](const std::string& piece) { output.write(piece); });
    output.commit();
    return hash;
  };
  for (const auto& file : artifact.manifest->files) {
    if (copy(file.name) == file.sha256) continue;
    throw StoreError((from / artifact.path / file.name).string() + ": changed while it was copied");
  }
  copy(record::kManifestFile);
  fs::create_directories(target.parent_path(), error);
  if (!error) fs::rename(part, target, error);
  if (error) fail_to_copy(target, error);
  fs::remove(part.parent_path(), error);
}

std::int64_t folder_bytes(const fs::path& folder) {
  std::int64_t bytes = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) bytes += static_cast<std::int64_t>(entry.file_size());
  }
  return bytes;
}

}  // namespace dkdm::results

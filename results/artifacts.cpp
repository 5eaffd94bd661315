#include "results/artifacts.hpp"

#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <limits>
#include <memory>

#include "core/io/atomic_file.hpp"
#include "core/io/input_file.hpp"
#include "dkdm/documents.hpp"
#include "dkdm/error.hpp"
#include "dkdm/json.hpp"

namespace dkdm::results {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr const char* kManifest = "manifest.json";

// The hash of a file's bytes, handed piece by piece to `take` as well.
template <class Take>
std::string sha256_of(const fs::path& file, const Take& take) {
  const io::InputFile input(file);
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(),
                                                                   EVP_MD_CTX_free);
  EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr);
  for (std::uint64_t at = 0; at < input.size();) {
    const auto piece = input.read(at, std::min<std::uint64_t>(input.size() - at, 1 << 20));
    EVP_DigestUpdate(context.get(), piece.data(), piece.size());
    take(piece);
    at += piece.size();
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int length = 0;
  EVP_DigestFinal_ex(context.get(), digest.data(), &length);
  std::string text;
  for (unsigned int i = 0; i < length; ++i) {
    std::array<char, 3> hex{};
    std::snprintf(hex.data(), hex.size(), "%02x", digest[i]);
    text += hex.data();
  }
  return text;
}

// One folder's name and no path.
bool is_name(const std::string& name) {
  return stays_below(name) && name.find('/') == std::string::npos;
}

void read_manifest(const fs::path& file, ArtifactFolder& artifact) {
  try {
    // Ordered: the parts of a key stand in the order of its hash.
    const auto json = nlohmann::ordered_json::parse(io::read_document(file));
    io::read_field(json, "plugin", artifact.plugin);
    io::read_field(json, "sha256", artifact.sha256);
    io::read_field(json, "bytes", artifact.bytes);
    io::read_field(json, "steps", artifact.steps);
    io::read_field(json, "teacher_evaluations", artifact.teacher_evaluations);
    io::read_field(json, "peak_bytes", artifact.peak_bytes);
    io::read_field(json, "elapsed_s", artifact.elapsed_s);
    io::read_field(json, "flops", artifact.flops);
    for (const auto& [part, value] : json.at("determined_by").items()) {
      artifact.determined_by.emplace_back(part, io::as<std::string>(value));
    }
    for (const auto& file : json.at("files")) {
      artifact.files.push_back({io::as<std::string>(file.at("name")), io::as<std::int64_t>(file.at("bytes")),
                                io::as<std::string>(file.at("sha256"))});
      if (!stays_below(artifact.files.back().name)) return;
    }
    artifact.whole = true;
  } catch (const DataError&) {
  } catch (const nlohmann::ordered_json::exception&) {
    // Not whole, like a folder without one.
  }
}

[[noreturn]] void fail_to_copy(const fs::path& to, const std::error_code& error) {
  throw StoreError(to.string() + ": the artifact cannot be copied: " + error.message());
}

}  // namespace

bool stays_below(const std::string& name) {
  const fs::path path(name);
  return !name.empty() && path.is_relative() && name.find('\0') == std::string::npos &&
         std::none_of(path.begin(), path.end(),
                      [](const fs::path& part) { return part == ".." || part == "."; });
}

run::StageRecord ArtifactFolder::stage(const std::string& name) const {
  run::StageRecord stage;
  stage.name = name;
  stage.key = key;
  stage.plugin = plugin;
  stage.status = run::StageStatus::cached;
  stage.elapsed_s = elapsed_s;
  stage.artifact = path;
  stage.bytes = bytes;
  stage.steps = steps;
  stage.teacher_evaluations = teacher_evaluations;
  stage.flops = flops;
  stage.peak_bytes = peak_bytes;
  stage.determined_by = determined_by;
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
  read_manifest(root / path / kManifest, artifact);
  return artifact;
}

std::optional<ArtifactFolder> find_streamed(const fs::path& root,
                                            const ArtifactFolder& evaluation) {
  const auto file = root / evaluation.path / "samples.json";
  ArtifactFolder samples;
  read_manifest(file, samples);
  if (!samples.whole) return std::nullopt;
  for (const auto& [part, value] : evaluation.determined_by) {
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
  if (!artifact.whole) return "its manifest cannot be read";
  for (const auto& file : artifact.files) {
    std::error_code error;
    const auto path = root / artifact.path / file.name;
    const auto bytes = fs::file_size(path, error);
    if (error) return file.name + " is missing";
    if (bytes != static_cast<std::uintmax_t>(file.bytes)) {
      return file.name + " has " + std::to_string(bytes) + " bytes, its manifest says " +
             std::to_string(file.bytes);
    }
    if (!hash) continue;
    try {
      if (sha256_of(path, [](const std::string&) {}) != file.sha256) {
        return file.name + " has another content";
      }
    } catch (const DataError& unreadable) {
      return unreadable.what();
    }
  }
  return "";
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
  for (const auto& file : artifact.files) {
    if (copy(file.name) == file.sha256) continue;
    throw StoreError((from / artifact.path / file.name).string() +
                     ": changed while it was copied");
  }
  copy(kManifest);
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

std::vector<run::MetricRecord> read_metrics(const fs::path& root, const ArtifactFolder& artifact) {
  std::vector<run::MetricRecord> metrics;
  try {
    for (const auto& json : Json::parse(io::read_document(root / artifact.path / "metrics.json"))) {
      auto& metric = metrics.emplace_back();
      io::read_field(json, "name", metric.name);
      const auto& value = json.at("value");
      metric.value = value.is_null() ? std::numeric_limits<double>::quiet_NaN() : io::as<double>(value);
      io::read_field(json, "higher_is_better", metric.higher_is_better);
      io::read_field(json, "unit", metric.unit);
      io::read_field(json, "protocol", metric.protocol);
      io::read_field(json, "reference", metric.reference);
      io::read_field(json, "sample_count", metric.sample_count);
      io::read_field(json, "step", metric.step);
      io::read_field(json, "weights", metric.weights);
    }
  } catch (const DataError&) {
  } catch (const Json::exception&) {
    metrics.clear();
  }
  return metrics;
}

}  // namespace dkdm::results

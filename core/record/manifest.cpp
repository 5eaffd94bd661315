#include "record/manifest.hpp"

#include <unistd.h>

#include <algorithm>

#include "dkdm/documents.hpp"
#include "dkdm/files.hpp"
#include "dkdm/json.hpp"

namespace dkdm::record {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;  // the parts of a key stand in the order of its hash

Json to_json(const Manifest& manifest) {
  Json parts = Json::object(), files = Json::array();
  for (const auto& [name, value] : manifest.parts) parts[name] = value;
  for (const auto& file : manifest.files)
    files.push_back({{"name", file.name}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  return {{"stage", manifest.stage},
          {"key", manifest.key},
          {"plugin", manifest.plugin},
          {"determined_by", parts},
          {"elapsed_s", manifest.elapsed_s},
          {"steps", manifest.steps},
          {"teacher_evaluations", manifest.teacher_evaluations},
          {"flops", manifest.flops ? Json(*manifest.flops) : Json()},
          {"teacher_s", manifest.teacher_s ? Json(*manifest.teacher_s) : Json()},
          {"held_bytes", manifest.held_bytes ? Json(*manifest.held_bytes) : Json()},
          {"peak_bytes", manifest.peak_bytes},
          {"device_peak_bytes",
           manifest.device_peak_bytes ? Json(*manifest.device_peak_bytes) : Json()},
          {"graphs", manifest.graphs},
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
  // Artifacts of before these were counted do not have them.
  io::read_field(json, "flops", manifest.flops);
  io::read_field(json, "teacher_s", manifest.teacher_s);
  io::read_field(json, "held_bytes", manifest.held_bytes);
  io::read_field(json, "device_peak_bytes", manifest.device_peak_bytes);
  if (json.contains("graphs")) io::read_field(json, "graphs", manifest.graphs);
  io::read_field(json, "peak_bytes", manifest.peak_bytes);
  io::read_field(json, "bytes", manifest.bytes);
  io::read_field(json, "sha256", manifest.sha256);
  for (const auto& file : json.at("files"))
    manifest.files.push_back({io::as<std::string>(file.at("name")),
                              io::as<std::int64_t>(file.at("bytes")),
                              io::as<std::string>(file.at("sha256"))});
  return manifest;
}

}  // namespace

void write_manifest(const fs::path& file, const Manifest& manifest) {
  io::write_text(file, to_json(manifest).dump(2) + "\n");
}

std::optional<Manifest> read_manifest(const fs::path& file) {
  std::error_code absent;
  if (!fs::exists(file, absent)) return std::nullopt;
  try {
    auto manifest = from_json(Json::parse(io::read_document(file)));
    const bool below = std::all_of(manifest.files.begin(), manifest.files.end(),
                                   [](const auto& entry) { return stays_below(entry.name); });
    if (below) return manifest;
  } catch (const Json::exception&) {
  } catch (const DataError&) {
    if (::access(file.c_str(), R_OK) != 0) throw;  // somebody else's, as it seems
  }
  return std::nullopt;
}

bool stays_below(const std::string& name) {
  const fs::path path(name);
  return !name.empty() && path.is_relative() && name.find('\0') == std::string::npos &&
         std::none_of(path.begin(), path.end(),
                      [](const fs::path& part) { return part == ".." || part == "."; });
}

std::string damage_of(const fs::path& folder, const Manifest& manifest, bool hash) {
  for (const auto& file : manifest.files) {
    std::error_code error;
    const auto path = folder / file.name;
    const auto bytes = fs::file_size(path, error);
    if (error) return file.name + " is missing";
    if (bytes != static_cast<std::uintmax_t>(file.bytes))
      return file.name + " has " + std::to_string(bytes) + " bytes, its manifest says " +
             std::to_string(file.bytes);
    if (!hash) continue;
    try {
      if (io::sha256_file(path) != file.sha256) return file.name + " has another content";
    } catch (const DataError& unreadable) {
      return unreadable.what();
    }
  }
  return "";
}

}  // namespace dkdm::record

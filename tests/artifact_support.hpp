// Artifact folders for the tests of results/, as core/run/artifact_store publishes them.
#pragma once

#include <openssl/sha.h>

#include <array>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "dkdm/files.hpp"
#include "results_support.hpp"

namespace dkdm::results::testing {

using Parts = std::vector<std::pair<std::string, std::string>>;

inline std::string sha256(const std::string& bytes) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest.data());
  std::string text;
  for (const auto byte : digest) {
    char hex[3];
    std::snprintf(hex, sizeof hex, "%02x", byte);
    text += hex;
  }
  return text;
}

// Writes <root>/artifacts/<kind>/<key> with `files` (name, content); returns its hash.
inline std::string add_artifact(const std::filesystem::path& root, const std::string& kind,
                                const std::string& key,
                                const std::map<std::string, std::string>& files,
                                const Parts& determined_by = {}) {
  const auto folder = root / "artifacts" / kind / key;
  nlohmann::ordered_json list = nlohmann::ordered_json::array(), parts;
  std::string digest;
  std::size_t bytes = 0;
  std::filesystem::create_directories(folder);
  for (const auto& [name, content] : files) {
    std::filesystem::create_directories((folder / name).parent_path());
    write_file(folder / name, content);
    list.push_back({{"name", name}, {"bytes", content.size()}, {"sha256", sha256(content)}});
    digest += name + ' ' + sha256(content) + '\n';
    bytes += content.size();
  }
  for (const auto& [part, value] : determined_by) parts[part] = value;
  if (parts.is_null()) parts = nlohmann::ordered_json::object();
  const nlohmann::ordered_json manifest = {{"stage", kind},
                                           {"key", key},
                                           {"plugin", "p"},
                                           {"determined_by", parts},
                                           {"elapsed_s", 60.0},
                                           {"steps", 100},
                                           {"teacher_evaluations", 6400},
                                           {"peak_bytes", 1 << 20},
                                           {"bytes", bytes},
                                           {"sha256", sha256(digest)},
                                           {"files", list}};
  write_file(folder / "manifest.json", manifest.dump(2));
  return sha256(digest);
}

// metrics.json of an evaluation.
inline std::string metrics_json(double fid) {
  return nlohmann::json::array({{{"name", "fid"},
                                 {"value", fid},
                                 {"higher_is_better", false},
                                 {"unit", ""},
                                 {"protocol", "classifier-1a2b"},
                                 {"reference", "reference-7"},
                                 {"sample_count", 512},
                                 {"step", 100},
                                 {"weights", "ema"}}})
      .dump();
}

// A finished run "train", "sample", "evaluate" with its artifacts on disk and on record, as the
// program leaves it. `weights` is what the trained network's file holds.
inline std::int64_t add_made(Store& store, const std::filesystem::path& root,
                             const std::string& row, std::int64_t seed, double fid,
                             const std::string& weights = "w") {
  auto run = a_run(row, seed);
  const auto tail = row + std::to_string(seed);
  run.key = "evaluate" + tail;
  const auto id = store.begin_run(run, an_environment(), {{"student", "adm-unet", "1", "", ""}});
  const std::vector<std::pair<std::string, Parts>> stages = {
      {"train", {{"stage", "train"}, {"train", "lr = 0.001\nsteps = 100\n"}, {"seed", tail}}},
      {"sample", {{"stage", "samples"}, {"network", "train" + tail}}},
      {"evaluate", {{"stage", "evaluate"}, {"samples", "sample" + tail}}}};
  for (const auto& [name, parts] : stages) {
    const auto content = name == "evaluate" ? metrics_json(fid) : weights + tail;
    const auto file = name == "evaluate" ? "metrics.json" : "deep/data.bin";
    const auto hash = add_artifact(root, name, name + tail, {{file, content}}, parts);
    record::StageRecord stage;
    stage.name = name;
    stage.key = name + tail;
    stage.started = 1000;
    stage.elapsed_s = 60;
    stage.steps = 100;
    stage.artifact = "artifacts/" + name + "/" + name + tail;
    stage.determined_by = parts;
    store.record_stage(id, stage);
    store.record_artifact(
        {name + tail, name, stage.artifact, hash, static_cast<std::int64_t>(content.size())});
  }
  store.record_curves("train" + tail, {{"loss", 1, 1.0}, {"loss", 2, fid}});
  store.record_metrics(id, {a_metric("fid", fid)});
  store.end_run(id, "done", "", "");
  return id;
}

}  // namespace dkdm::results::testing

// Records and folders for the tests of results/.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "results/store/store.hpp"

namespace dkdm::results::testing {

// A folder of its own, removed at the end.
class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "dkdm-results-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline record::RunRecord a_run(const std::string& row, std::int64_t seed = 0) {
  record::RunRecord run;
  run.key = "key-" + row + "-" + std::to_string(seed);
  run.experiment = "desk";
  run.title = "Desk table";
  run.table = "table2";
  run.published_section = "table2.cifar10";
  run.published_row = row;
  run.scale = "desk";
  run.file = "desk.toml";
  run.row = row;
  run.label = "The " + row;
  run.seed = seed;
  run.method = row == "teacher" ? "" : row;
  run.student = "adm-unet";
  run.config = "[train]\nsteps = 100\nlr = 0.001\n";
  run.parameters = 350'000;
  return run;
}

inline record::EnvironmentRecord an_environment() {
  record::EnvironmentRecord environment;
  environment.host = "desk";
  environment.cpu = "two slow cores";
  environment.cores = 2;
  environment.threads = 2;
  environment.threads_reason = "OMP_NUM_THREADS=2";
  return environment;
}

// A machine with a GPU, on which its networks compute.
inline record::EnvironmentRecord a_gpu_environment() {
  auto environment = an_environment();
  environment.host = "cluster-3";
  environment.cpu = "many cores";
  environment.gpu = "NVIDIA H200";
  environment.device = "cuda:0";
  environment.driver = "570.86";
  return environment;
}

inline record::MetricRecord a_metric(const std::string& name, double value,
                                     const std::string& protocol = "classifier-1a2b",
                                     std::int64_t sample_count = 512) {
  record::MetricRecord metric;
  metric.name = name;
  metric.value = value;
  metric.higher_is_better = name == "is";
  metric.protocol = protocol;
  metric.reference = "reference-7";
  metric.sample_count = sample_count;
  metric.weights = "ema";
  return metric;
}

// A finished run with a training stage and `metrics`; returns its id.
inline std::int64_t add_finished(Store& store, const record::RunRecord& run,
                                 const std::vector<record::MetricRecord>& metrics,
                                 double train_seconds = 120) {
  const auto id = store.begin_run(run, an_environment(), {{"student", "adm-unet", "1", "", ""}});
  record::StageRecord train;
  train.name = run.method.empty() ? "teacher" : "train";
  train.key = "stage-" + run.key;
  train.elapsed_s = train_seconds;
  store.record_stage(id, train);
  store.record_metrics(id, metrics);
  store.end_run(id, "done", "", "");
  return id;
}

inline void write_file(const std::filesystem::path& file, const std::string& content) {
  std::ofstream(file, std::ios::binary) << content;
}

inline std::string read_file(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace dkdm::results::testing

#include "cli/worker_report.hpp"

#include <cstdio>

namespace dkdm::cli {

std::vector<std::string> fields(const std::string& line) {
  std::vector<std::string> parts;
  std::size_t start = 0;
  for (auto end = line.find('\t'); end != std::string::npos; end = line.find('\t', start)) {
    parts.push_back(line.substr(start, end - start));
    start = end + 1;
  }
  parts.push_back(line.substr(start));
  return parts;
}

bool WorkerReport::take(const std::string& line) {
  const auto parts = fields(line);
  if (parts[0] == "run" && parts.size() == 4) {
    *this = {std::stoll(parts[1]), parts[3], std::stoll(parts[2]), {}, "", false};
  } else if (parts[0] == "stage" && parts.size() == 4) {
    stage = {};
    stage.name = parts[1];
    stage.key = parts[2];
    stage.plugin = parts[3];
  } else if (parts[0] == "end") {
    run.reset();
  } else {
    return false;
  }
  return true;
}

void record_death(results::Store& store, const WorkerReport& report, const std::string& message) {
  if (!report.stage.name.empty()) {
    record::StageRecord stage = report.stage;
    stage.status = record::StageStatus::failed;
    stage.error = message;
    store.record_stage(*report.run, stage);
  }
  store.end_run(*report.run, "failed", report.stage.name, message);
  std::fprintf(stderr, "failed: %s, seed %lld, %s: %s\n", report.row.c_str(),
               static_cast<long long>(report.seed), report.stage.name.c_str(), message.c_str());
}

}  // namespace dkdm::cli

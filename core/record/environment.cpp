#include "record/environment.hpp"

#include <sys/utsname.h>
#include <unistd.h>

#include <torch/version.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include "record/threads.hpp"

namespace dkdm::record {
namespace {

std::string first_field(const std::string& file, const std::string& name) {
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);)
    if (line.starts_with(name))
      if (const auto colon = line.find(':'); colon != std::string::npos) {
        const auto start = line.find_first_not_of(" \t", colon + 1);
        return start == std::string::npos ? "" : line.substr(start);
      }
  return "";
}

// The instruction sets that decide how fast a convolution is.
std::string relevant_features() {
  static const std::set<std::string> kRelevant = {
      "avx",         "avx2",     "fma",      "f16c",     "avx512f",     "avx512bw", "avx512vl",
      "avx512_vnni", "amx_bf16", "amx_int8", "amx_tile", "avx512_bf16", "avx_vnni"};
  std::istringstream flags(first_field("/proc/cpuinfo", "flags"));
  std::string text;
  for (std::string flag; flags >> flag;)
    if (kRelevant.contains(flag)) text += (text.empty() ? "" : " ") + flag;
  return text;
}

std::string output_of(const std::string& command) {
  std::string text;
  if (FILE* pipe = ::popen(("{ " + command + "; } 2>/dev/null").c_str(), "r")) {
    std::array<char, 256> buffer;
    while (std::fgets(buffer.data(), buffer.size(), pipe)) text += buffer.data();
    ::pclose(pipe);
  }
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace

EnvironmentRecord current_environment() {
  EnvironmentRecord record;
  utsname system{};
  ::uname(&system);
  record.host = system.nodename;
  record.os = std::string(system.sysname) + ' ' + system.release;
  record.cpu = first_field("/proc/cpuinfo", "model name");
  record.cpu_features = relevant_features();
  record.gpu = output_of("nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1");
  record.libtorch = TORCH_VERSION;
  record.compiler = "g++ " __VERSION__;
  record.dkdm_version = DKDM_VERSION;
  const std::string git = "git -C '" DKDM_SOURCE_DIR "' ";
  record.git_revision = output_of(git + "rev-parse HEAD");
  record.git_dirty = !output_of(git + "status --porcelain --untracked-files=no").empty();
  record.cores = std::thread::hardware_concurrency();
  record.threads = working_threads();
  record.threads_reason = reason_for_threads(record.threads, record.cores,
                                             [](const char* name) { return std::getenv(name); });
  record.memory_bytes = std::int64_t(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGE_SIZE);
  return record;
}

std::int64_t peak_resident_bytes() {
  // Not of getrusage: this is the one that clear_refs restarts.
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::strtoll(line.c_str() + 6, nullptr, 10) * 1024;
  return 0;
}

void restart_peak_resident() {
  std::ofstream clear("/proc/self/clear_refs");
  clear << '5' << std::flush;
}

}  // namespace dkdm::record

// Which process this is, so that a living one can be told from one that is gone: from /proc
// (proc(5)). Header alone: results/ uses it and does not link the core.
#pragma once

#include <unistd.h>

#include <array>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>

namespace dkdm::record {

inline std::string host_name() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) return "unknown";
  return name.data();
}

// Boot id and start time of process `pid` on this host; "" when there is no such process (or only
// its unreaped exit status). A pid that was given to another process has another token.
inline std::string process_token(std::int64_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  if (!std::getline(stat, text)) return "";
  // The second field, the program's name in brackets, may hold anything: count from the last ')'.
  const auto bracket = text.rfind(')');
  if (bracket == std::string::npos) return "";
  std::istringstream fields(text.substr(bracket + 1));
  std::string state, field;
  fields >> state;
  if (state == "Z" || state == "X") return "";
  constexpr int kStartTime = 22;
  for (int i = 4; i <= kStartTime; ++i) fields >> field;
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  return boot + "/" + field;
}

}  // namespace dkdm::record

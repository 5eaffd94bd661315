#include "run/device_memory.hpp"

#include "device/choice.hpp"
#include "dkdm/memory.hpp"
#include "run/footprint.hpp"

namespace dkdm::run {

DeviceMemory memory_of(at::Device device) {
  if (device.is_cpu()) return {static_cast<double>(machine_memory()), "this machine", ""};
  const auto about = device::describe(device);
  return {static_cast<double>(about.memory_bytes), device.str(), about.name};
}

DeviceMemory stated_memory(double gigabytes) {
  constexpr double kGB = 1e9;
  return {gigabytes * kGB, "the device", "--device-memory"};
}

std::string shortfall(const stages::Stage& stage, const DeviceMemory& memory) {
  const auto& footprint = stage.footprint;
  // A comparison with what is unknown is false.
  if (memory.bytes <= 0 || !(footprint.memory() > memory.bytes)) return "";
  std::string text = stage.label + " needs " + size_text(footprint.memory()) + ", " + memory.owner +
                     " has " + size_text(memory.bytes);
  if (!memory.about.empty()) text += " (" + memory.about + ")";
  const double networks = footprint.parts.networks();
  if (networks > memory.bytes)
    return text + ": its networks alone take " + size_text(networks) + ": fewer or narrower layers";
  return text + (footprint.remedy.empty() ? "" : ": " + footprint.remedy);
}

}  // namespace dkdm::run

#include "fake_device/native_functions.hpp"

#include <ATen/core/dispatch/Dispatcher.h>

#include <fstream>
#include <sstream>
#include <unordered_map>

#include "fake_device/fake_device.hpp"

namespace fake_device {
namespace {

struct Entry {
  bool on_cuda = false;        // a kernel or a composite
  bool checks_devices = true;  // before the kernel
  std::string delegate;        // the structured operator that has the kernel
};

using Table = std::unordered_map<std::string, Entry>;  // by name without "aten::"

// "CUDA, CompositeExplicitAutograd" of "    CUDA, CompositeExplicitAutograd: kernel".
bool serves_cuda(const std::string& keys) {
  std::istringstream stream(keys);
  for (std::string key; std::getline(stream >> std::ws, key, ',');)
    if (key == "CUDA" || key.starts_with("Composite")) return true;
  return false;
}

// The file is regular: an entry starts by "- func: ", its fields are indented by two, what a field
// holds by four.
Table read(std::istream& file) {
  Table table;
  Entry* entry = nullptr;
  bool dispatch = false, loop = false;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("- func: ")) {
      entry = &table[line.substr(8, line.find('(') - 8)];
      entry->on_cuda = true;  // a composite of other operators, unless it has kernels
      dispatch = loop = false;
    } else if (entry && line.starts_with("    ") && dispatch) {
      if (serves_cuda(line.substr(0, line.find(':')))) entry->on_cuda = true;
    } else if (entry && line.starts_with("  ")) {
      dispatch = line.starts_with("  dispatch:");
      loop = loop || line.starts_with("  ufunc_inner_loop:");  // for CPU and CUDA
      if (dispatch) entry->on_cuda = loop;
      if (line.starts_with("  device_check: NoCheck")) entry->checks_devices = false;
      if (line.starts_with("  structured_delegate: ")) entry->delegate = line.substr(23);
      if (line.starts_with("  autogen: ")) {  // variants by a composite
        std::istringstream names(line.substr(11));
        const Entry made{true, entry->checks_devices, {}};
        for (std::string name; std::getline(names >> std::ws, name, ',');) table[name] = made;
      }
    }
  }
  return table;
}

const Table& table() {
  static const Table all = [] {
    std::ifstream file(DKDM_NATIVE_FUNCTIONS);
    return read(file);
  }();
  return all;
}

const Entry* find(const std::string& name) {
  const auto found = table().find(name.starts_with("aten::") ? name.substr(6) : name);
  return found == table().end() ? nullptr : &found->second;
}

// Of an operator that is not LibTorch's.
bool has_composite(const std::string& name) {
  const auto dot = name.find('.');
  const auto op = c10::Dispatcher::singleton().findOp(
      {name.substr(0, dot), dot == std::string::npos ? "" : name.substr(dot + 1)});
  return op && (op->hasKernelForDispatchKey(c10::DispatchKey::CompositeExplicitAutograd) ||
                op->hasKernelForDispatchKey(c10::DispatchKey::CompositeImplicitAutograd));
}

}  // namespace

bool checks_devices_itself(const std::string& name) {
  const Entry* entry = find(name);
  return !entry || !entry->checks_devices;
}

bool knows_cuda() { return !table().empty(); }

std::vector<std::string> missing_on_cuda(const std::set<std::string>& operators) {
  TORCH_CHECK(knows_cuda(), "no native_functions.yaml at ", DKDM_NATIVE_FUNCTIONS);
  std::vector<std::string> missing;
  for (const std::string& name : operators) {
    const Entry* entry = find(name);
    const Entry* kernel = entry && !entry->delegate.empty() ? find(entry->delegate) : entry;
    if (kernel ? !kernel->on_cuda : !has_composite(name)) missing.push_back(name);
  }
  return missing;
}

}  // namespace fake_device

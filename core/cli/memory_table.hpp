// The table of `dkdm plan --memory`.
#pragma once

#include <string>
#include <vector>

#include "cli/session.hpp"
#include "results/text/table.hpp"
#include "run/device_memory.hpp"

namespace dkdm::cli {

// What each stage takes of the device's memory, made already or not; equal ones of several seeds
// once. What is said of those that do not fit is appended to `shortfalls`, once each.
results::Table memory_table(const Session::Planned& planned, const std::string& configuration,
                            const run::DeviceMemory& memory, std::vector<std::string>& shortfalls);

}  // namespace dkdm::cli

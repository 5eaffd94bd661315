// What opening a database of an earlier dkdm did to it.
#pragma once

#include <cstdint>
#include <filesystem>

namespace dkdm::results {

struct Migration {
  std::int64_t from = 0, to = 0;  // schema versions
  std::filesystem::path backup;   // the file as it was
};

}  // namespace dkdm::results

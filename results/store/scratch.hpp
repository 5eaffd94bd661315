// A folder that goes with its owner. Internal to results/.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "dkdm/error.hpp"
#include "dkdm/store_error.hpp"

namespace dkdm::results {

class Scratch {
 public:
  // A new folder in `parent`, which is made where missing. Throws StoreError.
  explicit Scratch(const std::filesystem::path& parent) {
    std::error_code error;
    std::filesystem::create_directories(parent, error);
    auto pattern = (parent / "scratch-XXXXXX").string();
    if (error || ::mkdtemp(pattern.data()) == nullptr) {
      throw StoreError(parent.string() + ": no folder can be made in it for a copy");
    }
    path_ = pattern;
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace dkdm::results

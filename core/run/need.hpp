// What rows of a plan need and is not there: files of a dataset, a teacher or an evaluator, or
// statistics.
#pragma once

#include <string>
#include <vector>

#include "dkdm/announced.hpp"

namespace dkdm::run {

struct Need {
  std::string kind, name;  // "dataset", "cifar10"; of statistics the file
  std::vector<Announced::Absent> absent;
  std::vector<std::string> rows;  // that cannot be made without
  bool is_known = false;          // the images, or the network, that are expected

  std::string title() const { return kind + ' ' + name; }
};

// "dataset cifar10", and where it was looked for: the error of a command that cannot do without.
[[noreturn]] DKDM_API void refuse_needs(const std::vector<Need>& needs);

}  // namespace dkdm::run

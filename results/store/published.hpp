// The figures of the paper (results/store/published.toml, embedded at build time).
#pragma once

#include <string>
#include <vector>

namespace dkdm::results {

struct PublishedFigure {
  std::string section;  // "table2.cifar10"
  std::string row;      // "dynamic"; in table5 "cnn_vit_dynamic" (teacher, student, run)
  std::string metric;   // "fid"
  double value = 0;
};

// Every number in a `rows` list of the file.
std::vector<PublishedFigure> published_figures();

}  // namespace dkdm::results

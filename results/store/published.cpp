// Reads the embedded published.toml.
#include "results/store/published.hpp"

#include "core/config/toml.hpp"
#include "embedded.hpp"

namespace dkdm::results {
namespace {

// What names a row: its run, or the dataset of a synthetic set; table 5 has two networks before it.
std::string row_name(const toml::table& row) {
  std::string name;
  for (const char* part : {"teacher", "student", "run", "dataset"}) {
    if (const auto text = row[part].value<std::string>()) {
      name += (name.empty() ? "" : "_") + *text;
    }
  }
  return name;
}

void collect(const std::string& section, const toml::table& table,
             std::vector<PublishedFigure>& figures) {
  for (const auto& [key, node] : table) {
    const std::string name(key.str());
    if (const auto* inner = node.as_table()) {
      collect(section.empty() ? name : section + "." + name, *inner, figures);
    } else if (const auto* rows = node.as_array(); rows != nullptr && name == "rows") {
      for (const auto& element : *rows) {
        const auto& row = *element.as_table();
        for (const auto& [metric, value] : row) {
          if (!value.is_number()) continue;
          figures.push_back(
              {section, row_name(row), std::string(metric.str()), value.value<double>().value()});
        }
      }
    }
  }
}

}  // namespace

std::vector<PublishedFigure> published_figures() {
  std::vector<PublishedFigure> figures;
  collect("", toml::parse(kPublishedToml), figures);
  return figures;
}

}  // namespace dkdm::results

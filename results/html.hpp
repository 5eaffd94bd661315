// Pieces of a self-contained page. Internal to results/.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace dkdm::results {

// Text that may stand anywhere in a page, in element or attribute.
std::string html_escaped(const std::string& text);

// A PNG file as a data URI; "" with `reason` filled when it cannot be read or is no PNG.
std::string png_data_uri(const std::filesystem::path& file, std::string& reason);

struct Curve {
  std::string label;
  std::vector<std::pair<double, double>> points;  // x ascending
};

// A line chart with legend. Vertical axis logarithmic when the values span a factor of ten. "" when
// no curve has two points.
std::string svg_chart(const std::string& title, const std::string& x_title,
                      const std::vector<Curve>& curves);

}  // namespace dkdm::results

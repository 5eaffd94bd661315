// Escaping, inlined images and line charts.
#include "results/html.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>

#include "results/table.hpp"

namespace dkdm::results {
namespace {

constexpr double kWidth = 720, kHeight = 300, kLeft = 60, kRight = 12, kTop = 12, kBottom = 40;

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  double share(double value) const { return high > low ? (value - low) / (high - low) : 0.5; }
};

std::string three_digits(double value) {
  if (value == 0) return "0";
  const int magnitude = static_cast<int>(std::floor(std::log10(std::abs(value))));
  return std::abs(value) >= 1e5 ? count_text(value) : fixed(value, std::clamp(2 - magnitude, 0, 6));
}

}  // namespace

std::string html_escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

std::string png_data_uri(const std::filesystem::path& file, std::string& reason) {
  std::ifstream stream(file, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
  if (!stream) {
    reason = file.string() + " cannot be read";
    return "";
  }
  if (bytes.rfind("\x89PNG\r\n\x1a\n", 0) != 0) {
    reason = file.string() + " is not a PNG image";
    return "";
  }
  std::string encoded(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(encoded.data()),
                                     reinterpret_cast<const unsigned char*>(bytes.data()),
                                     static_cast<int>(bytes.size()));
  encoded.resize(length);
  return "data:image/png;base64," + encoded;
}

std::string svg_chart(const std::string& title, const std::string& x_title,
                      const std::vector<Curve>& curves) {
  Range x, y;
  bool any = false;
  for (const auto& curve : curves) {
    any = any || curve.points.size() > 1;
    for (const auto& [step, value] : curve.points) {
      x.add(step);
      y.add(value);
    }
  }
  if (!any) return "";
  const bool logarithmic = y.low > 0 && y.high > 10 * y.low;
  const auto scaled = [&](double value) { return logarithmic ? std::log10(value) : value; };
  const Range shown{scaled(y.low), scaled(y.high)};
  const auto at_x = [&](double value) {
    return fixed(kLeft + x.share(value) * (kWidth - kLeft - kRight), 1);
  };
  const auto at_y = [&](double share) {
    return fixed(kHeight - kBottom - share * (kHeight - kTop - kBottom), 1);
  };

  std::string svg = "<svg viewBox=\"0 0 " + fixed(kWidth, 0) + " " + fixed(kHeight, 0) +
                    "\" role=\"img\"><title>" + html_escaped(title) + "</title>\n";
  constexpr int kTicks = 4;
  for (int tick = 0; tick <= kTicks; ++tick) {
    const double share = static_cast<double>(tick) / kTicks;
    const double level = shown.low + share * (shown.high - shown.low);
    const auto height = at_y(share);
    svg += "<line class=\"rule\" x1=\"" + fixed(kLeft, 0) + "\" x2=\"" + fixed(kWidth - kRight, 0) +
           "\" y1=\"" + height + "\" y2=\"" + height + "\"/><text class=\"end\" x=\"" +
           fixed(kLeft - 6, 0) + "\" y=\"" + height + "\">" +
           three_digits(logarithmic ? std::pow(10, level) : level) + "</text>\n";
    const double step = x.low + share * (x.high - x.low);
    svg += "<text class=\"mid\" x=\"" + at_x(step) + "\" y=\"" + fixed(kHeight - 22, 0) + "\">" +
           fixed(step, 0) + "</text>\n";
  }
  svg += "<text class=\"mid\" x=\"" + fixed((kLeft + kWidth) / 2, 0) + "\" y=\"" +
         fixed(kHeight - 5, 0) + "\">" + html_escaped(x_title) + "</text>\n";
  std::string legend;
  int colour = 0;
  for (const auto& curve : curves) {
    if (curve.points.size() < 2) continue;
    const auto style = "c" + std::to_string(colour++ % 8);
    svg += "<polyline class=\"" + style + "\" points=\"";
    for (const auto& [step, value] : curve.points) {
      svg += at_x(step) + "," + at_y(shown.share(scaled(value))) + " ";
    }
    svg += "\"><title>" + html_escaped(curve.label) + "</title></polyline>\n";
    legend += "<li><svg viewBox=\"0 0 24 8\" aria-hidden=\"true\"><polyline class=\"" + style +
              "\" points=\"0,4 24,4\"/></svg>" + html_escaped(curve.label) + "</li>\n";
  }
  return svg + "</svg>\n<ul class=\"legend\">\n" + legend + "</ul>\n";
}

}  // namespace dkdm::results

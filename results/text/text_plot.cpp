#include "results/text/text_plot.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

namespace dkdm::results {
namespace {

// The mean of y in each of `count` equal parts of the range of x; nothing where no point falls.
std::vector<std::optional<double>> binned(const Points& points, int count) {
  std::vector<double> sums(count), numbers(count);
  const double first = points.front().first, range = points.back().first - first;
  for (const auto& [x, y] : points) {
    const double share = range > 0 ? (x - first) / range : 0;
    const int bin = std::clamp(static_cast<int>(share * count), 0, count - 1);
    sums[bin] += y;
    numbers[bin] += 1;
  }
  std::vector<std::optional<double>> means(count);
  for (int i = 0; i < count; ++i)
    if (numbers[i] > 0) means[i] = sums[i] / numbers[i];
  return means;
}

Points finite(const Points& points, bool logarithmic) {
  Points kept;
  for (const auto& [x, y] : points) {
    if (!std::isfinite(x) || !std::isfinite(y) || (logarithmic && y <= 0)) continue;
    kept.emplace_back(x, logarithmic ? std::log(y) : y);
  }
  return kept;
}

std::pair<double, double> range_of(const std::vector<std::optional<double>>& values) {
  double low = INFINITY, high = -INFINITY;
  for (const auto& value : values) {
    if (!value) continue;
    low = std::min(low, *value);
    high = std::max(high, *value);
  }
  return {low, high};
}

// 0 for the lowest, `steps` - 1 for the highest; the middle where all are equal.
int level(double value, double low, double high, int steps) {
  if (!(high > low)) return steps / 2;
  return std::clamp(static_cast<int>((value - low) / (high - low) * steps), 0, steps - 1);
}

// The character of U+2800 … U+28FF whose dots are the bits of `dots`.
std::string braille(unsigned dots) {
  const unsigned code = 0x2800 + dots;
  return {static_cast<char>(0xe0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 0x3f)),
          static_cast<char>(0x80 | (code & 0x3f))};
}

}  // namespace

std::string sparkline(const Points& points, int columns, bool utf8) {
  static constexpr std::array<const char*, 8> kBars{"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  static constexpr std::array<const char*, 8> kAscii{"_", ".", ",", "-", "=", "+", "*", "#"};
  const auto kept = finite(points, false);
  if (kept.empty() || columns < 1) return "";
  const auto values =
      binned(kept, std::min(columns, static_cast<int>(std::min<std::size_t>(kept.size(), 10'000))));
  const auto [low, high] = range_of(values);
  std::string text;
  for (const auto& value : values) {
    if (!value) text += ' ';
    else text += (utf8 ? kBars : kAscii)[level(*value, low, high, 8)];
  }
  return text;
}

std::vector<std::string> line_plot(const Points& points, int columns, int rows, bool utf8,
                                   bool logarithmic) {
  const auto kept = finite(points, logarithmic);
  if (kept.empty() || columns < 1 || rows < 1) return {};
  const int wide = utf8 ? 2 : 1, high_dots = utf8 ? 4 : 1;
  const int width = columns * wide, height = rows * high_dots;
  const auto values = binned(kept, width);
  const auto [low, high] = range_of(values);
  std::vector<std::vector<bool>> dots(height, std::vector<bool>(width));
  int last_x = -1, last_y = 0;
  for (int x = 0; x < width; ++x) {
    if (!values[x]) continue;
    const int y = height - 1 - level(*values[x], low, high, height);
    if (last_x < 0) {
      dots[y][x] = true;
    } else {
      // From the last point to this one, a dot for each step of the longer way.
      const int steps = std::max(x - last_x, std::abs(y - last_y));
      for (int i = 1; i <= steps; ++i)
        dots[last_y + (y - last_y) * i / steps][last_x + (x - last_x) * i / steps] = true;
    }
    last_x = x;
    last_y = y;
  }
  std::vector<std::string> lines;
  for (int row = 0; row < rows; ++row) {
    std::string line;
    for (int column = 0; column < columns; ++column) {
      if (!utf8) {
        line += dots[row][column] ? '*' : ' ';
        continue;
      }
      // Dots 1 to 8 of a cell as Unicode numbers them: left column 1 2 3 7, right column 4 5 6 8.
      static constexpr std::array<std::array<unsigned, 2>, 4> kBits{
          {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}}};
      unsigned bits = 0;
      for (int y = 0; y < 4; ++y)
        for (int x = 0; x < 2; ++x)
          if (dots[4 * row + y][2 * column + x]) bits |= kBits[y][x];
      line += bits == 0 ? " " : braille(bits);
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace dkdm::results

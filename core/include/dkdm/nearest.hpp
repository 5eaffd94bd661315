// The nearest of some names to a wrong one. Header alone: results/ uses it and does not link the
// core.
#pragma once

#include <algorithm>
#include <cctype>
#include <string>
#include <vector>

namespace dkdm {
namespace detail {

// Folded so that case and the choice of - or _ cost nothing.
inline std::string folded(const std::string& name) {
  std::string text = name;
  for (char& c : text) {
    c = c == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return text;
}

// Optimal string alignment: insertions, deletions, substitutions, swaps of neighbours, 1 each.
inline std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::vector<std::size_t>> d(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) {
    for (std::size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        d[i][j] = i + j;
        continue;
      }
      const std::size_t other = a[i - 1] != b[j - 1];
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + other});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
      }
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace detail

// By edit distance, where case and the choice of - or _ count nothing; "" when none is near.
inline std::string nearest_name(const std::string& wrong, const std::vector<std::string>& names) {
  constexpr std::size_t kLongest = 200;  // the work grows with the product of the lengths
  if (wrong.size() > kLongest) return "";
  std::string best;
  std::size_t least = wrong.size() / 3 + 2;
  for (const std::string& name : names) {
    if (name.size() > kLongest) continue;
    const std::size_t distance = detail::edit_distance(detail::folded(wrong), detail::folded(name));
    if (distance < least && distance < std::max(wrong.size(), name.size())) {
      least = distance;
      best = name;
    }
  }
  return best;
}

}  // namespace dkdm

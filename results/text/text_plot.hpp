// Curves as characters, for a terminal.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace dkdm::results {

using Points =
    std::vector<std::pair<double, double>>;  // x ascending, y; what is not finite is left out

// One character a column, by the mean of the points that fall there, between the lowest and the
// highest: "▇▆▄▃▂▁", or "@#=-. " where only ASCII is shown. "" without points.
std::string sparkline(const Points& points, int columns, bool utf8);

// `rows` lines of `columns` characters, four by two dots of Braille each (ASCII: one "*" each): the
// curve by x, joined. `logarithmic`: y by its logarithm, where all values are above 0. No lines
// without points.
std::vector<std::string> line_plot(const Points& points, int columns, int rows, bool utf8,
                                   bool logarithmic);

}  // namespace dkdm::results

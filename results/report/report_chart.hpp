// The figures of a report as data: what the page draws (html_chart) and what gnuplot draws
// (report_plots). Internal to results/.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "results/report/report_data.hpp"

namespace dkdm::results {

struct ChartPoint {
  double x = 0, y = 0;
  std::optional<double> spread;  // standard deviation over seeds
  int count = 1;                 // seeds
};

struct ChartSeries {
  std::string label;
  std::vector<ChartPoint> points;  // x ascending
  bool level = false;              // one value that holds for every x: the teacher's
  std::size_t colour = 0;          // which colour: a method's is the same in every chart and table
};

// Gives every method its colour, in the order in which they are first asked for. One for a whole
// page.
class MethodColours {
 public:
  // Of line `index` of `table`. Lines of one row (its variants) differ.
  std::size_t of(const ReportTable& table, std::size_t index);

 private:
  std::map<std::string, std::size_t> colours_;
};

struct Chart {
  std::string id;     // "methods", "figure4a", "figure4b", "teacher-evaluations", "loss"
  std::string title;  // a sentence's beginning: "FID@512 by training step"
  std::string x_title, y_title;
  bool logarithmic = false;  // y
  std::vector<ChartSeries> series;
  bool bars = false;  // each series is one value, without an x
};

// Limits of both axes with some room around the points; never empty ranges.
struct ChartRange {
  double x_low, x_high, y_low, y_high;
};
ChartRange range_of(const Chart& chart);

// Round numbers within [low, high], low < high: about `count` multiples of 1, 2 or 5 times a power
// of ten.
std::vector<double> round_ticks(double low, double high, int count);
// "0.5", "200", "50K", "2.5M".
std::string tick_text(double value);

// The figures for which a table gathered with Depth::figures has points: its leading metric by
// training step and method (as the paper's Figure 4a) and by rho (Figure 4b), or, where every
// method was evaluated once, a bar for each; by evaluations of the teacher; and the training loss.
std::vector<Chart> charts_of(const ReportTable& table, MethodColours& colours);

}  // namespace dkdm::results

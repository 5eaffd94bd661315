// From the lines of a table to the series of its figures.
#include "results/report/report_chart.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

namespace dkdm::results {
namespace {

std::string without_arrow(const std::string& column) { return column.substr(0, column.find(' ')); }

// A line's progress by `x`; the teacher's last value as a level, since it took no part in the race.
template <class X>
ChartSeries progress_series(const ReportLine& line, const std::string& label, X&& x) {
  ChartSeries series{label, {}, line.teacher, 0};
  for (const auto& point : line.progress) {
    series.points.push_back({x(point), point.value.mean, point.value.std, point.value.count});
  }
  std::stable_sort(series.points.begin(), series.points.end(),
                   [](const ChartPoint& a, const ChartPoint& b) { return a.x < b.x; });
  if (series.level && !series.points.empty()) series.points = {series.points.back()};
  return series;
}

double step_of(const ProgressPoint& point) { return point.step; }

void add_series(Chart& chart, ChartSeries series) {
  if (!series.points.empty()) chart.series.push_back(std::move(series));
}

// Calls add(line, its colour) for every line.
template <class Add>
void each_line(const ReportTable& table, MethodColours& colours, Add&& add) {
  for (std::size_t i = 0; i < table.lines.size(); ++i) add(table.lines[i], colours.of(table, i));
}

Chart by_method(const ReportTable& table, const std::string& metric, MethodColours& colours) {
  Chart chart{"figure4a", metric + " by training step", "training step", metric, false, {}};
  each_line(table, colours, [&](const ReportLine& line, std::size_t colour) {
    auto series = progress_series(line, line.label, step_of);
    series.colour = colour;
    add_series(chart, std::move(series));
  });
  return chart;
}

// The value of each method, the teacher's as well.
Chart bars(const ReportTable& table, const std::string& metric, MethodColours& colours) {
  Chart chart{"methods", metric + " by method", "", metric, false, {}, /*bars=*/true};
  each_line(table, colours, [&](const ReportLine& line, std::size_t colour) {
    const auto value = line.metrics.find(leading_metric(table));
    if (value == line.metrics.end() || !std::isfinite(value->second.mean)) return;
    const auto& estimate = value->second;
    chart.series.push_back(
        {line.label, {{0, estimate.mean, estimate.std, estimate.count}}, false, colour});
  });
  return chart;
}

Chart by_teacher_evaluations(const ReportTable& table, const std::string& metric,
                             MethodColours& colours) {
  Chart chart{"teacher-evaluations",
              metric + " by teacher evaluations",
              "teacher evaluations (images)",
              metric,
              false,
              {}};
  each_line(table, colours, [&](const ReportLine& line, std::size_t colour) {
    auto series = progress_series(
        line, line.label, [](const ProgressPoint& point) { return point.teacher_evaluations; });
    series.colour = colour;
    add_series(chart, std::move(series));
  });
  return chart;
}

Chart by_rho(const ReportTable& table, const std::string& metric, MethodColours& colours) {
  Chart chart{"figure4b", metric + " by training step for each ρ", "training step", metric, false,
              {}};
  std::vector<std::pair<const ReportLine*, std::size_t>> lines;  // with their colours
  std::set<double> values;
  each_line(table, colours, [&](const ReportLine& line, std::size_t colour) {
    if (!line.rho || line.progress.empty()) return;
    lines.emplace_back(&line, colour);
    values.insert(*line.rho);
  });
  if (values.size() < 2) return chart;
  std::stable_sort(lines.begin(), lines.end(),
                   [](const auto& a, const auto& b) { return *a.first->rho < *b.first->rho; });
  for (const auto& [line, colour] : lines) {
    // Two rows of one rho differ in something else, which their labels say.
    const bool alone =
        std::count_if(lines.begin(), lines.end(), [&, &line = line](const auto& other) {
          return other.first->rho == line->rho;
        }) == 1;
    const auto label = "ρ = " + shortest(*line->rho) + (alone ? "" : " (" + line->label + ")");
    auto series = progress_series(*line, label, step_of);
    series.colour = colour;
    add_series(chart, std::move(series));
  }
  return chart;
}

// Of each method's first seed.
Chart loss(const ReportTable& table, MethodColours& colours) {
  Chart chart{"loss", "Training loss", "training step", "loss", false, {}};
  double low = std::numeric_limits<double>::infinity(), high = -low;
  each_line(table, colours, [&](const ReportLine& line, std::size_t colour) {
    ChartSeries series{line.label, {}, false, colour};
    const auto first = std::find_if(line.all_runs.begin(), line.all_runs.end(),
                                    [](const ReportRun& run) { return !run.loss.empty(); });
    if (first == line.all_runs.end()) return;
    for (const auto& [step, value] : first->loss) {
      series.points.push_back({step, value, std::nullopt, 1});
      low = std::min(low, value);
      high = std::max(high, value);
    }
    add_series(chart, std::move(series));
  });
  chart.logarithmic = low > 0 && high > 10 * low;
  return chart;
}

bool evaluated_once(const ReportTable& table) {
  return std::all_of(table.lines.begin(), table.lines.end(), [](const ReportLine& line) {
    return line.teacher || line.progress.size() < 2;
  });
}

// A curve, or points of several students that do not all lie at x = 0.
bool says_something(const Chart& chart) {
  if (chart.bars) return chart.series.size() > 1;
  std::size_t students = 0;
  bool curve = false, right_of_zero = false;
  for (const auto& series : chart.series) {
    if (series.level) continue;
    ++students;
    curve = curve || series.points.size() > 1;
    right_of_zero = right_of_zero || series.points.back().x > 0;
  }
  return right_of_zero && (curve || students > 1);
}

// A twentieth of room on either side; a single value stands in the middle.
std::pair<double, double> padded(double low, double high) {
  const double room = high > low ? (high - low) / 20 : std::max(std::abs(low) / 10, 0.5);
  return {low - room, high + room};
}

}  // namespace

ChartRange range_of(const Chart& chart) {
  constexpr double kNone = std::numeric_limits<double>::infinity();
  double x_low = kNone, x_high = -kNone, y_low = kNone, y_high = -kNone;
  for (const auto& series : chart.series) {
    for (const auto& point : series.points) {
      if (!series.level) {
        x_low = std::min(x_low, point.x);
        x_high = std::max(x_high, point.x);
      }
      const double spread = point.spread.value_or(0);
      y_low = std::min(y_low, point.y - spread);
      y_high = std::max(y_high, point.y + spread);
    }
  }
  if (x_low > x_high) x_low = x_high = 0;
  if (y_low > y_high) y_low = y_high = 0;
  const auto [left, right] = padded(x_low, x_high);
  if (chart.logarithmic && y_low > 0) {
    const auto [bottom, top] = padded(std::log10(y_low), std::log10(y_high));
    return {left, right, std::pow(10, bottom), std::pow(10, top)};
  }
  const auto [bottom, top] = padded(y_low, y_high);
  return {left, right, bottom, top};
}

std::vector<double> round_ticks(double low, double high, int count) {
  const double raw = (high - low) / count;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (const double factor : {1., 2., 5.}) {
    if (factor * power >= raw) {
      step = factor * power;
      break;
    }
  }
  std::vector<double> ticks;
  const auto first = std::ceil(low / step), last = std::floor(high / step);
  for (double k = first; k <= last; ++k) ticks.push_back(k * step + 0.0);  // no -0
  return ticks;
}

std::string tick_text(double value) {
  const double size = std::abs(value);
  const double unit = size >= 1e9 ? 1e9 : size >= 1e6 ? 1e6 : size >= 1e4 ? 1e3 : 1;
  const auto digits = shortest(std::stod(fixed(value / unit, 6)));
  return digits + (unit == 1e9 ? "G" : unit == 1e6 ? "M" : unit == 1e3 ? "K" : "");
}

std::size_t MethodColours::of(const ReportTable& table, std::size_t index) {
  const auto& line = table.lines[index];
  return colours_.emplace(line.row + "\n" + line.setting, colours_.size()).first->second;
}

std::vector<Chart> charts_of(const ReportTable& table, MethodColours& colours) {
  const auto metric = without_arrow(metric_column(table, leading_metric(table)));
  const Chart evaluations = by_teacher_evaluations(table, metric, colours),
              losses = loss(table, colours);
  std::vector<Chart> wanted;
  if (evaluated_once(table)) {
    wanted = {bars(table, metric, colours), evaluations, losses};
  } else {
    const Chart methods = by_method(table, metric, colours), rhos = by_rho(table, metric, colours);
    // Where every curve is one of a rho, both would be one figure.
    const bool same = methods.series.size() == rhos.series.size();
    wanted = {same ? Chart{} : methods, rhos, evaluations, losses};
  }
  std::vector<Chart> charts;
  for (const auto& chart : wanted) {
    if (says_something(chart)) charts.push_back(chart);
  }
  return charts;
}

}  // namespace dkdm::results

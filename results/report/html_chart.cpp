// Charts of the page: as drawings that need no script, as tables, and as the data of the script.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "results/report/html.hpp"

namespace dkdm::results {
namespace {

constexpr double kWidth = 720, kHeight = 320, kLeft = 64, kRight = 16, kTop = 12, kBottom = 44;
constexpr int kColours = 8;

std::vector<double> logarithmic_ticks(double low, double high) {
  std::vector<double> ticks;
  const bool narrow = high < 1000 * low;
  for (double power = std::pow(10, std::floor(std::log10(low))); power <= high; power *= 10) {
    for (const double factor : {1., 2., 5.}) {
      const double tick = factor * power;
      if (tick >= low && tick <= high && (narrow || factor == 1)) ticks.push_back(tick);
    }
  }
  return ticks;
}

// Five digits are more than a screen shows.
double rounded(double value) {
  if (value == 0 || !std::isfinite(value)) return value;
  const double scale = std::pow(10, 4 - std::floor(std::log10(std::abs(value))));
  return std::isfinite(scale) ? std::round(value * scale) / scale : value;
}

class Drawing {
 public:
  explicit Drawing(const Chart& chart) : chart_(chart), range_(range_of(chart)) {
    out_ = "<svg viewBox=\"0 0 " + fixed(kWidth, 0) + " " + fixed(kHeight, 0) +
           "\" role=\"img\" aria-label=\"" + html_escaped(chart.title) + "\">\n";
    axes();
    for (const auto& one : chart.series) series(one);
  }
  std::string svg() const { return out_ + "</svg>\n"; }

 private:
  std::string x(double value) const {
    const double share = (value - range_.x_low) / (range_.x_high - range_.x_low);
    return fixed(kLeft + share * (kWidth - kLeft - kRight), 1);
  }
  std::string y(double value) const {
    const auto scaled = [&](double v) { return chart_.logarithmic ? std::log10(v) : v; };
    const double share =
        (scaled(value) - scaled(range_.y_low)) / (scaled(range_.y_high) - scaled(range_.y_low));
    return fixed(kHeight - kBottom - share * (kHeight - kTop - kBottom), 1);
  }
  void line(const char* style, const std::string& x1, const std::string& y1, const std::string& x2,
            const std::string& y2) {
    out_ += std::string("<line class=\"") + style + "\" x1=\"" + x1 + "\" y1=\"" + y1 + "\" x2=\"" +
            x2 + "\" y2=\"" + y2 + "\"/>";
  }
  void text(const char* style, const std::string& at_x, const std::string& at_y,
            const std::string& content) {
    out_ += std::string("<text class=\"") + style + "\" x=\"" + at_x + "\" y=\"" + at_y + "\">" +
            html_escaped(content) + "</text>\n";
  }

  void axes() {
    const auto right = fixed(kWidth - kRight, 0), left = fixed(kLeft, 0);
    for (const double tick : chart_.logarithmic ? logarithmic_ticks(range_.y_low, range_.y_high)
                                                : round_ticks(range_.y_low, range_.y_high, 5)) {
      line("rule", left, y(tick), right, y(tick));
      text("end", fixed(kLeft - 6, 0), y(tick), tick_text(tick));
    }
    for (const double tick : round_ticks(range_.x_low, range_.x_high, 6)) {
      if (tick >= 0) text("mid", x(tick), fixed(kHeight - kBottom + 14, 0), tick_text(tick));
    }
    text("mid", fixed((kLeft + kWidth - kRight) / 2, 0), fixed(kHeight - 8, 0), chart_.x_title);
  }

  void series(const ChartSeries& series) {
    out_ += "<g class=\"" + colour_class(series.colour) + "\">";
    if (series.level) {
      const auto level = y(series.points.front().y);
      line("level", fixed(kLeft, 0), level, fixed(kWidth - kRight, 0), level);
    } else {
      if (series.points.size() > 1) {
        out_ += "<polyline points=\"";
        for (const auto& point : series.points) out_ += x(point.x) + "," + y(point.y) + " ";
        out_ += "\"/>";
      }
      for (const auto& point : series.points) {
        if (!point.spread) continue;
        line("spread", x(point.x), y(point.y - *point.spread), x(point.x),
             y(point.y + *point.spread));
      }
      constexpr std::size_t kMarked = 40;  // more points than that are a line
      for (const auto& point : series.points) {
        if (series.points.size() > kMarked) break;
        out_ += "<circle r=\"4\" cx=\"" + x(point.x) + "\" cy=\"" + y(point.y) + "\"/>";
      }
    }
    out_ += "</g>\n";
  }

  const Chart& chart_;
  ChartRange range_;
  std::string out_;
};

std::string legend(const Chart& chart) {
  std::string out = "<ul class=\"legend\">\n";
  for (const auto& series : chart.series) {
    out += "<li><span class=\"key " + colour_class(series.colour) + "\"></span>" +
           html_isolated(shortened(series.label, kLabelWidth)) + "</li>\n";
  }
  return out + "</ul>\n";
}

// Every value of a chart with few; first, lowest and last of a long curve.
Table values_of(const Chart& chart) {
  std::size_t count = 0;
  for (const auto& series : chart.series) count += series.points.size();
  constexpr std::size_t kListed = 120;
  const auto number = [](double value) { return shortest(rounded(value)); };
  Table table;
  const auto add = [&](const std::string& title) {
    table.columns.push_back({title, Align::right});
  };
  table.columns.push_back({"Curve"});
  if (count <= kListed) {
    for (const auto& title : {chart.x_title, chart.y_title}) add(title);
    add("±");
    add("Seeds");
    for (const auto& series : chart.series) {
      for (const auto& point : series.points) {
        table.rows.push_back({shortened(series.label, kLabelWidth),
                              series.level ? "every" : number(point.x), number(point.y),
                              point.spread ? number(*point.spread) : "—",
                              std::to_string(point.count)});
      }
    }
    return table;
  }
  for (const char* title : {"first", "lowest", "last"}) add(title);
  add("last " + chart.x_title);
  for (const auto& series : chart.series) {
    const auto lowest =
        std::min_element(series.points.begin(), series.points.end(),
                         [](const ChartPoint& a, const ChartPoint& b) { return a.y < b.y; });
    table.rows.push_back({shortened(series.label, kLabelWidth), number(series.points.front().y),
                          number(lowest->y), number(series.points.back().y),
                          number(series.points.back().x)});
  }
  return table;
}

}  // namespace

std::string colour_class(std::size_t colour) {
  return "c" + std::to_string(colour % kColours) + (colour >= kColours ? " dashed" : "");
}

std::string html_bars(const Chart& chart) {
  double longest = 0;
  for (const auto& series : chart.series) {
    const auto& point = series.points.front();
    longest = std::max(longest, point.y + point.spread.value_or(0));
  }
  if (longest <= 0) longest = 1;
  constexpr double kWhole = 1000;  // of the drawing, whose width is that of the cell
  const auto at = [&](double value) {
    return fixed(kWhole * std::clamp(value / longest, 0., 1.), 1);
  };
  std::string out = "<figure class=\"chart\">\n<figcaption>" + html_escaped(chart.title) +
                    "</figcaption>\n<table class=\"bars\">\n<caption class=\"unseen\">" +
                    html_escaped(chart.title) +
                    "</caption>\n<thead class=\"unseen\"><tr><th scope=\"col\">Method</th><th "
                    "scope=\"col\">Bar</th><th scope=\"col\">" +
                    html_escaped(chart.y_title) + "</th></tr></thead>\n<tbody>\n";
  for (const auto& series : chart.series) {
    const auto& point = series.points.front();
    const double spread = point.spread.value_or(0);
    out += "<tr class=\"" + colour_class(series.colour) + "\"><th scope=\"row\">" +
           html_isolated(shortened(series.label, kLabelWidth)) +
           "</th><td><svg class=\"bar\" aria-hidden=\"true\" viewBox=\"0 0 1000 20\" "
           "preserveAspectRatio=\"none\"><rect width=\"" +
           at(point.y) + "\" height=\"20\"/>";
    if (spread > 0) {
      out += "<line x1=\"" + at(point.y - spread) + "\" x2=\"" + at(point.y + spread) +
             "\" y1=\"10\" y2=\"10\"/>";
    }
    out += "</svg></td><td class=\"number\">" + fixed(point.y, 2) +
           (point.spread ? " ± " + fixed(spread, 2) : "") + "</td></tr>\n";
  }
  return out + "</tbody>\n</table>\n</figure>\n";
}

std::string svg_chart(const Chart& chart) { return Drawing(chart).svg(); }

std::string html_chart(const Chart& chart, std::size_t number) {
  return "<figure class=\"chart\" data-chart=\"" + std::to_string(number) + "\">\n<figcaption>" +
         html_escaped(chart.title) +
         "</figcaption>\n<div class=\"drawing\"><div class=\"wide\" "
         "role=\"region\" tabindex=\"0\" aria-label=\"" +
         html_escaped(chart.title) + "\">\n" + svg_chart(chart) + "</div>\n" + legend(chart) +
         "</div>\n<details><summary>" + html_escaped(chart.title) + ": values</summary>\n" +
         html_table(values_of(chart), chart.title + ", values") + "</details>\n</figure>\n";
}

std::string chart_json(const std::vector<Chart>& charts) {
  auto list = nlohmann::json::array();
  for (const auto& chart : charts) {
    const auto range = range_of(chart);
    auto series_list = nlohmann::json::array();
    for (const auto& series : chart.series) {
      auto points = nlohmann::json::array();
      for (const auto& point : series.points) {
        auto& entry =
            points.emplace_back(nlohmann::json::array({rounded(point.x), rounded(point.y)}));
        if (point.spread) entry.insert(entry.end(), {rounded(*point.spread), point.count});
      }
      series_list.push_back({{"label", shortened(series.label, kLabelWidth)},
                             {"level", series.level},
                             {"colour", series.colour},
                             {"points", std::move(points)}});
    }
    list.push_back({{"title", chart.title},
                    {"x", chart.x_title},
                    {"y", chart.y_title},
                    {"logarithmic", chart.logarithmic},
                    {"range", {range.x_low, range.x_high, range.y_low, range.y_high}},
                    {"series", std::move(series_list)}});
  }
  const auto text = list.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  std::string safe;  // "<" would end or open an element
  for (const char c : text) safe += c == '<' ? std::string("\\u003c") : std::string(1, c);
  return safe;
}

}  // namespace dkdm::results

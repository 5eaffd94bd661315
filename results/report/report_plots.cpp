// Data files, gnuplot scripts, and gnuplot as a child process without a shell between. No name of a
// run meets gnuplot's syntax unquoted: it runs what stands in backquotes of a double-quoted string.
#include "results/report/report_plots.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>

#include "core/io/atomic_file.hpp"
#include "dkdm/error.hpp"
#include "results/report/report_chart.hpp"

extern char** environ;

namespace dkdm::results {
namespace {

namespace fs = std::filesystem;

// The page's colours for light paper, in its order.
constexpr std::array<const char*, 8> kColours = {"#2f6fbd", "#b34d12", "#23773f", "#9a3fa8",
                                                 "#b3261e", "#007184", "#706100", "#666a72"};

// A single-quoted string of gnuplot, which it takes as it stands. Quotes in it become typographic
// ones: gnuplot 5.4 misreads a doubled quote at a string's beginning.
std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : terminal_text(shortened(text, kLabelWidth))) {
    out += c == '\'' || c == '`' ? std::string("’") : std::string(1, c);
  }
  return out + "'";
}

// A tick's label is a format besides.
std::string quoted_tick(const std::string& text) {
  std::string out;
  for (const char c : quoted(text)) out += c == '%' ? std::string("%%") : std::string(1, c);
  return out;
}

// What gnuplot is to draw: the body of a script, whose data is the file `name`.dat beside it.
struct Figure {
  std::string name, data, script;
};

std::string style_of(std::size_t index) {
  return std::string(" lc rgb '") + kColours[index % kColours.size()] + "' dt " +
         std::to_string(1 + index / kColours.size());
}

// A line of one standard deviation on either side of columns 1 and 2.
constexpr const char* kSpread = " using 1:($2-$3):(0):(2*$3) with vectors nohead";

Figure curves(const std::string& name, const Chart& chart) {
  Figure figure{name, "", ""};
  const auto range = range_of(chart);
  figure.script = "set xlabel " + quoted(chart.x_title) + "\nset ylabel " + quoted(chart.y_title) +
                  "\nset xrange [" + shortest(range.x_low) + ":" + shortest(range.x_high) +
                  "]\nset yrange [" + shortest(range.y_low) + ":" + shortest(range.y_high) + "]\n";
  std::string parts, ticks;
  for (const double tick : round_ticks(range.x_low, range.x_high, 6)) {
    if (tick >= 0) ticks += (ticks.empty() ? "'" : ", '") + tick_text(tick) + "' " + shortest(tick);
  }
  figure.script += "set xtics (" + ticks + ")\n";
  if (chart.logarithmic) figure.script += "set logscale y\n";
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    const auto& series = chart.series[i];
    figure.data += "# x y spread seeds: curve " + std::to_string(i + 1) + "\n";
    bool spread = false;
    for (const auto& point : series.points) {
      figure.data += shortest(point.x) + " " + shortest(point.y) + " " +
                     shortest(point.spread.value_or(0)) + " " + std::to_string(point.count) + "\n";
      spread = spread || point.spread.has_value();
    }
    figure.data += "\n\n";
    const auto source = "'" + name + ".dat' index " + std::to_string(i);
    const auto next = [&](const std::string& part) {
      parts += (parts.empty() ? "" : ", \\\n     ") + part;
    };
    if (series.level) {
      next(shortest(series.points.front().y) + " with lines" + std::string(" lc rgb '") +
           kColours[series.colour % kColours.size()] + "' dt '-' lw 1.5 title " +
           quoted(series.label));
      continue;
    }
    const bool marked = series.points.size() <= 40;
    const auto drawn = marked
                           ? "linespoints pt " + std::to_string(series.colour % 8 + 4) + " ps 0.6"
                           : std::string("lines");
    next(source + " using 1:2 with " + drawn + style_of(series.colour) + " lw 1.8 title " +
         quoted(series.label));
    if (spread) next(source + kSpread + style_of(series.colour) + " notitle");
  }
  figure.script += "plot " + parts + "\n";
  return figure;
}

// One metric of every row as a bar, with its spread over seeds.
Figure bars(const std::string& name, const ReportTable& table, const std::string& metric,
            MethodColours& colours) {
  Figure figure{name, "# place value spread colour\n", ""};
  std::string labels;
  int place = 0;
  for (std::size_t i = 0; i < table.lines.size(); ++i) {
    const auto& line = table.lines[i];
    const auto found = line.metrics.find(metric);
    if (found == line.metrics.end() || !std::isfinite(found->second.mean)) continue;
    figure.data += std::to_string(place) + " " + shortest(found->second.mean) + " " +
                   shortest(found->second.std.value_or(0)) + " " +
                   std::to_string(std::strtol(kColours[colours.of(table, i) % kColours.size()] + 1,
                                              nullptr, 16)) +
                   "\n";
    labels +=
        (labels.empty() ? "" : ", ") + quoted_tick(line.label) + " " + std::to_string(place++);
  }
  if (place == 0) return {};
  const auto title = metric_column(table, metric);
  figure.script = "set ylabel " + quoted(title) +
                  "\nset yrange [0:*]\nset xrange [-0.6:" + fixed(place - 0.4, 1) +
                  "]\nset xtics rotate by 30 right (" + labels +
                  ")\nset bmargin 9\nset lmargin 14\nunset key\nplot '" + name +
                  ".dat' using 1:2:4 with boxes fs solid 0.85 lc rgb variable, '" + name + ".dat'" +
                  kSpread + " lc rgb '#202020' lw 1.5\n";
  return figure;
}

std::vector<Figure> figures_of(const std::vector<ReportTable>& tables) {
  std::vector<Figure> figures;
  std::map<std::string, int> seen;
  MethodColours colours;
  for (const auto& table : tables) {
    auto name = plain_name(table.experiment);
    if (const int number = ++seen[name]; number > 1) name += "-" + std::to_string(number);
    for (const auto& chart : charts_of(table, colours)) {
      if (!chart.bars) figures.push_back(curves(name + "-" + chart.id, chart));  // bars: below
    }
    for (const auto& metric : table.metrics) {
      auto figure = bars(name + "-bars-" + plain_name(metric), table, metric, colours);
      if (!figure.name.empty()) figures.push_back(std::move(figure));
    }
  }
  return figures;
}

constexpr const char* kLook =
    "set encoding utf8\nset border 3\nset tics nomirror out\nset grid ytics lc rgb '#d5d8de' lt 1\n"
    "set boxwidth 0.7\nset key outside bottom center horizontal Left reverse maxcols 2 noenhanced\n"
    "set xlabel noenhanced\nset ylabel noenhanced\nset xtics noenhanced\n";

void write_file(const fs::path& file, const std::string& content) {
  io::AtomicFile output(file);
  output.write(content);
  output.commit();
}

// Runs gnuplot in `folder`; returns what it complains of, "" when all went well.
std::string run_gnuplot(const fs::path& folder, const std::string& script) {
  int pipe_ends[2];
  if (::pipe2(pipe_ends, O_CLOEXEC) != 0) throw Error(std::string("pipe: ") + std::strerror(errno));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, pipe_ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, pipe_ends[1], STDERR_FILENO);
  std::string program = "gnuplot", argument = script;
  std::array<char*, 3> arguments{program.data(), argument.data(), nullptr};
  pid_t child = 0;
  const int failure =
      ::posix_spawnp(&child, "gnuplot", &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(pipe_ends[1]);
  std::string said;
  if (failure == 0) {
    std::array<char, 4096> buffer{};
    for (ssize_t n; (n = ::read(pipe_ends[0], buffer.data(), buffer.size())) > 0 ||
                    (n < 0 && errno == EINTR);) {
      if (n > 0) said.append(buffer.data(), static_cast<std::size_t>(n));
    }
  }
  ::close(pipe_ends[0]);
  if (failure != 0) {
    throw Error("--plots: gnuplot cannot be started (" + std::string(std::strerror(failure)) +
                    "); Debian: apt-get install gnuplot-nox",
                ExitCode::missing);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return "";
  return said.empty() ? "ended without a message" : terminal_text(said);
}

}  // namespace

std::vector<fs::path> write_plots(const fs::path& file, const std::vector<std::string>& experiments,
                                  const ReportChoice& choice, const fs::path& folder) {
  const auto figures = figures_of(gather(file, experiments, choice, Depth::figures));
  std::error_code failed;
  fs::create_directories(folder, failed);
  if (failed) throw Error(folder.string() + ": cannot be made: " + failed.message());
  std::vector<fs::path> written;
  for (const auto& figure : figures) {
    write_file(folder / (figure.name + ".dat"), figure.data);
    const auto script = figure.name + ".gp";
    const auto terminal = [&](const std::string& kind, const std::string& ending) {
      written.push_back(folder / (figure.name + ending));
      return "set terminal " + kind + "\nset output '" + figure.name + ending + "'\n";
    };
    write_file(
        folder / script,
        "# gnuplot " + script + "\n" +
            terminal("svg size 720,400 noenhanced font 'sans,12' background '#ffffff'", ".svg") +
            kLook + figure.script +
            terminal("pdfcairo size 16cm,9cm noenhanced font 'sans,9'", ".pdf") + "replot\n");
    const auto complaint = run_gnuplot(folder, script);
    if (!complaint.empty()) {
      throw Error("gnuplot " + (folder / script).string() + ": " + complaint);
    }
  }
  std::sort(written.begin(), written.end());
  return written;
}

}  // namespace dkdm::results

#include "results/query/watch.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>

#include "core/record/process.hpp"
#include "record/clock.hpp"
#include "results/store/database.hpp"

namespace dkdm::results {
namespace {

constexpr double kHeardOf_s = 120;     // a process of another host that left word since is at work
constexpr double kSilent_s = 60;       // worth a remark: one step may well take that long
constexpr std::size_t kPoints = 4000;  // of a curve, more than any terminal shows

WatchedRun run_of(SQLite::Statement& row) {
  WatchedRun run;
  run.id = row.getColumn(0).getInt64();
  run.experiment = row.getColumn(1).getString();
  run.row = row.getColumn(2).getString();
  run.label = row.getColumn(3).getString();
  run.seed = row.getColumn(4).getInt64();
  run.status = row.getColumn(5).getString();
  run.stage = row.getColumn(6).getString();
  run.message = row.getColumn(7).getString();
  run.host = row.getColumn(8).getString();
  run.pid = row.getColumn(9).getInt64();
  run.process = row.getColumn(10).getString();
  run.started = row.getColumn(11).getDouble();
  if (!row.getColumn(12).isNull()) run.ended = row.getColumn(12).getDouble();
  return run;
}

constexpr const char* kLastAttempts =
    "SELECT r.id, e.name, r.row, r.label, r.seed, a.status, a.stage, a.message, a.host, a.pid, "
    "a.process, a.started, a.ended FROM attempts a JOIN runs r ON r.id = a.run "
    "JOIN experiments e ON e.id = r.experiment "
    "WHERE a.id = (SELECT max(id) FROM attempts WHERE run = a.run) ";

// FID where there is one, else the first metric.
std::string value_of(SQLite::Database& db, std::int64_t run) {
  SQLite::Statement find(
      db,
      "SELECT m.name, m.value, m.sample_count FROM latest_values v JOIN metrics m "
      "ON m.id = v.metric WHERE m.run = ? AND m.value IS NOT NULL "
      "ORDER BY m.name <> 'fid', m.id LIMIT 1");
  find.bind(1, run);
  if (!find.executeStep()) return "";
  const auto name = find.getColumn(0).getString();
  return (name == "fid" ? "FID" : name) + "@" + find.getColumn(2).getString() + " " +
         fixed(find.getColumn(1).getDouble(), 2);
}

std::map<std::string, Points> curves_of(SQLite::Database& db, const std::string& key) {
  std::map<std::string, Points> curves;
  SQLite::Statement rows(db,
                         "SELECT name, step, value FROM curves WHERE stage_key = ? AND name IN "
                         "('loss', 'grad_norm') ORDER BY name, step");
  rows.bind(1, key);
  while (rows.executeStep()) {
    if (rows.getColumn(2).isNull()) continue;
    curves[rows.getColumn(0).getString()].emplace_back(rows.getColumn(1).getDouble(),
                                                       rows.getColumn(2).getDouble());
  }
  for (auto& [name, points] : curves) {
    while (points.size() > kPoints) {  // every other one, and always the last
      const auto last = points.back();
      std::size_t kept = 0;
      for (std::size_t i = 0; i < points.size(); i += 2) points[kept++] = points[i];
      points.resize(kept);
      if (points.back() != last) points.push_back(last);
    }
  }
  return curves;
}

bool here(const record::ProgressRecord& record) {
  return record.host == record::host_name() && record::process_token(record.pid) == record.process;
}

bool heard_of(const record::ProgressRecord& record, double now) {
  return record.host != record::host_name() && std::abs(now - record.written) < kHeardOf_s;
}

const record::ProgressRecord* progress_of(const Watched& watched, const WatchedRun& run) {
  for (const auto& record : watched.progress)
    if (record.host == run.host && record.pid == run.pid && record.process == run.process)
      return &record;
  return nullptr;
}

Life life_of(const WatchedRun& run, const Watched& watched) {
  if (run.host == record::host_name())
    return record::process_token(run.pid) == run.process ? Life::alive : Life::gone;
  return progress_of(watched, run) != nullptr ? Life::alive : Life::unknown;
}

std::string clock_text(double unix_seconds) {
  const auto time = static_cast<std::time_t>(unix_seconds);
  std::tm local{};
  localtime_r(&time, &local);
  char text[16];
  std::strftime(text, sizeof text, "%H:%M:%S", &local);
  return text;
}

class Screen {
 public:
  Screen(const Watched& watched, const WatchStyle& style) : watched_(watched), style_(style) {
    head();
    if (watched_.running.empty() && watched_.progress.empty()) {
      line("");
      line("Nothing is running.");
    }
    for (const auto& run : watched_.running) running(run);
    for (const auto& record : watched_.progress) {
      const bool of_run =
          std::any_of(watched_.running.begin(), watched_.running.end(),
                      [&](const WatchedRun& run) { return progress_of(watched_, run) == &record; });
      if (!of_run) other_process(record);
    }
    ended();
  }
  const std::string& text() const { return out_; }

 private:
  void line(const std::string& content) {
    const auto safe = terminal_text(content);
    out_ += (style_.columns > 0 ? shortened(safe, style_.columns) : safe) + "\n";
  }
  void bold(const std::string& content) {
    const auto safe = terminal_text(content);
    const auto shown = style_.columns > 0 ? shortened(safe, style_.columns) : safe;
    out_ += style_.colour ? "\x1b[1m" + shown + "\x1b[0m\n" : shown + "\n";
  }
  // Long text keeps its words: an error's remedy stands at its end.
  void paragraph(const std::string& content) {
    const auto safe = terminal_text(content);
    if (style_.columns <= 0) {
      out_ += "  " + safe + "\n";
      return;
    }
    for (const auto& part : wrapped(safe, std::max(1, style_.columns - 2)))
      out_ += "  " + part + "\n";
  }
  const char* dot() const { return style_.utf8 ? " · " : " - "; }

  void head() {
    std::string counts;
    for (const char* status : {"running", "done", "failed", "interrupted", "crashed"}) {
      const auto found = watched_.counts.find(status);
      if (found == watched_.counts.end() || found->second == 0) continue;
      counts += (counts.empty() ? "" : ", ") + std::to_string(found->second) + " " + status;
    }
    line(watched_.file + dot() + (counts.empty() ? "no runs yet" : counts) + dot() +
         clock_text(watched_.now));
  }

  void running(const WatchedRun& run) {
    line("");
    const char* mark = run.life == Life::alive  ? (style_.utf8 ? "▶ " : "> ")
                       : run.life == Life::gone ? (style_.utf8 ? "✗ " : "x ")
                                                : "? ";
    bold(mark + run.experiment + " / " + run.row + ", seed " + std::to_string(run.seed) + dot() +
         "run " + std::to_string(run.id) + dot() + duration_text(watched_.now - run.started));
    const std::string process = "process " + std::to_string(run.pid) + " on " + run.host;
    if (run.life == Life::gone) {
      paragraph(process + " is gone" + (run.stage.empty() ? "" : ", it was at stage " + run.stage) +
                ": killed, or out of memory. Rerun the same command to resume.");
    } else if (run.life == Life::unknown) {
      paragraph(process + " cannot be seen from here" +
                (run.stage.empty() ? "" : "; recorded at stage " + run.stage) + ".");
    } else if (const auto* record = progress_of(watched_, run)) {
      progress(*record);
    } else {
      paragraph("Stage " + (run.stage.empty() ? std::string("not begun") : run.stage) + ", " +
                process + "; it leaves no word of how far it is.");
    }
  }

  void other_process(const record::ProgressRecord& record) {
    line("");
    bold((style_.utf8 ? "▶ " : "> ") +
         ("dkdm " + (record.command.empty() ? std::string("(unknown command)") : record.command)) +
         dot() + "process " + std::to_string(record.pid) + " on " + record.host);
    progress(record);
  }

  std::string bar(double share) const {
    constexpr int kCells = 20;
    static constexpr const char* kParts[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    share = std::clamp(share, 0.0, 1.0);
    if (!style_.utf8) {
      const int full = static_cast<int>(share * kCells);
      return "[" + std::string(full, '#') + std::string(kCells - full, '.') + "]";
    }
    const int eighths = static_cast<int>(share * kCells * 8);
    std::string text;
    for (int i = 0; i < eighths / 8; ++i) text += "█";
    text += kParts[eighths % 8];
    for (int i = display_width(text); i < kCells; ++i) text += "░";
    return text;
  }

  void progress(const record::ProgressRecord& record) {
    line("  [" + std::to_string(record.stage) + "/" + std::to_string(record.stages) + "] " +
         record.label);
    const double silent = watched_.now - record.written;
    std::string text = "  ";
    if (record.total > 0) {
      text += bar(double(record.done) / double(record.total)) + " " + std::to_string(record.done) +
              "/" + std::to_string(record.total) + " " + record.unit;
    } else {
      text += "at work for " + duration_text(watched_.now - record.stage_started);
    }
    if (const auto rate = record::rate_text(record.each_s); !rate.empty()) text += dot() + rate;
    // The clock runs on while nothing is heard.
    const auto left = [&](double seconds) {
      return duration_text(std::max(0.0, seconds - silent));
    };
    text += std::string(dot()) + "ETA " + left(record.stage_left_s);
    if (record.stages > record.stage) text += " (all stages " + left(record.left_s) + ")";
    line(text);
    if (silent > kSilent_s)
      paragraph("No word from process " + std::to_string(record.pid) + " for " +
                duration_text(silent) + ".");
    if (const auto found = watched_.curves.find(record.key);
        !record.key.empty() && found != watched_.curves.end()) {
      for (const auto* name : {"loss", "grad_norm"})
        if (const auto curve = found->second.find(name); curve != found->second.end())
          plot(name, curve->second);
    }
  }

  void plot(const std::string& name, const Points& points) {
    double low = INFINITY, high = -INFINITY;
    for (const auto& [x, y] : points) {
      if (!std::isfinite(y)) continue;
      low = std::min(low, y);
      high = std::max(high, y);
    }
    if (!(low <= high)) return;
    const auto last = points.back();
    const int room = style_.columns > 0 ? style_.columns : 80;
    const bool logarithmic = low > 0 && high > 10 * low;
    const std::string now = name + " " + readable(last.second) + " at step " + shortest(last.first);
    if (name != "loss" || points.size() < 3) {
      const int columns = std::clamp(room - 4 - display_width(now), 0, 40);
      line("  " + now + "  " + sparkline(points, columns, style_.utf8));
      return;
    }
    line("  " + now + dot() + "lowest " + readable(low) + ", highest " + readable(high) +
         (logarithmic ? ", logarithmic" : ""));
    constexpr int kRows = 4;
    for (const auto& row :
         line_plot(points, std::clamp(room - 4, 10, 72), kRows, style_.utf8, logarithmic)) {
      const auto end = row.find_last_not_of(' ');
      out_ += (style_.utf8 ? "  │" : "  |") +
              row.substr(0, end == std::string::npos ? 0 : end + 1) + "\n";
    }
  }

  void ended() {
    if (watched_.ended.empty()) return;
    Table table{"",
                {{"ended"},
                 {"run", Align::right},
                 {"experiment"},
                 {"row"},
                 {"seed", Align::right},
                 {"state"},
                 {"result"}},
                {}};
    for (const auto& run : watched_.ended) {
      auto& row = table.rows.emplace_back();
      row.push_back(run.ended ? duration_text(watched_.now - *run.ended) + " ago" : "");
      row.push_back(std::to_string(run.id));
      row.push_back(run.experiment);
      row.push_back(run.row);
      row.push_back(std::to_string(run.seed));
      row.push_back(run.status);
      row.back().fault = run.status == "failed" || run.status == "crashed";
      constexpr int kMessage = 160;
      row.push_back(
          run.status == "done" ? run.value
          : run.status == "interrupted"
              ? "rerun the same command to resume"
              : shortened((run.stage.empty() ? "" : run.stage + ": ") + run.message, kMessage));
    }
    out_ += "\n" + table.render(Format::text, style_.colour, style_.columns);
  }

  const Watched& watched_;
  const WatchStyle& style_;
  std::string out_;
};

Cell number(double value) {
  Cell cell(readable(value));
  cell.raw = shortest(value);
  return cell;
}

void add_progress(std::vector<Cell>& row, const record::ProgressRecord* record,
                  const Watched& watched) {
  if (record == nullptr) {
    row.resize(row.size() + 7);
    return;
  }
  row.push_back(record->unit);
  row.push_back(std::to_string(record->done));
  row.push_back(std::to_string(record->total));
  row.push_back(record->each_s > 0 ? number(record->each_s) : Cell());
  row.push_back(number(record->stage_left_s));
  row.push_back(number(record->left_s));
  const auto curves = watched.curves.find(record->key);
  const bool has = curves != watched.curves.end() && curves->second.count("loss") > 0 &&
                   !curves->second.at("loss").empty();
  row.push_back(has ? number(curves->second.at("loss").back().second) : Cell());
}

}  // namespace

Watched look(const std::filesystem::path& file, const std::vector<record::ProgressRecord>& records,
             std::size_t ended) {
  constexpr int kPatience_ms = 2000;
  Watched watched;
  watched.now = record::unix_time();
  watched.file = file.string();
  for (const auto& record : records)
    if (here(record) || heard_of(record, watched.now)) watched.progress.push_back(record);
  Database database(file, OpenMode::read, kPatience_ms);
  database.read([&](SQLite::Database& db) {
    SQLite::Statement counts(
        db,
        "SELECT a.status, count(*) FROM attempts a WHERE a.id = (SELECT max(id) "
        "FROM attempts WHERE run = a.run) GROUP BY a.status");
    while (counts.executeStep())
      watched.counts[counts.getColumn(0).getString()] = counts.getColumn(1).getInt64();
    SQLite::Statement running(
        db, std::string(kLastAttempts) + "AND a.status = 'running' ORDER BY a.started");
    while (running.executeStep()) watched.running.push_back(run_of(running));
    SQLite::Statement last(
        db, std::string(kLastAttempts) +
                "AND a.status <> 'running' ORDER BY coalesce(a.ended, a.started) DESC, "
                "a.id DESC LIMIT ?");
    last.bind(1, static_cast<std::int64_t>(ended));
    while (last.executeStep()) watched.ended.push_back(run_of(last));
    for (auto& run : watched.ended)
      if (run.status == "done") run.value = value_of(db, run.id);
    for (const auto& record : watched.progress)
      if (!record.key.empty()) watched.curves[record.key] = curves_of(db, record.key);
  });
  for (auto& run : watched.running) run.life = life_of(run, watched);
  // Those that are gone count as what the next writer will call them.
  for (const auto& run : watched.running) {
    if (run.life != Life::gone) continue;
    --watched.counts["running"];
    ++watched.counts["crashed"];
  }
  return watched;
}

std::string watch_text(const Watched& watched, const WatchStyle& style) {
  return Screen(watched, style).text();
}

Table watch_table(const Watched& watched) {
  const auto right = Align::right;
  Table table{"",
              {{"run", right, true},
               {"experiment"},
               {"row"},
               {"seed", right, true},
               {"state"},
               {"host"},
               {"pid", right, true},
               {"stage"},
               {"unit"},
               {"done", right, true},
               {"total", right, true},
               {"rate_s", right, true},
               {"stage_left_s", right, true},
               {"left_s", right, true},
               {"loss", right, true},
               {"message"}},
              {}};
  std::vector<const record::ProgressRecord*> shown;
  const auto add = [&](const WatchedRun& run) {
    const auto* record = run.ended ? nullptr : progress_of(watched, run);
    shown.push_back(record);
    auto& row = table.rows.emplace_back();
    const char* life = run.life == Life::alive  ? "running"
                       : run.life == Life::gone ? "gone"
                                                : "unknown";
    row = {std::to_string(run.id),
           run.experiment,
           run.row,
           std::to_string(run.seed),
           run.status == "running" ? std::string(life) : run.status,
           run.host,
           std::to_string(run.pid),
           record != nullptr ? record->label : run.stage};
    add_progress(row, record, watched);
    row.emplace_back(run.status == "running" ? "" : run.message);
  };
  for (const auto& run : watched.running) add(run);
  for (const auto& record : watched.progress) {
    if (std::find(shown.begin(), shown.end(), &record) != shown.end()) continue;
    auto& row = table.rows.emplace_back();
    row = {Cell(),      Cell(), Cell(), Cell(), "running", record.host, std::to_string(record.pid),
           record.label};
    add_progress(row, &record, watched);
    row.emplace_back("dkdm " + record.command);
  }
  for (const auto& run : watched.ended) add(run);
  return table;
}

}  // namespace dkdm::results

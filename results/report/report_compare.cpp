// Cell by cell: which values compare, and which got worse by more than their spread.
#include "results/report/report_compare.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <set>
#include <tuple>

#include "dkdm/documents.hpp"
#include "dkdm/error.hpp"
#include "dkdm/json.hpp"
#include "results/report/report_data.hpp"
#include "results/report/report_lines.hpp"
#include "results/report/report_source.hpp"
#include "results/store/database.hpp"
#include "results/store/import.hpp"
#include "results/store/scratch.hpp"

namespace dkdm::results {
namespace {

using Json = nlohmann::json;

// Numbers that JSON cannot hold were written as null.
double number_or_nan(const Json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : io::as<double>(value);
}

ReportTable table_from(const Json& json) {
  ReportTable table;
  io::read_field(json, "experiment", table.experiment);
  io::read_field(json, "protocol", table.protocol);
  io::read_field(json, "reference", table.reference);
  io::read_field(json, "weights", table.weights);
  io::read_field(json, "sample_count", table.sample_count);
  for (const auto& row : json.at("rows")) {
    auto& line = table.lines.emplace_back();
    io::read_field(row, "row", line.row);
    line.variant = row.value("variant", "");
    line.setting = row.value("setting", "");
    io::read_field(row, "status", line.status);
    for (const auto& [name, value] : row.at("metrics").items()) {
      auto& estimate = line.metrics[name];
      estimate.mean = number_or_nan(value.at("mean"));
      if (!value.at("std").is_null()) estimate.std = io::as<double>(value.at("std"));
      io::read_field(value, "seeds", estimate.count);
      io::read_field(value, "higher_is_better", table.higher_is_better[name]);
    }
  }
  return table;
}

using Texts = std::map<std::string, std::string>;

// What is compared, with the settings of the runs behind it where a database has them.
struct Side {
  std::vector<ReportTable> tables;
  std::map<std::int64_t, Texts> settings{};  // by run
};

Side load_side(const std::filesystem::path& file, const std::vector<std::string>& experiments,
               const ReportChoice& choice) {
  Side side{gather(file, experiments, choice, Depth::table)};
  Database(file, OpenMode::read).read([&](SQLite::Database& db) {
    for (const auto& table : side.tables)
      for (const auto& line : table.lines)
        if (!line.runs.empty())
          side.settings[line.runs.front()] = load_settings(db, line.runs.front());
    return 0;
  });
  return side;
}

Side load_other(const std::filesystem::path& file) {
  std::error_code absent;
  if (!std::filesystem::exists(file, absent)) {
    throw DataError(file.string(), "no such file; expected a database or a JSON report");
  }
  if (is_database(file)) {
    const Scratch scratch(std::filesystem::temp_directory_path());
    const auto copy = scratch.path() / "other.sqlite";
    import_database(file, copy);
    return load_side(copy, {}, {});
  }
  Side side;
  try {
    for (const auto& table : Json::parse(io::read_document(file)))
      side.tables.push_back(table_from(table));
  } catch (const Json::exception&) {  // whose words are about its own code
    throw ConfigError(file.string(),
                      "neither a results database nor a report that `dkdm report "
                      "--format json` wrote");
  }
  return side;
}

// One value with what it was measured under.
struct Entry {
  const ReportTable* table;
  const ReportLine* line;
  const Estimate* value;  // null: the row has none
};

using Name = std::tuple<std::string, std::string, std::string>;  // experiment, row, metric

// Lines of one row are told apart by their settings.
std::string name_of(const ReportLine& line) {
  return line.setting.empty() ? line.row : line.row + " (" + line.setting + ")";
}

// The first thing that keeps two values from being compared; "" when nothing does.
std::string obstacle(const ReportTable& here, const ReportTable& there) {
  const auto differ = [](const std::string& what, const std::string& a, const std::string& b) {
    return a == b ? "" : what + " " + a + " here, " + b + " there";
  };
  for (const auto& difference : {differ("protocol", here.protocol, there.protocol),
                                 differ("sample count", std::to_string(here.sample_count),
                                        std::to_string(there.sample_count)),
                                 differ("weights", here.weights, there.weights),
                                 differ("reference", here.reference, there.reference)}) {
    if (!difference.empty()) return difference;
  }
  return "";
}

class Comparer {
 public:
  Comparer(const Side& here, const Side& there, const Tolerance& tolerance)
      : here_(here), there_(there), tolerance_(tolerance) {
    auto& columns = out_.table.columns;
    for (const char* title : {"experiment", "row", "metric"}) columns.push_back({title});
    for (const char* title : {"this", "other", "worse by", "allowed"}) {
      columns.push_back({title, Align::right, true});
    }
    columns.push_back({"verdict"});
  }

  Comparison run() {
    std::vector<Name> names;
    for (const auto* side : {&here_, &there_}) {
      for (const auto& table : side->tables) {
        for (const auto& line : table.lines) {
          for (const auto& [metric, value] : line.metrics) {
            const Name name{table.experiment, name_of(line), metric};
            if (seen_.insert(name).second) names.push_back(name);
          }
        }
      }
    }
    for (const auto& name : names) compare(name);
    return std::move(out_);
  }

 private:
  static std::vector<Entry> find(const std::vector<ReportTable>& tables, const Name& name) {
    const auto& [experiment, row, metric] = name;
    std::vector<Entry> entries;
    for (const auto& table : tables) {
      if (table.experiment != experiment) continue;
      for (const auto& line : table.lines) {
        if (name_of(line) != row) continue;
        const auto value = line.metrics.find(metric);
        entries.push_back({&table, &line, value == line.metrics.end() ? nullptr : &value->second});
      }
    }
    return entries;
  }

  void compare(const Name& name) {
    const auto ours = find(here_.tables, name), theirs = find(there_.tables, name);
    std::string why;
    bool matched = false;
    for (const auto& mine : ours) {
      for (const auto& other : theirs) {
        if (mine.value == nullptr || other.value == nullptr) continue;
        const auto difference = obstacle(*mine.table, *other.table);
        if (difference.empty()) {
          judge(name, *mine.value, *other.value,
                other.table->higher_is_better.at(std::get<2>(name)));
          matched = true;
          note_configurations(name, *mine.line, *other.line);
        } else if (why.empty()) {
          why = "not comparable: " + difference;
        }
      }
    }
    if (matched) return;
    const auto with_value = [](const Entry& entry) { return entry.value != nullptr; };
    const auto mine = std::find_if(ours.begin(), ours.end(), with_value);
    const auto other = std::find_if(theirs.begin(), theirs.end(), with_value);
    const Estimate* mine_value = mine == ours.end() ? nullptr : mine->value;
    const Estimate* other_value = other == theirs.end() ? nullptr : other->value;
    if (mine_value != nullptr && other_value != nullptr) {
      add(name, mine_value, other_value, {}, {}, why, false);
    } else if (mine_value != nullptr) {
      add(name, mine_value, nullptr, {}, {}, "only here", false);
    } else {
      const auto status = ours.empty() ? "not run" : ours.front().line->status;
      const bool lost = status != "not run" && status != "running";
      const auto verdict = "REGRESSION: " + (status == "done" ? "no value" : status);
      add(name, nullptr, other_value, {}, {}, lost ? verdict : "only there", lost);
      out_.regressions += lost;
      out_.compared += lost;
    }
  }

  // Once a row: values of two configurations compare, but what made them differ may not be the
  // code.
  void note_configurations(const Name& name, const ReportLine& ours, const ReportLine& theirs) {
    if (ours.variant.empty() || theirs.variant.empty() || ours.variant == theirs.variant) return;
    const auto& [experiment, row, metric] = name;
    if (!noted_.insert(experiment + "\n" + row).second) return;
    constexpr std::size_t kShortName = 8;
    std::string note = experiment + ", " + row + ": two configurations, variant " +
                       ours.variant.substr(0, kShortName) + " here and " +
                       theirs.variant.substr(0, kShortName) + " there";
    const Texts *here = settings_of(here_, ours), *there = settings_of(there_, theirs);
    if (here && there) {
      const std::string differences = setting_differences(*here, *there);
      note += differences.empty()
                  ? ": the settings agree, a plugin's version or what a file holds does not"
                  : ": there " + differences;
    }
    out_.notes.push_back(note);
  }

  static const Texts* settings_of(const Side& side, const ReportLine& line) {
    const auto found =
        line.runs.empty() ? side.settings.end() : side.settings.find(line.runs.front());
    return found == side.settings.end() ? nullptr : &found->second;
  }

  void judge(const Name& name, const Estimate& ours, const Estimate& theirs,
             bool higher_is_better) {
    ++out_.compared;
    if (!std::isfinite(theirs.mean)) {
      add(name, &ours, &theirs, {}, {}, std::isfinite(ours.mean) ? "better" : "equal", false);
      return;
    }
    if (!std::isfinite(ours.mean)) {
      ++out_.regressions;
      add(name, &ours, &theirs, {}, {}, "REGRESSION: not finite", true);
      return;
    }
    const double worse = higher_is_better ? theirs.mean - ours.mean : ours.mean - theirs.mean;
    const double allowed = allowance(ours, theirs);
    // The same computation on another processor may differ in the last digits.
    const double rounding = 1e-9 * std::abs(theirs.mean);
    const bool regression = worse > allowed + rounding;
    out_.regressions += regression;
    const char* verdict = "within";
    if (regression) verdict = "REGRESSION";
    else if (std::abs(worse) <= rounding) verdict = "equal";
    else if (worse < 0) verdict = "better";
    add(name, &ours, &theirs, worse, allowed, verdict, regression);
  }

  double allowance(const Estimate& a, const Estimate& b) const {
    if (!a.std || !b.std) return tolerance_.margin * std::abs(b.mean);
    const double squares = (a.count - 1) * *a.std * *a.std + (b.count - 1) * *b.std * *b.std;
    return tolerance_.deviations * std::sqrt(squares / (a.count + b.count - 2));
  }

  void add(const Name& name, const Estimate* ours, const Estimate* theirs,
           std::optional<double> worse, std::optional<double> allowed, const std::string& verdict,
           bool fault) {
    const auto& [experiment, row, metric] = name;
    const int decimals = metric_decimals(metric) + 1;
    const auto value = [&](const Estimate* estimate) {
      if (estimate == nullptr) return Cell();
      Cell cell(estimate_text(*estimate, decimals));
      cell.raw = shortest(estimate->mean);
      return cell;
    };
    const auto number = [&](std::optional<double> amount) {
      if (!amount) return Cell();
      Cell cell(fixed(*amount, decimals));
      cell.raw = shortest(*amount);
      return cell;
    };
    Cell judgement(verdict);
    judgement.fault = fault;
    out_.table.rows.push_back({shortened(experiment, kLabelWidth), shortened(row, kLabelWidth),
                               metric, value(ours), value(theirs), number(worse), number(allowed),
                               judgement});
  }

  const Side& here_;
  const Side& there_;
  Tolerance tolerance_;
  std::set<Name> seen_;
  std::set<std::string> noted_;  // experiment and row
  Comparison out_;
};

}  // namespace

Comparison compare_reports(const std::filesystem::path& file,
                           const std::vector<std::string>& experiments, const ReportChoice& choice,
                           const std::filesystem::path& other, const Tolerance& tolerance) {
  auto there = load_other(other);
  if (!experiments.empty()) {
    const auto unasked = [&](const ReportTable& table) {
      return std::find(experiments.begin(), experiments.end(), table.experiment) ==
             experiments.end();
    };
    std::erase_if(there.tables, unasked);
  }
  const auto here = load_side(file, experiments, choice);
  return Comparer(here, there, tolerance).run();
}

}  // namespace dkdm::results

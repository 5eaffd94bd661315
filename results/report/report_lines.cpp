// From what was asked for and what is on record to the lines of a table.
#include "results/report/report_lines.hpp"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <set>
#include <tuple>

#include "dkdm/error.hpp"
#include "results/report/report_data.hpp"
#include "results/store/settings.hpp"

namespace dkdm::results {
namespace {

using Texts = std::map<std::string, std::string>;

constexpr std::size_t kShortName = 8;  // of a variant's name

std::string short_name(const std::string& variant) { return variant.substr(0, kShortName); }

bool begun_later(const Run* a, const Run* b) {
  return b == nullptr || std::tie(a->created, a->id) > std::tie(b->created, b->id);
}
bool counts_more(const Run* a, const Run* b) {
  if (b == nullptr || a->pinned != b->pinned) return b == nullptr || a->pinned;
  return begun_later(a, b);
}

record::RunRecord cell_of(const Run& run, const std::string& experiment) {
  record::RunRecord cell;
  cell.experiment = experiment;
  cell.title = run.title;
  cell.scale = run.scale;
  cell.table = run.shape;
  cell.published_section = run.published_section;
  cell.published_row = run.published_row;
  cell.row = run.row;
  cell.label = run.label;
  cell.row_order = run.row_order;
  cell.seed = run.seed;
  cell.key = run.key;
  cell.samples = run.samples;
  cell.variant = run.variant;
  cell.method = run.method;
  return cell;
}

// "0.10" is 0.1.
bool same_value(const std::string& a, const std::string& b) {
  char *end_a = nullptr, *end_b = nullptr;
  const double number_a = std::strtod(a.c_str(), &end_a), number_b = std::strtod(b.c_str(), &end_b);
  const bool numbers = !a.empty() && !b.empty() && *end_a == 0 && *end_b == 0;
  return a == b || (numbers && number_a == number_b);
}

class Chooser {
 public:
  Chooser(SQLite::Database& db, const std::vector<Run>& runs, const std::string& experiment,
          const ReportChoice& choice)
      : db_(db), runs_(runs), experiment_(experiment), choice_(choice) {
    for (const auto& run : runs_) by_row_[run.row].push_back(&run);
  }

  Lines choose() {
    auto cells = asked();
    apply_variants(cells);
    apply_settings(cells);
    if (cells.empty()) {
      throw ConfigError("report", "no runs of experiment '" + experiment_ +
                                      "' are on record; `dkdm runs` lists those that are");
    }
    for (const auto& cell : cells) place(cell);
    join_rows();
    name_settings();
    describe();
    note_pins();
    note_other_configurations();
    return std::move(out_);
  }

 private:
  std::vector<record::RunRecord> asked() {
    std::vector<record::RunRecord> cells;
    for (const auto& cell : choice_.asked) {
      if (cell.experiment == experiment_) cells.push_back(cell);
    }
    if (!cells.empty()) return cells;
    if (const auto request = last_request(db_, experiment_)) {
      cells = load_request(db_, request->id);
      const auto when = time_text(request->recorded);
      out_.notes.push_back(
          request->command.empty()
              ? "The newest run of each row and seed; no command is on record from before " + when +
                    "."
              : "As the last command asked for: " + shortened(request->command, kReasonWidth) +
                    " (" + when + (request->host.empty() ? "" : ", " + request->host) + ").");
      apply_pins(cells);
      return cells;
    }
    std::set<std::string> seen;
    for (const auto& run_of_row : runs_) {
      const auto& row = run_of_row.row;
      if (!seen.insert(row).second) continue;
      const Run* newest = nullptr;
      for (const auto* run : by_row_.at(row)) {
        if (begun_later(run, newest)) newest = run;
      }
      for (auto& cell : recorded(row, newest->variant)) cells.push_back(std::move(cell));
    }
    std::stable_sort(cells.begin(), cells.end(),
                     [](const auto& a, const auto& b) { return a.row_order < b.row_order; });
    apply_pins(cells);
    return cells;
  }

  // The cells of one configuration of a row that are on record, one for each seed.
  std::vector<record::RunRecord> recorded(const std::string& row,
                                          const std::string& variant) const {
    std::map<std::int64_t, const Run*> best;
    for (const auto* run : by_row_.at(row)) {
      if (run->variant != variant) continue;
      auto& chosen = best[run->seed];
      const bool done = run->status == "done";
      const bool chosen_done = chosen != nullptr && chosen->status == "done";
      if (chosen == nullptr || (done != chosen_done ? done : counts_more(run, chosen)))
        chosen = run;
    }
    std::vector<record::RunRecord> cells;
    for (const auto& [seed, run] : best) cells.push_back(cell_of(*run, experiment_));
    return cells;
  }

  // In rows that have a pinned run its configuration takes the place of what was asked for.
  void apply_pins(std::vector<record::RunRecord>& cells) const {
    for (const auto& [row, runs] : by_row_) {
      std::vector<std::string> pinned;
      for (const auto* run : runs) {
        if (run->pinned && std::find(pinned.begin(), pinned.end(), run->variant) == pinned.end()) {
          pinned.push_back(run->variant);
        }
      }
      if (!pinned.empty()) replace(cells, row, pinned);
    }
  }

  void replace(std::vector<record::RunRecord>& cells, const std::string& row,
               const std::vector<std::string>& variants) const {
    const auto of_row = [&](const record::RunRecord& cell) { return cell.row == row; };
    auto at = std::find_if(cells.begin(), cells.end(), of_row);
    if (at == cells.end()) return;  // the row was not asked for
    std::vector<record::RunRecord> chosen;
    for (const auto& variant : variants) {
      auto more = recorded(row, variant);
      std::move(more.begin(), more.end(), std::back_inserter(chosen));
    }
    const auto position = at - cells.begin();
    cells.erase(std::remove_if(at, cells.end(), of_row), cells.end());
    cells.insert(cells.begin() + position, chosen.begin(), chosen.end());
  }

  void apply_variants(std::vector<record::RunRecord>& cells) {
    if (choice_.variants.empty()) return;
    const bool all = choice_.variants == std::vector<std::string>{"all"};
    std::set<std::string> met;
    for (const auto& [row, runs] : by_row_) {
      std::vector<std::string> variants;
      for (const auto* run : runs) {
        const bool chosen =
            all || std::any_of(choice_.variants.begin(), choice_.variants.end(),
                               [&](const std::string& name) {
                                 const bool named = !name.empty() && run->variant.starts_with(name);
                                 if (named) met.insert(name);
                                 return named;
                               });
        if (chosen && std::find(variants.begin(), variants.end(), run->variant) == variants.end()) {
          variants.push_back(run->variant);
        }
      }
      if (variants.empty()) continue;
      const bool listed =
          std::any_of(cells.begin(), cells.end(),
                      [&, &row = row](const auto& cell) { return cell.row == row; });
      if (listed) {
        replace(cells, row, variants);
      } else {
        for (const auto& variant : variants) {
          for (auto& cell : recorded(row, variant)) cells.push_back(std::move(cell));
        }
      }
    }
    for (const auto& name : choice_.variants) {
      if (!all && met.count(name) == 0) {
        throw ConfigError("--variant " + name, "no variant of experiment '" + experiment_ +
                                                   "' begins so; the view `variants` has them all");
      }
    }
  }

  Texts settings_of_cell(const record::RunRecord& cell) const {
    const Run* newest = nullptr;
    for (const auto* run : by_row_.at(cell.row)) {
      if (run->variant == cell.variant && begun_later(run, newest)) newest = run;
    }
    if (newest != nullptr) return load_settings(db_, newest->id);
    Texts texts;
    for (const auto& [key, value] : settings_of(cell.config, cell.row)) texts[key] = to_text(value);
    return texts;
  }

  void apply_settings(std::vector<record::RunRecord>& cells) const {
    std::set<std::string> unknown;
    for (const auto& [key, value] : choice_.settings) unknown.insert(key);
    for (const auto& [row, runs] : by_row_) {
      const auto asked =
          std::find_if(cells.begin(), cells.end(),
                       [&, &row = row](const auto& cell) { return cell.row == row; });
      if (choice_.settings.empty() || asked == cells.end()) continue;
      const auto ours = settings_of_cell(*asked);
      Texts wanted;
      for (const auto& [key, value] : choice_.settings) {
        const auto own = "row." + row + ".";
        const auto name = key.starts_with(own) ? key.substr(own.size()) : key;
        if (ours.count(name) == 0) continue;  // another row's, or one that this row does not have
        wanted[name] = value;
        unknown.erase(key);
      }
      if (wanted.empty()) continue;
      const auto chosen = nearest_variant(runs, ours, wanted);
      if (!chosen.empty()) {
        replace(cells, row, {chosen});
        continue;
      }
      // Not another's number: a key that no run has.
      for (auto& cell : cells) {
        if (cell.row == row) cell.key = cell.samples = cell.variant = "";
      }
    }
    if (!unknown.empty()) {
      throw ConfigError("--set " + *unknown.begin(),
                        "no row of experiment '" + experiment_ + "' on record has this setting");
    }
  }

  // The variant whose settings are `wanted` and otherwise differ least from `ours`; of equals the
  // newest.
  std::string nearest_variant(const std::vector<const Run*>& runs, const Texts& ours,
                              const Texts& wanted) const {
    std::map<std::string, const Run*> variants;  // their newest runs
    for (const auto* run : runs) {
      auto& newest = variants[run->variant];
      if (begun_later(run, newest)) newest = run;
    }
    const Run* best = nullptr;
    std::size_t fewest = 0;
    for (const auto& [variant, run] : variants) {
      const auto theirs = load_settings(db_, run->id);
      const bool fits = std::all_of(wanted.begin(), wanted.end(), [&](const auto& setting) {
        const auto found = theirs.find(setting.first);
        return found != theirs.end() && same_value(found->second, setting.second);
      });
      if (!fits) continue;
      std::size_t other = 0;
      for (const auto& [key, value] : theirs) {
        const auto here = ours.find(key);
        other += wanted.count(key) == 0 && (here == ours.end() || here->second != value);
      }
      if (best != nullptr && (other > fewest || (other == fewest && !begun_later(run, best))))
        continue;
      best = run;
      fewest = other;
    }
    return best == nullptr ? "" : best->variant;
  }

  // Puts the cell into its line, with the runs that are on record of it.
  void place(const record::RunRecord& cell) {
    auto line = std::find_if(out_.lines.begin(), out_.lines.end(), [&](const LineRecord& l) {
      return l.row.row == cell.row && l.row.variant == cell.variant;
    });
    if (line == out_.lines.end()) {
      out_.lines.push_back({cell, "", {}});
      line = std::prev(out_.lines.end());
    }
    auto& found = line->cells[cell.seed];
    std::vector<const Run*> others;
    const Run *newest = nullptr, *counts = nullptr;
    const auto runs = by_row_.find(cell.row);
    if (runs == by_row_.end()) return;
    for (const auto* run : runs->second) {
      if (run->seed != cell.seed) continue;
      const bool done = run->status == "done";
      if (run->key == cell.key) {
        if (begun_later(run, newest)) newest = run;
        if (done && counts_more(run, counts)) counts = run;
      }
      if (done && run->samples == cell.samples) others.push_back(run);
    }
    // A second key of the cell asks for another evaluator.
    if (found.newest == nullptr) found.newest = newest;
    else if (newest != nullptr && newest->status != "done") found.also.push_back(newest);
    if (found.counts != nullptr || counts == nullptr) return;
    found.counts = counts;
    for (const auto& [conditions, list] : found.counts->metrics) {
      found.values[conditions] = {found.counts, list};
    }
    // The same samples by other evaluators.
    std::sort(others.begin(), others.end(), counts_more);
    for (const auto* other : others) {
      for (const auto& [conditions, list] : other->metrics) {
        auto& known = found.values[conditions];
        if (known.run == nullptr) known.run = other;
        std::set<std::string> names;
        for (const auto& measured : known.list) names.insert(measured.name);
        for (const auto& measured : list) {
          if (names.count(measured.name) == 0) known.list.push_back(measured);
        }
      }
    }
  }

  // Lines of one row stand together, where its first one stands.
  void join_rows() {
    std::map<std::string, std::size_t> first;
    for (const auto& line : out_.lines) first.emplace(line.row.row, first.size());
    std::stable_sort(out_.lines.begin(), out_.lines.end(), [&](const auto& a, const auto& b) {
      return first.at(a.row.row) < first.at(b.row.row);
    });
  }

  Texts settings_of_line(const LineRecord& line) const {
    for (const auto& [seed, cell] : line.cells) {
      const auto* run = cell.counts != nullptr ? cell.counts : cell.newest;
      if (run != nullptr) return load_settings(db_, run->id);
    }
    Texts texts;
    for (const auto& [key, value] : settings_of(line.row.config, line.row.row)) {
      texts[key] = to_text(value);
    }
    return texts;
  }

  // Lines of one row are told apart by the settings that differ among them.
  void name_settings() {
    std::map<std::string, std::vector<LineRecord*>> rows;
    for (auto& line : out_.lines) rows[line.row.row].push_back(&line);
    for (auto& [row, lines] : rows) {
      if (lines.size() < 2) continue;
      std::vector<Texts> settings;
      std::set<std::string> keys;
      for (const auto* line : lines) settings.push_back(settings_of_line(*line));
      for (const auto& texts : settings) {
        for (const auto& [key, value] : texts) keys.insert(key);
      }
      for (const auto& key : keys) {
        if (key.starts_with("evaluator.") || key.starts_with("experiment.")) continue;
        const auto value = [&](const Texts& texts) {
          const auto found = texts.find(key);
          return found == texts.end() ? std::string("none") : found->second;
        };
        const auto same = [&](const Texts& texts) { return value(texts) == value(settings[0]); };
        if (std::all_of(settings.begin(), settings.end(), same)) continue;
        for (std::size_t i = 0; i < lines.size(); ++i) {
          auto& setting = lines[i]->setting;
          setting += (setting.empty() ? "" : ", ") + key + " = " + value(settings[i]);
        }
      }
      for (auto* line : lines) {
        const bool alone = std::count_if(lines.begin(), lines.end(), [&](const LineRecord* other) {
                             return other->setting == line->setting;
                           }) == 1;
        // The settings are the same: another version of a plugin, other data.
        if (!alone) {
          line->setting += (line->setting.empty() ? "" : ", ") + std::string("variant ") +
                           short_name(line->row.variant);
        }
      }
    }
  }

  void describe() {
    const auto& first = out_.lines.front().row;
    const Run* newest = nullptr;
    for (const auto& run : runs_) {
      if (begun_later(&run, newest)) newest = &run;
    }
    out_.title = !first.title.empty() ? first.title : newest != nullptr ? newest->title : "";
    out_.scale = !first.scale.empty() ? first.scale : newest != nullptr ? newest->scale : "";
    out_.shape = !first.table.empty() ? first.table : newest != nullptr ? newest->shape : "";
    if (out_.title.empty()) out_.title = experiment_;
  }

  static std::string shown_label(const record::RunRecord& row) {
    return shortened(row.label.empty() ? row.row : row.label, kLabelWidth);
  }

  void note_pins() {
    for (const auto& line : out_.lines) {
      for (const auto& [seed, cell] : line.cells) {
        if (cell.counts == nullptr || !cell.counts->pinned) continue;
        out_.notes.push_back(
            shown_label(line.row) + ": run " + std::to_string(cell.counts->id) + " (seed " +
            std::to_string(seed) + ") is pinned as the one that counts" +
            (cell.counts->note.empty() ? "." : ": " + shortened(cell.counts->note, kReasonWidth)));
      }
    }
  }

  // What is on record and not in the table: other configurations of its rows, other seeds, other
  // rows.
  void note_other_configurations() {
    constexpr std::size_t kListed = 8;
    std::vector<std::string> found;
    std::set<std::string> rows;
    std::string other_rows;
    for (const auto& line : out_.lines) {
      if (!rows.insert(line.row.row).second || by_row_.count(line.row.row) == 0) continue;
      note_variants_of(line, found);
    }
    for (const auto& [row, runs] : by_row_) {
      if (rows.count(row) == 0) other_rows += (other_rows.empty() ? "" : ", ") + row;
    }
    if (found.size() > kListed) {
      const auto more = found.size() - kListed;
      found.resize(kListed);
      found.push_back("And " + std::to_string(more) + " more configurations: `dkdm report " +
                      experiment_ + " --variant all`.");
    }
    std::move(found.begin(), found.end(), std::back_inserter(out_.notes));
    if (!other_rows.empty()) {
      out_.notes.push_back("Other rows on record: " + shortened(other_rows, kReasonWidth) + ".");
    }
  }

  void note_variants_of(const LineRecord& line, std::vector<std::string>& found) const {
    struct Other {
      const Run* newest = nullptr;
      std::set<std::int64_t> seeds;
      std::size_t runs = 0;
      bool done = false;
    };
    std::vector<std::pair<std::string, Other>> others;  // by variant, oldest first
    std::set<std::int64_t> more_seeds;
    for (const auto* run : by_row_.at(line.row.row)) {
      const auto shown = std::find_if(out_.lines.begin(), out_.lines.end(), [&](const auto& l) {
        return l.row.row == run->row && l.row.variant == run->variant;
      });
      if (shown != out_.lines.end()) {
        if (run->status == "done" && shown->cells.count(run->seed) == 0)
          more_seeds.insert(run->seed);
        continue;
      }
      auto other = std::find_if(others.begin(), others.end(),
                                [&](const auto& o) { return o.first == run->variant; });
      if (other == others.end()) {
        others.push_back({run->variant, {}});
        other = std::prev(others.end());
      }
      ++other->second.runs;
      other->second.seeds.insert(run->seed);
      other->second.done = other->second.done || run->status == "done";
      if (begun_later(run, other->second.newest)) other->second.newest = run;
    }
    if (!more_seeds.empty()) {
      std::string seeds;
      for (const auto seed : more_seeds)
        seeds += (seeds.empty() ? "" : ", ") + std::to_string(seed);
      found.push_back(shown_label(line.row) + ": also on record with seed" +
                      (more_seeds.size() > 1 ? "s " : " ") + seeds + ".");
    }
    if (others.empty()) return;
    const auto ours = settings_of_line(line);
    for (const auto& [variant, other] : others) {
      const auto what = setting_differences(ours, load_settings(db_, other.newest->id));
      if (what.empty() && !other.done) continue;  // an attempt at this very configuration
      auto text = shown_label(line.row) + ": another configuration on record, variant " +
                  short_name(variant) + ": " +
                  (what.empty() ? "the same settings, but other versions of plugins or other data"
                                : shortened(what, kReasonWidth));
      text += " (run " + std::to_string(other.newest->id);
      if (other.seeds.size() > 1) text += ", " + std::to_string(other.seeds.size()) + " seeds";
      if (!other.done) text += ", " + other.newest->status;
      if (other.newest->pinned) text += ", pinned: " + shortened(other.newest->note, kLabelWidth);
      found.push_back(text + ").");
    }
  }

  SQLite::Database& db_;
  const std::vector<Run>& runs_;
  const std::string& experiment_;
  const ReportChoice& choice_;
  std::map<std::string, std::vector<const Run*>> by_row_;
  Lines out_;
};

}  // namespace

std::string setting_differences(const Texts& ours, const Texts& theirs) {
  constexpr int kNamed = 3;
  std::string text;
  int count = 0;
  const auto add = [&](const std::string& part) {
    if (++count <= kNamed) text += (text.empty() ? "" : ", ") + part;
  };
  const auto skipped = [](const std::string& key) {
    return key.starts_with("evaluator.") || key.starts_with("experiment.") ||
           key.starts_with("evaluation.");
  };
  for (const auto& [key, value] : theirs) {
    if (skipped(key)) continue;
    const auto here = ours.find(key);
    if (here == ours.end()) add(key + " = " + value);
    else if (here->second != value) add(key + " = " + value + " instead of " + here->second);
  }
  for (const auto& [key, value] : ours) {
    if (!skipped(key) && theirs.count(key) == 0) add("no " + key);
  }
  if (count > kNamed) text += " and " + std::to_string(count - kNamed) + " more";
  return text;
}

Lines choose_lines(SQLite::Database& db, const std::vector<Run>& runs,
                   const std::string& experiment, const ReportChoice& choice) {
  return Chooser(db, runs, experiment, choice).choose();
}

}  // namespace dkdm::results

// dkdm reproduce: are published values reproduced here? Checks of a file, against their tolerances.
#include <algorithm>
#include <cstdio>
#include <map>

#include "cli/commands.hpp"
#include "cli/reproduce.hpp"
#include "cli/session.hpp"
#include "run/progress.hpp"

namespace dkdm::cli {
namespace {

namespace fs = std::filesystem;
namespace po = boost::program_options;

using run::Verdict;

fs::path checks_folder(const Context& context) { return context.experiments() / "reproduce"; }

// Names of the shipped files of checks, sorted.
std::vector<std::string> shipped_checks(const Context& context) {
  std::vector<std::string> names;
  std::error_code absent;
  for (fs::directory_iterator entry(checks_folder(context), absent), end; !absent && entry != end;
       entry.increment(absent))
    if (entry->path().extension() == ".toml") names.push_back(entry->path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

config::Checks read_checks(const fs::path& file, Context& context) {
  return config::load_checks(file, context.experiments(), context.registry());
}

// A file of one's own, or the name of a shipped one.
fs::path checks_file(const std::string& word, const Options& options, const Context& context) {
  std::error_code absent;
  if (fs::is_regular_file(word, absent)) return word;
  const auto names = shipped_checks(context);
  if (std::find(names.begin(), names.end(), word) != names.end())
    return checks_folder(context) / (word + ".toml");
  std::string known;
  for (const auto& name : names) known += name + ", ";
  options.unknown("reproduce", word, names, known + "or a file of checks");
}

int list_what_there_is(const Options& options, Context& context) {
  results::Table table;
  table.columns = {{"name"}, {"checks", results::Align::right, true}, {"title"}, {"file"}};
  for (const auto& name : shipped_checks(context)) {
    const auto checks = read_checks(checks_folder(context) / (name + ".toml"), context);
    table.rows.push_back(
        {name, std::to_string(checks.checks.size()), checks.title, checks.file.string()});
  }
  options.print(table);
  return 0;
}

// Those that --only names, in the order of the file.
std::vector<config::Check> selected(const Options& options, const config::Checks& all) {
  if (!options.has("only")) return all.checks;
  const auto names = split(options.get<std::string>("only"), ',');
  std::vector<std::string> ids;
  for (const auto& check : all.checks) ids.push_back(check.id);
  const auto is_meant = [](const std::string& name) {
    return [name](const std::string& id) { return config::means(name, id); };
  };
  for (const auto& name : names)
    if (std::none_of(ids.begin(), ids.end(), is_meant(name))) {
      std::string known;
      for (const auto& id : ids) known += (known.empty() ? "" : ", ") + id;
      options.unknown("reproduce --only", name, ids, known);
    }
  if (names.empty()) throw ConfigError("--only", "names no check");
  std::vector<config::Check> chosen;
  for (const auto& check : all.checks)
    if (std::any_of(names.begin(), names.end(),
                    [&](const std::string& name) { return config::means(name, check.id); }))
      chosen.push_back(check);
  return chosen;
}

const char* text_of(Need::State state) {
  switch (state) {
    case Need::State::there: return "there";
    case Need::State::missing: return "missing";
    case Need::State::unusable: break;
  }
  return "unusable";
}

// What the checks read, once for all that read it.
results::Table files_table(const std::vector<ReadyCheck>& checks) {
  struct Line {
    const Need* need;
    std::string checks;
  };
  std::vector<Line> lines;
  for (const auto& check : checks)
    for (const auto& need : check.needs) {
      const auto known = std::find_if(lines.begin(), lines.end(), [&](const Line& line) {
        return line.need->what == need.what && line.need->state == need.state &&
               line.need->place == need.place;
      });
      if (known == lines.end()) lines.push_back({&need, check.check.id});
      else known->checks += ", " + check.check.id;
    }
  results::Table table;
  table.title = "Files";
  table.columns = {{"file"}, {"state"}, {"where, or what is missing"}, {"checks"}};
  for (const auto& [need, users] : lines) {
    results::Cell state(text_of(need->state));
    state.fault = need->state != Need::State::there;
    table.rows.push_back({need->what, state, need->text, users});
  }
  return table;
}

std::string expected_text(const ReadyCheck& check) {
  std::string text;
  for (const auto& [metric, value, tolerance] : check.expected)
    text += (text.empty() ? "" : ", ") + metric + " " + results::shortest(value) + " ± " +
            results::shortest(tolerance);
  return text;
}

std::string state_of(const ReadyCheck& check) {
  if (check.can_run()) return "ready";
  const bool missing = std::any_of(check.needs.begin(), check.needs.end(), [](const Need& need) {
    return need.state == Need::State::missing;
  });
  return run::name_of(missing ? Verdict::needs_files : Verdict::failed);
}

// Of --list. For programs what is missing is a column; for a person it stands in the table of
// files.
results::Table checks_table(const std::vector<ReadyCheck>& checks, const config::Checks& file,
                            double tflops, bool for_programs) {
  results::Table table;
  table.title = file.title;
  table.columns = {
      {"check"},      {"what"},
      {"expected"},   {"source"},
      {"state"},      {"at " + results::shortest(tflops) + " TFLOP/s", results::Align::right, true},
      {"experiment"}, {"row"}};
  if (for_programs) {
    table.columns[5].title = "seconds";
    table.columns.push_back({"needs"});
  }
  constexpr double kTera = 1e12;
  for (const auto& ready : checks) {
    const auto& check = ready.check;
    results::Cell cost, state(state_of(ready));
    if (const double seconds = check.flops / (tflops * kTera); check.flops > 0) {
      cost = run::duration_text(seconds);
      cost.raw = results::shortest(seconds);
    }
    state.fault = !ready.can_run();
    std::vector<results::Cell> row{check.id,
                                   check.label,
                                   expected_text(ready),
                                   check.source.empty() ? "the paper" : check.source,
                                   state,
                                   cost,
                                   ready.experiment.name,
                                   check.images ? "" : check.row};
    if (for_programs) {
      std::string needs;
      for (const auto& need : ready.needs)
        if (need.state != Need::State::there)
          needs += (needs.empty() ? "" : "; ") + need.what + ": " + need.text;
      row.emplace_back(needs);
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

results::Cell number(const std::optional<double>& value) {
  constexpr int kDecimals = 4;
  if (!value) return {};
  results::Cell cell(results::fixed(*value, kDecimals));
  cell.raw = results::shortest(*value);
  return cell;
}

results::Table results_table(
    const std::vector<std::pair<const ReadyCheck*, std::vector<CheckedValue>>>& done,
    const config::Checks& file) {
  const auto right = results::Align::right;
  results::Table table;
  table.title = file.title;
  table.columns = {{"check"},
                   {"seed", right, true},
                   {"metric"},
                   {"expected", right, true},
                   {"ours", right, true},
                   {"difference", right, true},
                   {"tolerance", right, true},
                   {"verdict"},
                   {"note"},
                   {"samples", right, true},
                   {"run", right, true},
                   {"source"},
                   {"protocol"}};
  const auto whole = [](const std::optional<std::int64_t>& value) {
    return value ? results::Cell(std::to_string(*value)) : results::Cell();
  };
  for (const auto& [ready, values] : done)
    for (const auto& [compared, seed, number_of_run] : values) {
      const auto& [metric, expected, tolerance] = compared.expected;
      results::Cell wanted(results::shortest(expected)), within(results::shortest(tolerance));
      results::Cell verdict(run::name_of(compared.verdict));
      verdict.fault = compared.verdict != Verdict::agrees;
      table.rows.push_back(
          {ready->check.id, whole(seed), metric, wanted, number(compared.ours),
           number(compared.difference()), within, verdict, compared.note,
           compared.sample_count > 0 ? results::Cell(std::to_string(compared.sample_count))
                                     : results::Cell(),
           whole(number_of_run), ready->check.source.empty() ? "the paper" : ready->check.source,
           compared.protocol});
    }
  return table;
}

}  // namespace

int cmd_reproduce(const Arguments& args, Context& context) {
  Options options(
      "reproduce [NAME] [options]",
      "Checks published values here: says which files each check needs and which are missing,\n"
      "runs what can be run, and compares with what was published, within tolerances. Without\n"
      "NAME it lists what there is to reproduce; NAME may also be a file of checks of your own.\n"
      "Runs are those of `dkdm run` and `dkdm eval`: on record, resumed, never made twice.\n"
      "Ends with 0 when all that was asked for agrees, with 1 when something differs, failed or\n"
      "could not be checked for want of files.");
  options.add()("only", po::value<std::string>()->value_name("A,B"),
                "only these checks; the beginning of a name up to a '-' stands for all that begin "
                "so")("set",
                      po::value<std::vector<std::string>>()->composing()->value_name("KEY=VALUE"),
                      "override a key of the experiments, e.g. evaluator.weights=FILE; of some "
                      "checks alone: cifar10.teacher.path=FILE, cifar10.dataset.root=FOLDER")(
      "list", "show checks, what they need and what they cost; run nothing")(
      "fail-fast", "stop at the first check that does not agree");
  options.add_real("tflops", "N", 100, 1e-3, 1e9,
                   "of --list: costs for a machine that sustains N x 10^12 floating-point "
                   "operations a second");
  add_device(options);
  options.with_format().with_words(1);
  if (!options.parse(args)) return 0;
  take_device(options, context);
  const bool as_text =
      options.format() == results::Format::text || options.format() == results::Format::markdown;
  const auto words = options.words();
  if (words.empty()) {
    for (const char* option : {"only", "set", "fail-fast"})
      if (options.has(option))
        options.misuse("reproduce: --" + std::string(option) +
                       " needs the NAME of what to reproduce");
    return list_what_there_is(options, context);
  }

  const auto file = read_checks(checks_file(words[0], options, context), context);
  Session session(context);
  Reproduction reproduction(context, session);
  std::vector<ReadyCheck> checks;
  // What is wrong with any of them is said before the first one starts.
  for (const auto& check : selected(options, file))
    checks.push_back(reproduction.prepare(
        check, config::overrides_for(check, file.checks, overrides_of(options))));
  for (auto& check : checks) reproduction.look_for_files(check);
  if (as_text) {
    options.print(files_table(checks));
    std::printf("\n");
    std::fflush(stdout);
  }
  if (options.has("list")) {
    options.print(checks_table(checks, file, options.real("tflops"), !as_text));
    return 0;
  }

  std::vector<std::pair<const ReadyCheck*, std::vector<CheckedValue>>> done;
  std::map<Verdict, std::size_t> verdicts;
  bool stopped = false;
  for (const auto& check : checks) {
    done.emplace_back(
        &check, stopped ? all_as(check, Verdict::not_run, "") : reproduction.carry_out(check));
    for (auto& value : done.back().second) {
      auto& compared = value.comparison;
      ++verdicts[compared.verdict];
      stopped |= options.has("fail-fast") && compared.verdict != Verdict::agrees;
      // A person has read it above.
      if (as_text && !check.can_run()) compared.note = "see Files";
    }
  }
  options.print(results_table(done, file));
  std::string summary;
  for (const auto& [verdict, count] : verdicts)
    summary += (summary.empty() ? "" : ", ") + std::string(run::name_of(verdict)) + " " +
               std::to_string(count);
  std::fprintf(stderr, "%s: %s\n", words[0].c_str(), summary.c_str());
  const bool all_agree = verdicts.size() == 1 && verdicts.contains(Verdict::agrees);
  return static_cast<int>(all_agree ? ExitCode::done : ExitCode::run_failed);
}

}  // namespace dkdm::cli

#include "cli/session.hpp"

#include <algorithm>
#include <cstdio>
#include <map>
#include <optional>
#include <set>
#include <tuple>

#include "cli/isolate.hpp"
#include "cli/signals.hpp"
#include "cli/supervise.hpp"
#include "cli/sweep.hpp"
#include "cli/terminal.hpp"
#include "cli/worker_report.hpp"
#include "config/number.hpp"
#include "dkdm/files.hpp"
#include "dkdm/nearest.hpp"
#include "io/input_file.hpp"
#include "io/plain_text.hpp"
#include "log/log.hpp"
#include "model/model_folder.hpp"
#include "plugin/host_state.hpp"
#include "results/query/runs.hpp"
#include "results/report/report.hpp"
#include "run/device_memory.hpp"
#include "run/precision_choice.hpp"
#include "run/progress.hpp"
#include "stages/sampling.hpp"

namespace dkdm::cli {
namespace {

namespace fs = std::filesystem;
namespace po = boost::program_options;

// Says of the plugins that a run had and this program has not where they were then. A record is
// shown and never opened: the database may come from anybody, and loading a library runs it.
void hint_at_recorded_plugins(std::int64_t run, Context& context) {
  for (const auto& table : results::run_detail(context.recorded_database(), run).tables) {
    if (table.title != "Plugins") continue;
    for (const auto& row : table.rows) {  // kind, name, version, file
      const auto file = row[3].text.value_or("");
      if (file.empty() || context.registry().lookup(*row[0].text, *row[1].text)) continue;
      context.registry().set_hint(
          *row[0].text, *row[1].text,
          "run " + std::to_string(run) + " had it from " + file +
              "; a recorded path is never opened by itself: if you trust that file, set "
              "DKDM_PLUGIN_PATH=" +
              io::shell_quoted(file));
    }
  }
}

}  // namespace

std::string counted(std::size_t count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::size_t start = 0;
  while (start <= text.size()) {
    const auto end = std::min(text.find(separator, start), text.size());
    if (end > start) parts.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return parts;
}

std::vector<record::RunRecord> asked_cells(const PlannedFile& planned) {
  std::vector<record::RunRecord> cells;
  for (const auto& configuration : planned)
    cells.insert(cells.end(), configuration.plan.asked.begin(), configuration.plan.asked.end());
  return cells;
}

void announce(const PlannedFile& planned, const record::ArtifactStore& artifacts) {
  std::map<std::pair<stages::StageKind, std::string>, const stages::Stage*> stages, missing;
  std::vector<const stages::Stage*> in_order;
  std::size_t runs = 0;
  for (const auto& [experiment, context, plan] : planned) {
    runs += plan.runs.size();
    for (const auto& stage : plan.stages) stages.emplace(std::pair(stage.kind, stage.key), &stage);
    for (const auto index : run::missing_stages(plan, artifacts)) {
      const auto& stage = plan.stages[index];
      if (missing.emplace(std::pair(stage.kind, stage.key), &stage).second)
        in_order.push_back(&stage);
    }
  }
  std::fprintf(stderr, "%s: %s, %zu of %s to run", planned.front().experiment.name.c_str(),
               counted(runs, "run").c_str(), missing.size(),
               counted(stages.size(), "stage").c_str());
  double seconds = 0;
  for (const auto* stage : in_order) seconds += stage->estimated_s;
  if (missing.empty()) std::fprintf(stderr, "\n");
  else std::fprintf(stderr, ", about %s on this machine\n", run::duration_text(seconds).c_str());
  for (const auto* stage : in_order)
    std::fprintf(stderr, "  %-32s %s\n", stage->label.c_str(),
                 run::duration_text(stage->estimated_s).c_str());
  const auto memory = run::memory_of(planned.front().plan.device);
  std::set<std::string> said;  // seeds have the same needs
  for (const auto* stage : in_order)
    if (const auto text = run::shortfall(*stage, memory); !text.empty() && said.insert(text).second)
      log::warn("memory", text);
}

RowFiles row_files(const Session::Planned& planned, const record::ArtifactStore& artifacts,
                   bool several) {
  constexpr std::size_t kShortName = 8;  // of a variant, as reports have it
  RowFiles files;
  const auto folder = artifacts.root() / "grids" / planned.experiment.name;
  fs::create_directories(folder);
  for (const auto& run : planned.plan.runs) {
    const auto& stage = planned.plan.stages[run.sample_stage];
    const auto samples = stage.folder(artifacts) / stages::kSamplesFile;
    if (!stage.streamed && fs::exists(samples)) files.emplace_back(run.record.row, samples);
    const auto source = run::grid_file(run, planned.plan, artifacts);
    if (!fs::exists(source)) continue;
    const bool first_seed = run.record.seed == planned.experiment.seeds.front();
    const auto target =
        folder / (run.record.row + (several ? "-" + run.record.variant.substr(0, kShortName) : "") +
                  (first_seed ? "" : "-seed" + std::to_string(run.record.seed)) + ".png");
    fs::copy_file(source, target, fs::copy_options::overwrite_existing);
    files.emplace_back(run.record.row, target);
  }
  return files;
}

void print_results(Context& context, const std::string& experiment,
                   const std::vector<record::RunRecord>& asked,
                   const record::ArtifactStore& artifacts, const RowFiles& files) {
  results::ReportOptions options;
  options.choice.asked = asked;
  options.colour = stdout_has_colour();
  options.columns = stdout_columns();
  std::printf("%s\n", results::report(context.database(), {experiment}, options).c_str());
  std::printf("Samples\n");
  std::size_t widest = 0;
  for (const auto& [row, _] : files) widest = std::max(widest, row.size());
  for (const auto& [row, file] : files)
    std::printf("  %-*s  %s\n", static_cast<int>(widest), row.c_str(), file.c_str());

  options.format = results::ReportFormat::html;
  options.root = artifacts.root();
  const auto page = artifacts.root() / "reports" / (experiment + ".html");
  fs::create_directories(page.parent_path());
  io::write_text(page, results::report(context.database(), {experiment}, options));
  std::printf("Page      %s\nDatabase  %s\n", page.c_str(), context.database().c_str());
}

Session::Session(Context& context, double tflops)
    : context_(context), artifacts_(context.home()),
      host_(context.registry(), stop_requested, nullptr),
      datasets_(stages::opened_once(context.registry(), host_)), cost_(context.registry(), tflops) {
}

results::Store& Session::store() {
  if (!store_) {
    store_ = std::make_unique<results::Store>(context_.database());
    if (const auto migration = store_->migration()) {
      log::warn("store", context_.database().string() + ": schema " +
                             std::to_string(migration->from) + " -> " +
                             std::to_string(migration->to) +
                             "; the file as it was: " + migration->backup.string());
    }
  }
  return *store_;
}

stages::StageContext Session::stage_context() { return {context_.registry(), host_, datasets_}; }

std::vector<record::PluginRecord> Session::plugin_records() const {
  std::vector<record::PluginRecord> records;
  for (const auto& info : context_.registry().plugins())
    records.push_back({info.kind, info.name, info.version, info.summary,
                       fs::absolute(info.file).lexically_normal().string()});
  return records;
}

config::Experiment read_experiment(const fs::path& file, const std::vector<std::string>& overrides,
                                   Context& context) {
  const config::ExperimentSource source{file, overrides, context.experiments()};
  for (const auto& plugin : config::named_plugins(source))
    context.add_plugins(plugin.path, file.string(), plugin.where);
  return config::load_experiment(source, context.registry());
}

Session::Planned Session::plan(const fs::path& file, const std::vector<std::string>& overrides,
                               const run::Selection& selection, Estimate estimate) {
  const plugin::StdoutAside only_results_are_printed;
  auto experiment = read_experiment(file, overrides, context_);
  const bool sizes = estimate == Estimate::sizes;
  const bool listed = estimate == Estimate::listed || sizes;
  // Nothing is computed for a report, and a plan may be for another machine.
  std::optional<at::Device> chosen;
  try {
    if (estimate != Estimate::none) chosen = context_.device(experiment.device);
  } catch (const ConfigError& error) {
    if (!listed) throw;
    log::warn("plan", std::string(error.what()) + "; planned on the CPU");
  }
  const at::Device device = chosen.value_or(at::kCPU);
  host_.set_device(device);
  cost_.set_device(device);
  auto context = stage_context();
  const bool first = estimate == Estimate::measured || listed;
  // Nothing is made for a report, and what it shows is there whatever its teacher's file is now.
  if (estimate != Estimate::none)
    run::settle_teachers(
        experiment, selection, context,
        [&](const std::string& sha256) { return earlier_uses(sha256, listed); }, first);
  run::settle_precision(experiment, chosen, context, context_.home());
  // Measuring what stages cost is only worth its seconds when some are to be made.
  auto plan = run::make_plan(experiment, selection, context, artifacts_, cost_,
                             {.list_needs = listed, .any_machine = sizes});
  // An accelerator's memory is looked at before it is filled; of the machine's own nobody runs out
  // so suddenly, and the forwards that are counted for it are a plugin's code.
  const bool is_done = run::missing_stages(plan, artifacts_).empty();
  if (sizes || (estimate != Estimate::none && !is_done))
    plan = run::make_plan(experiment, selection, context, artifacts_, cost_,
                          {.estimate = !sizes,
                           .look = first,
                           .footprints = listed || (first && !device.is_cpu()),
                           .list_needs = listed,
                           .any_machine = sizes});
  plan.device = device;
  return {std::move(experiment), std::move(context), std::move(plan)};
}

std::vector<run::EarlierUse> Session::earlier_uses(const std::string& sha256, bool read_only) {
  std::error_code error;
  if (!fs::exists(context_.database(), error)) return {};
  if (!read_only) store();  // brings an older file up to date
  std::vector<run::EarlierUse> uses;
  for (const auto& use : results::teacher_uses(context_.database(), sha256))
    uses.push_back({use.run, use.experiment, use.images});
  return uses;
}

std::vector<Session::Planned> Session::plan_all(const fs::path& file,
                                                const std::vector<std::string>& overrides,
                                                const run::Selection& selection,
                                                Estimate estimate) {
  std::vector<Planned> all;
  std::set<std::tuple<std::string, std::int64_t, std::string>> asked;
  for (const auto& configuration : configurations(file, overrides, context_)) {
    auto planned = plan(file, configuration, selection, estimate);
    const auto known = [&](const record::RunRecord& cell) {
      return asked.contains({cell.row, cell.seed, cell.key});
    };
    std::erase_if(planned.plan.runs, [&](const run::PlannedRun& run) { return known(run.record); });
    std::erase_if(planned.plan.asked, known);
    for (const auto& cell : planned.plan.asked) asked.insert({cell.row, cell.seed, cell.key});
    all.push_back(std::move(planned));
  }
  return all;
}

void add_device(Options& options) {
  options.add()("device", po::value<std::string>()->value_name("D"),
                "what networks compute on: auto, cpu, cuda or cuda:N (else $DKDM_DEVICE, else the "
                "experiment's device, else auto)")(
      "fast", "on a GPU, the fastest kernels instead of repeatable ones; recorded");
}

void take_device(const Options& options, Context& context) {
  context.set_device(options.has("device") ? options.get<std::string>("device") : "",
                     options.has("fast"));
}

void add_cell_selection(Options& options) {
  options.add()("rows", po::value<std::string>()->value_name("A,B"), "only these rows")(
      "seeds", po::value<std::string>()->value_name("0-2"), "seeds instead of the file's")(
      "set", po::value<std::vector<std::string>>()->composing()->value_name("KEY=VALUE"),
      "override a key of the file, e.g. train.steps=100 or row.dynamic.train.lr=1e-3; a list sweeps it: "
      "row.dynamic.method.rho=0.1,0.2,0.4");
}

void add_selection(Options& options) {
  add_cell_selection(options);
  options.add()("shard", po::value<std::string>()->value_name("I/N"), "run shard I of N");
}

run::Selection selection_of(const Options& options) {
  run::Selection selection;
  if (options.has("rows")) selection.rows = split(options.get<std::string>("rows"), ',');
  if (options.has("seeds"))
    selection.seeds = config::parse_seeds(options.get<std::string>("seeds"));
  if (options.has("shard")) {
    const auto text = options.get<std::string>("shard");
    const auto slash = text.find('/');
    if (slash == std::string::npos)
      throw ConfigError("--shard",
                        "expected I/N with 1 <= I <= N, such as 1/4, got '" + text + "'");
    constexpr std::int64_t kMost = 1'000'000;
    selection.shards = config::whole_number(text.substr(slash + 1), "--shard I/N: N", 1, kMost);
    selection.shard =
        config::whole_number(text.substr(0, slash), "--shard I/N: I", 1, selection.shards);
  }
  return selection;
}

std::vector<std::string> overrides_of(const Options& options) {
  std::vector<std::string> overrides;
  if (options.has("set")) overrides = options.get<std::vector<std::string>>("set");
  if (options.has("save-samples")) overrides.emplace_back("sample.save=true");
  return overrides;
}

std::vector<std::string> shipped_experiments(const Context& context) {
  // Folders of what experiments inherit from, and of checks of them.
  constexpr const char *kBases = "bases", *kChecks = "reproduce";
  std::vector<std::string> names;
  std::error_code absent;
  for (fs::recursive_directory_iterator entry(context.experiments(), absent), end;
       !absent && entry != end; entry.increment(absent)) {
    const auto folder = entry->path().filename();
    if (folder == kBases || folder == kChecks) entry.disable_recursion_pending();
    if (entry->path().extension() == ".toml")
      names.push_back(
          fs::relative(entry->path(), context.experiments()).replace_extension().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::optional<fs::path> experiment_file(const std::string& word, const Context& context) {
  const auto shipped = context.experiments() / (word.ends_with(".toml") ? word : word + ".toml");
  std::error_code absent;
  if (fs::is_regular_file(word, absent)) return word;
  if (fs::is_regular_file(shipped, absent)) return shipped;
  return std::nullopt;
}

std::vector<fs::path> experiment_files(const Options& options, Context& context) {
  std::vector<fs::path> files;
  for (const auto& word : options.words()) {
    const auto file = experiment_file(word, context);
    if (!file) {
      std::error_code absent;
      if (fs::exists(word, absent)) io::Descriptor refused(word);  // a folder or pipe: says so
      // A path is a person's own file, a name is meant to be one of ours.
      const auto names = shipped_experiments(context);
      const auto near = nearest_experiment(word, names);
      std::string known;
      for (const auto& name : names) known += (known.empty() ? "" : ", ") + name;
      throw ConfigError(word, "no such experiment file, neither " + fs::absolute(word).string() +
                                  " nor one below " + context.experiments().string() +
                                  (near.empty() ? "; shipped ones are " + known
                                                : "; did you mean " + near + "?"));
    }
    files.push_back(*file);
  }
  if (files.empty())
    options.misuse("name an experiment: a TOML file, or a shipped one such as desk/quickstart");
  return files;
}

std::string nearest_experiment(const std::string& word, const std::vector<std::string>& names) {
  std::string plain = word.ends_with(".toml") ? word.substr(0, word.size() - 5) : word;
  if (const auto near = nearest_name(plain, names); !near.empty()) return near;
  // "tabel2" for "desk/table2": the folder is easily left out.
  std::vector<std::string> last;
  for (const auto& name : names) last.push_back(fs::path(name).filename().string());
  const auto near = nearest_name(fs::path(plain).filename().string(), last);
  for (std::size_t i = 0; i < names.size(); ++i)
    if (!near.empty() && last[i] == near) return names[i];
  return "";
}

fs::path model_folder(const std::string& word, Context& context) {
  if (fs::is_directory(word)) return word;
  if (is_run_number(word)) {
    const auto run = run_number(word);
    hint_at_recorded_plugins(run, context);
    const auto network = results::counting_network(context.recorded_database(), run);
    const auto folder = context.home() / network.artifact;
    return network.kept_step ? model::kept_folder(folder, *network.kept_step) : folder;
  }
  throw ConfigError(word,
                    "neither a folder of a trained model nor the number of a run (dkdm runs)");
}

int run_experiments(Context& context, const std::vector<fs::path>& files, const Options& options,
                    const run::RunOptions& run_options) {
  if (asks_for_isolation(context, files, options))
    return run_isolated(context, files, options, run_options);
  Session session(context);
  const auto selection = selection_of(options);
  const auto overrides = overrides_of(options);
  // All files are read and checked before the first one starts.
  std::vector<PlannedFile> experiments;
  for (const auto& file : files)
    experiments.push_back(session.plan_all(file, overrides, selection));

  session.store().set_force(run_options.force);
  run::RunSummary total;
  for (auto& planned : experiments) {
    announce(planned, session.artifacts());
    const auto asked = asked_cells(planned);
    session.store().add_to_request(session.store().begin_request(asked.front(), options.command()),
                                   asked);
    record::Recorder* recorder = &session.store();
    std::optional<ForwardingRecorder> forwarding;
    if (const SendLine* say = supervisor()) recorder = &forwarding.emplace(session.store(), *say);
    RowFiles files_of_rows;
    for (auto& configuration : planned) {
      configuration.context.recorder = recorder;
      const auto summary =
          run::run_plan(configuration.plan, configuration.context, session.host(),
                        session.artifacts(), session.plugin_records(), run_options);
      total.failed += summary.failed;
      if (summary.interrupted) throw Interrupted();
      for (auto& file : row_files(configuration, session.artifacts(), planned.size() > 1))
        files_of_rows.push_back(std::move(file));
      if (total.failed && run_options.fail_fast) break;
    }
    print_results(context, planned.front().experiment.name, asked, session.artifacts(),
                  files_of_rows);
    if (total.failed && run_options.fail_fast) break;
  }
  return static_cast<int>(total.failed ? ExitCode::run_failed : ExitCode::done);
}

}  // namespace dkdm::cli

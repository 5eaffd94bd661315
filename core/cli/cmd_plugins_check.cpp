// dkdm plugins check: the conformance test of one plugin as a checklist. The plugin runs in child
// processes, so that its crash is a failed check.
#include <iostream>
#include <map>
#include <set>
#include <sstream>

#include "cli/child.hpp"
#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "cli/signals.hpp"
#include "cli/terminal.hpp"
#include "config/document.hpp"
#include "conformance/check.hpp"
#include "dkdm/nearest.hpp"
#include "error_text.hpp"
#include "run/run_host.hpp"

namespace dkdm::cli {
namespace {

namespace fs = std::filesystem;
namespace po = boost::program_options;
using conformance::Finding;
using conformance::Outcome;

// Findings as they come: lines of text at once, other formats as one table at the end.
class Report {
 public:
  explicit Report(const Options& options) : options_(options) {}

  void add(const Finding& finding) {
    failed_ += finding.outcome == Outcome::failed;
    findings_.push_back(finding);
    if (options_.format() == results::Format::text) print(finding);
  }

  // The exit code.
  int end() const {
    if (options_.format() == results::Format::text) {
      if (failed_ == 0) std::cout << "All " << findings_.size() << " checks passed.\n";
      else std::cout << failed_ << " of " << findings_.size() << " checks failed.\n";
    } else {
      results::Table table;
      table.columns = {{"check"}, {"result"}, {"finding"}};
      for (const Finding& f : findings_) table.rows.push_back({f.check, word(f.outcome), f.text});
      options_.print(table);
    }
    return static_cast<int>(failed_ ? ExitCode::run_failed : ExitCode::done);
  }

 private:
  static const char* word(Outcome outcome) {
    if (outcome == Outcome::passed) return "passed";
    return outcome == Outcome::failed ? "failed" : "skipped";
  }

  static const char* mark(Outcome outcome) {
    static const bool symbols = stdout_is_utf8();
    if (outcome == Outcome::passed) return symbols ? "✓ " : "ok      ";
    if (outcome == Outcome::failed) return symbols ? "✗ " : "FAILED  ";
    return symbols ? "– " : "skipped ";
  }

  static void print(const Finding& finding) {
    const bool red = finding.outcome == Outcome::failed && stdout_has_colour();
    constexpr std::size_t kWidth = 20;
    std::string name = finding.check;
    name.resize(std::max(kWidth, name.size()), ' ');
    std::cout << (red ? "\033[31m" : "") << mark(finding.outcome) << name << ' '
              << results::terminal_text(finding.text) << (red ? "\033[0m" : "") << std::endl;
  }

  const Options& options_;
  std::vector<Finding> findings_;
  int failed_ = 0;
};

// The named plugin with everything else that is loaded, or why there is none.
struct Found {
  std::unique_ptr<plugin::Registry> of_file;  // where a file was named
  const plugin::Registry* registry = nullptr;
  const plugin::PluginInfo* info = nullptr;
  std::string refusal;
};

Found find_plugin(const std::string& word, Context& context, const Options& options) {
  Found found;
  const bool is_file = word.ends_with(".so") || word.find('/') != std::string::npos;
  if (is_file) {
    if (!word.ends_with(".so"))
      options.misuse("plugins check: " + word +
                     " is not a plugin, expected a file that ends with .so");
    if (!fs::exists(fs::symlink_status(word)))
      options.misuse("plugins check: there is no file " + word);
    // First, so that of two plugins with one name this is the one that is taken.
    std::vector<fs::path> places{word};
    for (const fs::path& folder : context.plugin_folders()) places.push_back(folder);
    found.of_file = std::make_unique<plugin::Registry>(places);
  }
  found.registry = is_file ? found.of_file.get() : &context.registry();
  std::vector<std::string> names;
  for (const plugin::PluginInfo& info : found.registry->plugins()) {
    names.push_back(info.name);
    if (is_file ? info.file == word : info.name == word) found.info = &info;
  }
  for (const plugin::Refusal& refusal : found.registry->refusals())
    if (is_file ? refusal.file == word : refusal.file.stem() == word)
      found.refusal = refusal.reason;
  if (!found.info && found.refusal.empty()) {
    const std::string near = nearest_name(word, names);
    options.misuse("plugins check: no plugin '" + word + "'" +
                   (near.empty() ? "; dkdm plugins lists them, a file's name ends with .so"
                                 : "; did you mean " + near + "?"));
  }
  return found;
}

// --set width=8 for the plugin's parameters.
Params params_of(const plugin::PluginInfo& info, const Options& options) {
  std::map<std::string, Value> given;
  if (options.has("set")) {
    config::Section section{"--set", {}};
    for (const auto& text : options.get<std::vector<std::string>>("set"))
      config::apply_override(section, text);
    for (const config::Entry& entry : section.entries) {
      if (!entry.value())
        throw ConfigError(entry.where, "expected NAME=VALUE with a parameter of " + info.name);
      given[entry.name] = *entry.value();
      for (const Param& param : info.params)
        if (param.name == entry.name && std::holds_alternative<std::string>(param.default_value) &&
            !std::holds_alternative<std::string>(*entry.value()))
          given[entry.name] = entry.raw;
    }
  }
  for (const Param& param : info.params)
    if (param.is_required && !given.contains(param.name))
      throw ConfigError("plugins check", info.name + " must be given " + param.name + " (" +
                                             param.help + "): --set " + param.name + "=…");
  return Params(info.params, given, "--set");
}

std::vector<std::string> fields(const std::string& line, std::size_t count) {
  std::vector<std::string> parts;
  std::size_t start = 0;
  while (parts.size() + 1 < count) {
    const auto end = std::min(line.find('\t', start), line.size());
    parts.push_back(line.substr(start, end - start));
    start = std::min(end + 1, line.size());
  }
  parts.push_back(line.substr(start));
  return parts;
}

std::string crashed(const ChildEnd& end) {
  return "it died: " + crash_text(end) + (end.module.empty() ? "" : " in " + end.module.string());
}

// How a debugger sees what the checks saw; `args` are those of this command.
std::string debugger_command(const Arguments& args) {
  std::string command =
      "gdb -ex run --args " + fs::read_symlink("/proc/self/exe").string() + " plugins check";
  for (const std::string& arg : args) command += ' ' + io::shell_quoted(arg);
  return command + " --in-process";
}

// All checks, each finding handed on as it comes; in a child, unless a debugger is to see them:
// where a check takes its process with it, another child makes the others. Returns the exit code of
// a test that could not be carried to its end (the child has said why), else 0.
int run_checks(const Found& found, const Params& params, Context& context, bool in_process,
               const Arguments& args, Report& report) {
  std::string under_way = "loading";
  std::set<std::string> reported,
      deadly;  // checks: whose findings are out, that ended their process
  const auto work = [&](const SendLine& say) {
    run::RunHost host(*found.registry, stop_requested, nullptr);
    conformance::Checklist list(
        [&](const std::string& check) {
          if (stop_requested) throw Interrupted();
          say("begun\t" + check);
        },
        [&](const Finding& f) {
          say("found\t" + std::to_string(int(f.outcome)) + '\t' + f.check + '\t' + f.text);
        },
        deadly);
    conformance::check_description(*found.info, list);
    conformance::Subject subject{*found.registry, *found.info, params, host};
    // In this process alone: one that has used an accelerator cannot be forked.
    if (const at::Device device = context.device(); !device.is_cpu()) subject.device = device;
    conformance::check_behaviour(subject, list);
    return 0;
  };
  const auto heard = [&](const std::string& line) {
    if (line.starts_with("begun\t")) {
      under_way = fields(line, 2)[1];
    } else {
      const auto parts = fields(line, 4);
      if (reported.insert(parts[2]).second)
        report.add({parts[2], static_cast<Outcome>(std::stoi(parts[1])), parts[3]});
    }
  };
  if (in_process) return work(heard);
  while (true) {
    under_way = "loading";
    const ChildEnd end = in_child(work, heard, {found.info->file});
    if (end.returned) return end.exit_code;
    const std::string debugger = "; a debugger shows where: " + debugger_command(args);
    report.add({under_way, Outcome::failed, crashed(end) + (deadly.empty() ? debugger : "")});
    // Before the first check, or again in the same one: nothing else to be learnt.
    if (under_way == "loading" || !deadly.insert(under_way).second) return end.exit_code;
    reported.insert(under_way);
  }
}

// What a student costs here, in a process of its own; "" where that could not be found out.
std::string cost_text(const plugin::Registry& registry, const plugin::PluginChoice& student,
                      std::optional<ImageSpec>& spec, ChildEnd& end) {
  constexpr std::int64_t kBatch = 4;
  std::string text;
  const auto work = [&](const SendLine& say) {
    const ImageSpec used = spec ? *spec : conformance::usual_spec(registry, student);
    conformance::StudentCost cost;
    try {
      cost = conformance::student_cost(registry, student, used, kBatch);
    } catch (const Interrupted&) {
      throw;
    } catch (...) {
      say("\t\t\tno training step of " + text_of(used) +
          " images could be made: " + current_error_text() + "; the checks above say what to do");
      return 0;
    }
    std::string shape;
    std::ostringstream line;
    line.precision(3);
    line << cost.step_s << " s and " << cost.peak_bytes / (1024 * 1024)
         << " MiB a training step of " << kBatch << " images of " << text_of(used) << ", "
         << double(cost.parameters) / 1e6 << " M parameters, " << double(cost.forward_flops) / 1e9
         << " GFLOPs";
    for (const std::int64_t side : used.sizes()) shape += std::to_string(side) + '\t';
    say(shape + line.str());
    return 0;
  };
  const auto heard = [&](const std::string& line) {
    const auto parts = fields(line, 4);
    if (!parts[0].empty())
      spec = ImageSpec{std::stoll(parts[0]), std::stoll(parts[1]), std::stoll(parts[2])};
    text = parts[3];
  };
  end = in_child(work, heard, {});
  return text;
}

void add_costs(const Found& found, const Params& params, Report& report) {
  constexpr const char* kYardstick = "adm-unet";
  const plugin::PluginInfo& info = *found.info;
  std::optional<ImageSpec> spec;
  ChildEnd end;
  std::string text =
      cost_text(*found.registry, {info.kind, info.name, info.version, params}, spec, end);
  if (!end.returned) text = crashed(end);
  if (text.empty()) text = "no training step could be made; the checks above say why";
  const bool measured = spec.has_value();
  if (const auto* other = found.registry->lookup("student", kYardstick);
      measured && other && info.name != kYardstick) {
    const std::string beside =
        cost_text(*found.registry,
                  {other->kind, other->name, other->version, Params(other->params, {})}, spec, end);
    if (!beside.empty()) text += "; " + std::string(kYardstick) + ": " + beside;
  }
  report.add({"cost", measured ? Outcome::passed : Outcome::failed, text});
}

}  // namespace

int cmd_plugins_check(const Arguments& args, Context& context) {
  Options options("plugins check FILE|NAME [--set NAME=VALUE] [--format F]",
                  "Tests that a plugin keeps what its kind promises, and says what to do where it\n"
                  "does not. Ends with 1 when a check failed.");
  options.with_format().with_words(1);
  options.add()("set", po::value<std::vector<std::string>>()->composing()->value_name("NAME=VALUE"),
                "a parameter of the plugin, its default otherwise")(
      "in-process",
      "no child processes, for a debugger: a crash ends the test, costs are left out");
  if (!options.parse(args)) return 0;
  if (options.words().empty()) options.misuse("plugins check: which one, a name or a file?");

  const Found found = find_plugin(options.words()[0], context, options);
  Report report(options);
  if (!found.info) {
    report.add({"handshake", Outcome::failed, found.refusal});
    return report.end();
  }
  const Params params = params_of(*found.info, options);
  const bool in_process = options.has("in-process");
  if (const int code = run_checks(found, params, context, in_process, args, report)) return code;
  if (stop_requested) return static_cast<int>(ExitCode::interrupted);
  if (found.info->kind == "student" && !in_process) add_costs(found, params, report);
  return report.end();
}

}  // namespace dkdm::cli

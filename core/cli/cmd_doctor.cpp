// dkdm doctor: what this machine has, and how to get what it lacks.
#include <unistd.h>

#include <cstdio>

#include "cli/commands.hpp"
#include "cli/datasets.hpp"
#include "cli/options.hpp"
#include "cli/signals.hpp"
#include "device/choice.hpp"
#include "error_text.hpp"
#include "record/environment.hpp"
#include "results/admin/info.hpp"
#include "run/run_host.hpp"

namespace dkdm::cli {

namespace fs = std::filesystem;

namespace {

constexpr double kGibibyte = 1024.0 * 1024.0 * 1024.0;

std::string gibibytes(double bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f GiB", bytes / kGibibyte);
  return text;
}

// What was found. `state` is "ok", "note" (works, could be better) or "missing" (nothing runs).
struct Findings {
  results::Table table;
  bool missing = false;

  Findings() { table.columns = {{"item"}, {"state"}, {"what"}}; }

  void add(const std::string& item, const std::string& state, const std::string& what) {
    table.rows.push_back({item, state, what});
    missing |= state == "missing";
  }
};

// Why LibTorch does not use a GPU that is there, and what to do.
std::string why_no_cuda() {
  try {
    device::chosen({"cuda", ""});
    return "";
  } catch (const ConfigError& error) {
    return error.what();
  }
}

// What `--device auto` chooses here. Nothing is tried in a child process after this.
void check_device(Findings& findings, const record::EnvironmentRecord& machine) {
  try {
    const at::Device chosen = device::chosen({});
    if (chosen.is_cpu()) {
      findings.add(
          "device", machine.gpu.empty() ? "ok" : "note",
          "cpu" + (machine.gpu.empty() ? "" : ", although there is a GPU: " + why_no_cuda()));
      return;
    }
    const auto about = device::describe(chosen);
    std::string what = chosen.str();
    if (!about.name.empty()) what += ": " + about.name;
    if (about.memory_bytes > 0) what += ", " + gibibytes(double(about.memory_bytes));
    if (!about.driver.empty()) what += ", driver " + about.driver;
    findings.add("device", "ok", what);
  } catch (const std::exception& error) {  // a GPU in a bad state; the CPU still computes
    findings.add("device", "note",
                 "no device can be used but the CPU (--device cpu): " + error_text(error));
  }
}

void check_machine(Findings& findings) {
  const record::EnvironmentRecord machine = record::current_environment();
  const bool vectors = machine.cpu_features.find("avx2") != std::string::npos;
  findings.add("processor", "ok",
               (machine.cpu.empty() ? "not named by the system" : machine.cpu) + ", " +
                   std::to_string(machine.cores) + " cores");
  findings.add("threads", machine.threads > machine.cores ? "note" : "ok",
               std::to_string(machine.threads) + " for one operation: " + machine.threads_reason);
  findings.add("features", vectors ? "ok" : "note",
               vectors ? machine.cpu_features : "no AVX2: networks will be slow here");
  findings.add("memory", machine.memory_bytes < 4 * kGibibyte ? "note" : "ok",
               gibibytes(double(machine.memory_bytes)));
  findings.add("gpu", machine.gpu.empty() ? "note" : "ok",
               machine.gpu.empty() ? "none: desk-scale experiments need none" : machine.gpu);
  check_device(findings, machine);
  findings.add("libtorch", "ok", machine.libtorch);
  findings.add("compiler", "ok", machine.compiler);
  std::string version = machine.dkdm_version;
  if (!machine.git_revision.empty()) version += ", revision " + machine.git_revision.substr(0, 12);
  findings.add("dkdm", "ok", version + (machine.git_dirty ? ", sources changed since" : ""));
}

void check_plugins(Findings& findings, Context& context) {
  const plugin::Registry& registry = context.registry();
  const auto count = registry.plugins().size();
  findings.add(
      "plugins", count ? "ok" : "missing",
      count ? std::to_string(count) + " loaded"
            : "none in " + context.plugin_folders()[0].string() + ": ./dkdm build makes them");
  for (const plugin::Refusal& refusal : registry.refusals()) {
    findings.add("plugin", "note", "not loaded: " + refusal.reason);
  }
}

void check_datasets(Findings& findings, Context& context) {
  for (const DatasetState& set : dataset_states(context)) {
    findings.add("dataset " + set.name, set.present ? "ok" : "note",
                 set.present ? std::to_string(set.images) + " images" : set.problem);
  }
}

// The desk scale needs none: it learns its own feature network.
void check_weights(Findings& findings, Context& context) {
  const auto* info = context.registry().lookup("evaluator", "inception");
  if (!info) return;
  run::RunHost host(context.registry(), stop_requested, nullptr);
  try {
    const auto evaluator = context.registry().evaluator(
        {info->kind, info->name, info->version, Params(info->params, {})}, host);
    findings.add("weights inception", "ok", "values are of protocol " + evaluator->protocol());
  } catch (const Interrupted&) {
    throw;
  } catch (const Error& error) {
    findings.add("weights inception", "note", error.what());
  }
}

void check_store(Findings& findings, Context& context) {
  // The nearest folder that exists decides whether the rest can be made.
  fs::path existing = context.home();
  while (!fs::exists(existing) && existing.has_relative_path()) existing = existing.parent_path();
  const bool writable = access(existing.c_str(), W_OK | X_OK) == 0;
  std::error_code error;
  const fs::space_info disk = fs::space(existing, error);
  findings.add("store", writable ? "ok" : "missing",
               context.home().string() +
                   (writable ? "" : ": not writable; set DKDM_HOME to a folder that is"));
  if (!error) {
    findings.add("disk", disk.available < 2 * kGibibyte ? "note" : "ok",
                 gibibytes(double(disk.available)) + " free");
  }
  if (!fs::exists(context.database())) {
    findings.add("database", "ok", "none yet: the first run makes it");
    return;
  }
  try {
    const results::StoreInfo info = results::store_info(context.database());
    findings.add("database", "ok",
                 context.database().string() + ", schema version " +
                     std::to_string(info.schema_version) + ", " + gibibytes(double(info.bytes)));
  } catch (const Error& problem) {
    findings.add("database", "missing", problem.what());
  }
}

}  // namespace

int cmd_doctor(const Arguments& args, Context& context) {
  Options options(
      "doctor [--format F]",
      "Checks this machine: processor, GPU, the device that networks compute on, LibTorch,\n"
      "plugins, datasets, weights, store. Ends with 3 when something is missing without which\n"
      "nothing runs.");
  options.with_format();
  if (!options.parse(args)) return 0;

  // First: modules are tried in a child process, which has none of the threads that counting them
  // starts.
  context.registry();
  Findings findings;
  check_machine(findings);
  check_plugins(findings, context);
  check_datasets(findings, context);
  check_weights(findings, context);
  check_store(findings, context);
  options.print(findings.table);
  return static_cast<int>(findings.missing ? ExitCode::missing : ExitCode::done);
}

}  // namespace dkdm::cli

// dkdm plugins: what is loaded, what was refused and why, and one plugin in full.
#include <iostream>

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "run/model_folder.hpp"

namespace dkdm::cli {
namespace {

// Refusals are a story about the listing, not part of it: stderr, so that no format breaks.
void print_refusals(const plugin::Registry& registry) {
  for (const plugin::Refusal& refusal : registry.refusals()) {
    std::cerr << "dkdm: not loaded: " << refusal.reason << '\n';
  }
}

void list(const Options& options, const plugin::Registry& registry) {
  results::Table table;
  table.columns = {{"kind"}, {"name"}, {"version"}, {"parameters", results::Align::right, true},
                   {"summary"}};
  for (const char* kind : {"student", "teacher", "dataset", "baseline", "distillation",
                           "evaluator"}) {
    for (const plugin::PluginInfo& info : registry.plugins()) {
      if (info.kind != kind) continue;
      table.rows.push_back({info.kind, info.name, info.version,
                            std::to_string(info.params.size()), info.summary});
    }
  }
  options.print(table);
  print_refusals(registry);
}

// "1.2 million parameters", or why that cannot be said.
std::string network_size(const plugin::Registry& registry, const plugin::PluginInfo& info) {
  const ImageSpec spec;
  try {
    const auto network =
        registry.student({info.kind, info.name, info.version, Params(info.params, {})}, spec, 0);
    return std::to_string(run::count_parameters(*network)) + " weights at the defaults, " +
           std::to_string(spec.channels) + "x" + std::to_string(spec.size) + "x" +
           std::to_string(spec.size) + " images";
  } catch (const Error& error) {
    return std::string("the defaults make no network: ") + error.what();
  }
}

results::Table parameter_table(const plugin::PluginInfo& info) {
  results::Table table;
  table.columns = {{"parameter"}, {"type"}, {"default"}, {"range"}, {"help"}};
  for (const Param& param : info.params) {
    table.rows.push_back({param.name, type_name(param.fallback),
                          param.required ? "(required)" : to_text(param.fallback),
                          range_text(param), param.help});
  }
  return table;
}

// Lines to paste into an experiment file: every parameter at its default.
std::string experiment_snippet(const plugin::PluginInfo& info) {
  std::string lines;
  const bool method = info.kind == "baseline" || info.kind == "distillation";
  if (method) lines = "[[row]]\nid = \"" + info.name + "\"\n[row.method]\n";
  else lines = "[" + info.kind + "]\n";
  lines += "plugin = \"" + info.name + "\"\n";
  for (const Param& param : info.params) {
    lines += param.name + " = " + to_text(param.fallback) +
             (param.required ? "  # must be given\n" : "\n");
  }
  return lines;
}

void describe(const Options& options, const plugin::Registry& registry, const std::string& name) {
  std::vector<const plugin::PluginInfo*> found;
  std::vector<std::string> names;
  for (const plugin::PluginInfo& info : registry.plugins()) {
    names.push_back(info.name);
    if (info.name == name) found.push_back(&info);
  }
  if (found.empty()) {
    print_refusals(registry);
    const std::string near = nearest_name(name, names);
    options.misuse("plugins: no '" + name + "'" +
                   (near.empty() ? "; dkdm plugins lists them" : "; did you mean " + near + "?"));
  }
  for (const plugin::PluginInfo* info : found) {
    const results::Table table = parameter_table(*info);
    if (options.format() != results::Format::text) {
      options.print(table);
      continue;
    }
    std::cout << info->name << ": " << info->summary << "\n  " << info->kind << ", version "
              << info->version << ", " << info->file.string() << '\n';
    if (info->kind == "student") std::cout << "  " << network_size(registry, *info) << '\n';
    std::cout << '\n';
    if (table.rows.empty()) {
      std::cout << "It has no parameters.\n";
    } else {
      options.print(table);
    }
    std::cout << "\nIn an experiment file:\n\n" << experiment_snippet(*info);
  }
}

}  // namespace

int cmd_plugins(const Arguments& args, Context& context) {
  if (!args.empty() && args[0] == "check")
    return cmd_plugins_check({args.begin() + 1, args.end()}, context);
  Options options("plugins [list | describe NAME | check FILE|NAME] [--format F]",
                  "Lists the loaded plugins, or describes one: its parameters with type, default\n"
                  "and range, and lines to paste into an experiment file.");
  options.with_format().with_words(2);
  if (!options.parse(args)) return 0;

  const auto words = options.words();
  if (words.empty() || words == Arguments{"list"}) {
    list(options, context.registry());
  } else if (words[0] == "describe" && words.size() == 2) {
    describe(options, context.registry(), words[1]);
  } else if (words[0] == "describe") {
    options.misuse("plugins describe: which one?");
  } else {
    options.misuse("plugins: no '" + words[0] + "'; there are: list, describe NAME, check FILE|NAME");
  }
  return 0;
}

}  // namespace dkdm::cli

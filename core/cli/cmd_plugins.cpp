// dkdm plugins: what is loaded and from where, what was refused and why.
#include <iostream>

#include "cli/commands.hpp"
#include "cli/plugins.hpp"
#include "config/experiment.hpp"

namespace dkdm::cli {

namespace fs = std::filesystem;
namespace po = boost::program_options;

void print_refusals(const plugin::Registry& registry) {
  for (const plugin::Refusal& refusal : registry.refusals()) {
    std::cerr << "dkdm: not loaded: " << refusal.reason << '\n';
  }
}

namespace {

void list(const Options& options, const plugin::Registry& registry) {
  results::Table table;
  table.columns = {{"kind"}, {"name"},   {"version"}, {"parameters", results::Align::right, true},
                   {"from"}, {"summary"}};
  for (const char* kind :
       {"student", "teacher", "dataset", "baseline", "distillation", "evaluator", "autoencoder"}) {
    for (const plugin::PluginInfo& info : registry.plugins()) {
      if (info.kind != kind) continue;
      const std::string from =
          info.origin == "shipped" ? info.origin : info.origin + ": " + info.file.string();
      table.rows.push_back({info.kind, info.name, info.version, std::to_string(info.params.size()),
                            from, info.summary});
    }
  }
  options.print(table);
  print_refusals(registry);
}

// What a word of `list` names: a module, a folder of them, or an experiment file.
void add(const std::string& word, Context& context) {
  if (fs::path(word).extension() != ".toml") return context.registry().add(word, "command line");
  for (const auto& plugin : config::named_plugins({word, {}, context.experiments()}))
    context.registry().add(plugin.path, word);
}

}  // namespace

int cmd_plugins(const Arguments& args, Context& context) {
  if (!args.empty() && args[0] == "check")
    return cmd_plugins_check({args.begin() + 1, args.end()}, context);
  Options options(
      "plugins [list [FILE…] | describe NAME|FILE | check NAME|FILE | new KIND NAME] [options]",
      "list      the plugins, from where, and why others were not loaded; FILE: more modules, folders\n"
      "          of them, or an experiment that names some\n"
      "describe  one plugin: its parameters, its network's size, lines for an experiment file\n"
      "check     one plugin against the promises of its kind (dkdm plugins check --help)\n"
      "new       writes a folder with a plugin to start from, which builds and runs at once; KIND is\n"
      "          student, teacher, dataset, baseline, distillation, evaluator or autoencoder");
  options.add()("output,o", po::value<std::string>()->value_name("DIR"),
                "new: the folder to write, instead of ./NAME");
  options.with_format().with_words(-1);
  if (!options.parse(args)) return 0;

  auto words = options.words();
  const std::string action = words.empty() ? "list" : words[0];
  if (!words.empty()) words.erase(words.begin());
  if (options.has("output") && action != "new") options.misuse("--output belongs to plugins new");
  if (action == "list") {
    for (const std::string& word : words) add(word, context);
    list(options, context.registry());
  } else if (action == "describe" && words.size() == 1) {
    describe_plugin(options, context, words[0]);
  } else if (action == "describe") {
    options.misuse("plugins describe: name one plugin");
  } else if (action == "new" && words.size() == 2) {
    new_plugin(options, context, words[0], words[1],
               options.has("output") ? options.get<std::string>("output") : "");
  } else if (action == "new") {
    options.misuse("plugins new: expected KIND NAME, as in plugins new student my-net");
  } else {
    options.unknown("plugins", action, {"list", "describe", "check", "new"},
                    "list, describe, check, new");
  }
  return 0;
}

}  // namespace dkdm::cli

// dkdm plugins describe: one plugin in full.
#include <cstdio>
#include <iostream>

#include "cli/plugins.hpp"
#include "config/snippet.hpp"
#include "dkdm/nearest.hpp"
#include "model/flops.hpp"
#include "model/model_folder.hpp"
#include "plugin/param_check.hpp"

namespace dkdm::cli {
namespace {

namespace fs = std::filesystem;

// "310274 weights, 0.05 GFLOPs …", or why that cannot be said.
std::string network_size(const plugin::Registry& registry, const plugin::PluginInfo& info) {
  const ImageSpec spec;
  try {
    const auto network = registry.student(
        {info.kind, info.name, info.version, Params(info.params, {})}, {spec, {}}, 0);
    char flops[32];
    std::snprintf(flops, sizeof flops, "%.3g", double(model::forward_flops(*network, spec)) / 1e9);
    return std::to_string(model::count_parameters(*network)) + " weights at the defaults, " +
           flops + " GFLOPs a forward, " + text_of(spec) + " images";
  } catch (const std::exception& error) {
    return std::string("the defaults make no network: ") + error.what();
  }
}

results::Table parameter_table(const plugin::PluginInfo& info) {
  results::Table table;
  table.columns = {{"parameter"}, {"type"}, {"default"}, {"range"}, {"help"}};
  for (const Param& param : info.params) {
    table.rows.push_back({param.name, type_name(param.default_value),
                          param.is_required ? "(required)" : to_text(param.default_value),
                          range_text(param), param.help});
  }
  return table;
}

// The plugin that `word` names; a file is loaded first.
const plugin::PluginInfo& named(const Options& options, Context& context, const std::string& word) {
  if (fs::path(word).extension() == ".so")
    context.add_plugins(word, "command line", "plugins describe");
  std::vector<std::string> names;
  for (const plugin::PluginInfo& info : context.registry().plugins()) {
    std::error_code ignored;
    if (info.name == word || fs::equivalent(info.file, word, ignored)) return info;
    names.push_back(info.name);
  }
  print_refusals(context.registry());
  const std::string near = nearest_name(word, names);
  options.misuse("plugins: no '" + word + "'" +
                 (near.empty() ? "; dkdm plugins lists them" : "; did you mean " + near + "?"));
}

}  // namespace

void describe_plugin(const Options& options, Context& context, const std::string& word) {
  const plugin::PluginInfo& info = named(options, context, word);
  const results::Table table = parameter_table(info);
  if (options.format() != results::Format::text) {
    options.print(table);
    return;
  }
  std::cout << info.name << ": " << info.summary << "\n  " << info.kind << ", version "
            << info.version << ", " << info.origin << ", " << info.file.string() << '\n';
  if (info.kind == "student") std::cout << "  " << network_size(context.registry(), info) << '\n';
  std::cout << '\n';
  if (table.rows.empty()) {
    std::cout << "It has no parameters.\n";
  } else {
    options.print(table);
  }
  if (info.kind != "autoencoder")  // no section of an experiment names one
    std::cout << "\nIn an experiment file:\n\n" << config::experiment_snippet(info);
}

}  // namespace dkdm::cli

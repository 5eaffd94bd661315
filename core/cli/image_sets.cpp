#include "cli/image_sets.hpp"

#include <algorithm>

#include "cli/options.hpp"
#include "cli/session.hpp"
#include "config/document.hpp"
#include "dkdm/io.hpp"
#include "dkdm/nearest.hpp"
#include "record/content_key.hpp"
#include "stages/npz_images.hpp"
#include "stages/stages.hpp"

namespace dkdm::cli {
namespace {

namespace fs = std::filesystem;

ImageSet open_npz(const std::string& word) {
  ImageSet set{word, stages::read_reference(word), std::nullopt};
  const auto keys = io::npz_keys(word);
  const bool has_images = std::find(keys.begin(), keys.end(), "arr_0") != keys.end();
  if (has_images || !set.source.statistics)
    set.source.images = std::make_shared<stages::NpzImages>(word);
  if (set.source.recipe.empty()) set.source.recipe = "npz " + fs::path(word).filename().string();
  return set;
}

ImageSet open_dataset(const std::string& word, Context& context, Host& host) {
  const auto colon = word.find(':');
  std::vector<std::string> overrides;
  for (std::size_t at = colon; at != std::string::npos;) {
    const auto comma = word.find(',', at + 1);
    overrides.push_back(word.substr(at + 1, comma == std::string::npos ? comma : comma - at - 1));
    at = comma;
  }
  const auto* info = context.registry().lookup("dataset", word.substr(0, colon));
  if (!info) {
    std::string known;
    std::vector<std::string> names;
    for (const auto& plugin : context.registry().plugins()) {
      if (plugin.kind != "dataset") continue;
      known += (known.empty() ? "" : ", ") + plugin.name;
      names.push_back(plugin.name);
    }
    const auto near = nearest_name(word.substr(0, colon), names);
    throw ConfigError(
        word,
        "no such npz file or folder, not the number of a run (dkdm runs), and no "
        "dataset; " +
            (near.empty() ? "the datasets are " + known : "did you mean " + near + "?"));
  }
  const auto choice = choose_plugin(*info, overrides);
  return {word,
          {stages::recipe_of(choice), context.registry().dataset(choice, host), std::nullopt},
          std::nullopt};
}

ImageSet open_folder(const std::string& word, Context& context, Host& host) {
  const auto& info = context.registry().find("dataset", "image-folder");
  const auto choice =
      choose_plugin(info, {}, {{"root", word}, {"size", std::int64_t{0}}, {"exact", true}});
  return {word,
          {"the images of a folder as they are", context.registry().dataset(choice, host),
           std::nullopt},
          std::nullopt};
}

// The text values of `overrides` as `table` declares them; `where` names it in errors.
Params params_of(const ParamTable& table, const std::vector<std::string>& overrides,
                 std::map<std::string, Value> given, const std::string& where) {
  config::Section section;
  for (const auto& text : overrides) config::apply_override(section, text);
  for (const auto& entry : section.entries) {
    if (!entry.value()) throw ConfigError(entry.where, "expected a value, not a section");
    // What is asked for as text stays as it was typed: a folder may be called 7.
    const auto param = std::find_if(table.begin(), table.end(),
                                    [&](const Param& p) { return p.name == entry.name; });
    const bool text = param != table.end() &&
                      std::holds_alternative<std::string>(param->default_value) &&
                      !entry.raw.empty() && !std::holds_alternative<std::string>(*entry.value());
    given[entry.name] = text ? Value(entry.raw) : *entry.value();
    if (const auto* path = std::get_if<std::string>(&given[entry.name]))
      given[entry.name] = config::expanded_home(*path).string();
  }
  return Params(table, given, where);
}

// The samples that a run evaluated: as it kept them, else drawn again from its weights, which gives
// the same images.
ImageSet open_run(const std::string& word, Context& context, Host& host, run::Progress& progress) {
  RunSamples run{run_number(word), {}};
  run.samples = results::evaluated_samples(context.recorded_database(), run.run);
  const auto file = context.home() / run.samples.artifact / stages::kSamplesFile;
  if (!run.samples.artifact.empty() && fs::exists(file))
    return {word,
            {"samples of run " + word, std::make_shared<stages::NpzImages>(file), std::nullopt},
            run};
  const auto section = params_of(config::sample_table(), run.samples.settings, {}, "run " + word);
  const auto count = section.integer("count");
  host.log("run " + word, "samples were not kept; redrawing " + std::to_string(count) +
                              " from its " + run.samples.weights + " weights");
  const auto model = host.load_model(model_folder(word, context), run.samples.weights);
  const auto spec =
      stages::sampling_spec(section, count, record::derive_seed(run.samples.seed, "sample"));
  progress.begin("draw the samples of run " + word);
  auto samples = stages::sample_set(stages::sample_images(host, model, spec), run.samples.key);
  progress.end();
  return {word, {"samples of run " + word, std::move(samples), std::nullopt}, run};
}

}  // namespace

const Dataset& ImageSet::images() const {
  if (!source.images) throw DataError(name, "holds statistics and no images (arr_0) to evaluate");
  return *source.images;
}

ImageSet open_images(const std::string& word, Context& context, Host& host,
                     run::Progress& progress) {
  if (fs::is_directory(word)) return open_folder(word, context, host);
  if (fs::exists(word)) return open_npz(word);
  const bool dataset = context.registry().lookup("dataset", word.substr(0, word.find(':')));
  if (!dataset && word.ends_with(".npz")) return open_npz(word);
  if (is_run_number(word)) return open_run(word, context, host, progress);
  return open_dataset(word, context, host);
}

plugin::PluginChoice choose_plugin(const plugin::PluginInfo& info,
                                   const std::vector<std::string>& overrides,
                                   std::map<std::string, Value> given) {
  return {info.kind, info.name, info.version,
          params_of(info.params, overrides, std::move(given), info.kind + " " + info.name)};
}

}  // namespace dkdm::cli

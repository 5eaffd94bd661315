// dkdm ref: reference statistics with their provenance.
#include <algorithm>
#include <cstdio>

#include "cli/commands.hpp"
#include "cli/image_sets.hpp"
#include "cli/session.hpp"
#include "run/progress.hpp"

namespace dkdm::cli {
namespace {

namespace fs = std::filesystem;
namespace po = boost::program_options;

int make_reference(const Arguments& args, Context& context) {
  Options options(
      "ref make DATASET|FOLDER|FILE.npz [-o FILE.npz] [options]",
      "Computes an evaluator's statistics of a reference set once and keeps them with their\n"
      "provenance; dkdm eval and dkdm run find them again. FILE.npz is ADM's layout (mu, sigma,\n"
      "mu_s, sigma_s), read by dkdm eval and by ADM's own evaluator.");
  options.add()("output,o", po::value<std::string>(), "also write them here")(
      "evaluator", po::value<std::string>()->default_value("inception"), "evaluator plugin")(
      "set", po::value<std::vector<std::string>>()->composing()->value_name("KEY=VALUE"),
      "a parameter of the evaluator (dkdm plugins describe inception)");
  add_device(options);
  options.with_words(1);
  if (!options.parse(args)) return 0;
  take_device(options, context);
  if (options.words().empty())
    options.misuse("ref make: name a dataset, a folder of images or an npz");
  if (options.has("output") && !options.get<std::string>("output").ends_with(".npz"))
    throw ConfigError("--output " + options.get<std::string>("output"),
                      "expected a file name ending in .npz");

  Session session(context);
  session.choose_device();
  const auto& registry = context.registry();
  const auto choice = choose_plugin(
      registry.find("evaluator", options.get<std::string>("evaluator")), overrides_of(options));
  const auto evaluator = registry.evaluator(choice, session.host());
  run::Progress progress({}, record::progress_folder(context.home()), "ref");
  session.host().set_progress(&progress);
  auto set = open_images(options.words().front(), context, session.host(), progress);
  progress.begin("reference");
  const auto key = stages::prepare_reference(*evaluator, choice, set.source, session.artifacts(),
                                             session.host());
  progress.end();
  session.host().set_progress(nullptr);
  const auto folder = session.artifacts().path("evaluator", key);
  if (options.has("output")) {
    const fs::path file = options.get<std::string>("output");
    stages::write_reference(*evaluator, folder, file);
    std::printf("%s\n", file.c_str());
  } else {
    std::printf("%s\n", key.c_str());
  }
  return 0;
}

// The one cached reference whose key begins with `word`.
fs::path cached_folder(const std::string& word, const fs::path& root) {
  std::vector<fs::path> found;
  if (fs::exists(root))
    for (const auto& entry : fs::directory_iterator(root))
      if (entry.path().filename().string().starts_with(word) &&
          fs::exists(entry.path() / "manifest.json"))
        found.push_back(entry.path());
  if (found.size() == 1) return found.front();
  throw DataError(word, found.empty()
                            ? "neither an npz file nor the key of a cached reference (dkdm ref "
                              "inspect lists them)"
                            : "begins the keys of " + std::to_string(found.size()) +
                                  " cached references; give more of it");
}

results::Table list_cached(const fs::path& root) {
  results::Table table;
  table.columns = {
      {"key"}, {"evaluator"}, {"protocol"}, {"images", results::Align::right, true}, {"recipe"}};
  if (!fs::exists(root)) return table;
  for (const auto& entry : fs::directory_iterator(root)) {
    if (!fs::exists(entry.path() / stages::kReferenceText)) continue;
    std::vector<results::Cell> row{entry.path().filename().string()};
    const auto known = stages::folder_provenance(entry.path());
    for (const char* wanted : {"evaluator", "protocol", "images", "recipe"}) {
      const auto at = std::find_if(known.begin(), known.end(),
                                   [&](const auto& field) { return field.first == wanted; });
      row.push_back(at == known.end() ? results::Cell() : results::Cell(at->second));
    }
    table.rows.push_back(std::move(row));
  }
  std::sort(table.rows.begin(), table.rows.end(),
            [](const auto& a, const auto& b) { return a.front().text < b.front().text; });
  return table;
}

int inspect_reference(const Arguments& args, Context& context) {
  Options options(
      "ref inspect [FILE.npz|KEY] [--format F]",
      "What a reference is made of: its images and their number, recipe, evaluator and\n"
      "protocol; whether its statistics were computed here or carried over. Without a name:\n"
      "the references that are cached.");
  options.with_format().with_words(1);
  if (!options.parse(args)) return 0;
  const auto root = context.home() / "artifacts" / "evaluator";
  if (options.words().empty()) {
    options.print(list_cached(root));
    return 0;
  }
  const std::string word = options.words().front();
  const auto known = fs::is_regular_file(word) || word.ends_with(".npz")
                         ? stages::file_provenance(word)
                         : stages::folder_provenance(cached_folder(word, root));
  results::Table table;
  table.columns = {{"field"}, {"value"}};
  for (const auto& [name, value] : known) table.rows.push_back({name, value});
  options.print(table);
  return 0;
}

}  // namespace

int cmd_ref(const Arguments& args, Context& context) {
  const std::string action = args.empty() ? "" : args.front();
  if (action == "make") return make_reference({args.begin() + 1, args.end()}, context);
  if (action == "inspect") return inspect_reference({args.begin() + 1, args.end()}, context);
  Options options("ref make|inspect …",
                  "Reference statistics with their provenance:\n"
                  "  dkdm ref make DATASET|FOLDER|FILE.npz [-o FILE.npz]   compute and keep them\n"
                  "  dkdm ref inspect [FILE.npz|KEY]                       what they are made of");
  options.with_words(1);
  if (!options.parse(args)) return 0;
  if (action.empty()) options.misuse("ref: expected make or inspect");
  options.unknown("ref", action, {"make", "inspect"}, "make, inspect");
}

}  // namespace dkdm::cli

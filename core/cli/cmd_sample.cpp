// dkdm sample: images from a trained network.
#include <algorithm>
#include <boost/algorithm/string/join.hpp>
#include <cstdio>

#include "cli/commands.hpp"
#include "cli/image_sets.hpp"
#include "cli/session.hpp"
#include "config/number.hpp"
#include "dkdm/io.hpp"
#include "run/progress.hpp"
#include "stages/sampling.hpp"

namespace dkdm::cli {

namespace fs = std::filesystem;
namespace po = boost::program_options;

namespace {

// What reads other programs' models where --teacher says nothing else: neither runs code of the
// file.
constexpr const char* kFileReader = "guided-diffusion";
constexpr const char* kFolderReader = "diffusers";

// The model that `word` names: a run, a folder of this suite, or what a teacher plugin reads.
TrainedModel named_model(const std::string& word, const std::string& weights,
                         const Options& options, Context& context, Host& host) {
  std::error_code absent;
  const bool exists = fs::exists(word, absent), folder = fs::is_directory(word, absent);
  const bool ours =
      folder ? fs::exists(fs::path(word) / "model.json", absent) : !exists && is_run_number(word);
  const bool chosen = options.has("teacher");
  if (ours && !chosen) {
    if (options.has("set")) options.misuse("sample: --set belongs to --teacher");
    return host.load_model(model_folder(word, context), weights);
  }
  if (!exists)
    throw DataError(word, "no such file or folder, and not the number of a run (dkdm runs)");
  const std::string reader = chosen   ? options.get<std::string>("teacher")
                             : folder ? kFolderReader
                                      : kFileReader;
  const auto& info = context.registry().find("teacher", reader, chosen ? "--teacher" : word);
  std::map<std::string, Value> given{{"path", word}};
  if (options.has("weights")) {
    if (std::none_of(info.params.begin(), info.params.end(),
                     [](const Param& p) { return p.name == "weights"; }))
      throw ConfigError("--weights", "the teacher " + reader + " has one kind of weights");
    given["weights"] = weights;
  }
  try {
    const auto choice = choose_plugin(info, overrides_of(options), given);
    auto model = context.registry().teacher(choice, host)->load();
    model.network->to(host.device());
    return model;
  } catch (const Interrupted&) {
    throw;
  } catch (const Error& error) {
    if (chosen) throw;
    throw Error(std::string(error.what()) + "; read by the teacher " + reader +
                    ": --teacher NAME chooses another, --set NAME=VALUE its parameters",
                error.exit_code());
  }
}

}  // namespace

int cmd_sample(const Arguments& args, Context& context) {
  Options options(
      "sample CHECKPOINT|RUN -n N [-o FILE.npz|FILE.png] [options]",
      "Draws N images from a trained model: the number of a run, a folder that this program\n"
      "wrote (model.json), a checkpoint file of guided-diffusion, improved-diffusion or DiT\n"
      "(.pt, .safetensors), or a diffusers folder. --teacher reads any other kind of file.\n"
      "An npz holds the images as ADM's tools expect them (arr_0, uint8 NHWC); a png shows a\n"
      "grid.");
  const std::string samplers = boost::algorithm::join(sampler_names(), ", ");
  constexpr std::int64_t kMostImages = 10'000'000, kMostAtOnce = 100'000;
  options.add_integer("count,n", "N", 64, 1, kMostImages, "images");
  options.add()("output,o", po::value<std::string>()->default_value("samples.png"),
                "FILE.npz or FILE.png")("respacing", po::value<std::string>()->default_value("50"),
                                        "kept steps, e.g. 50 or ddim25")(
      "sampler", po::value<std::string>()->default_value("ancestral"), samplers.c_str());
  options.add_integer("solver-steps", "N", 20, 2, 1000, "steps of dpm-solver")
      .add_real("eta", "X", 0, 0, 1, "DDIM's stochasticity, 0 = deterministic")
      .add_integer("steps-offset", "N", 0, 0, 1,
                   "added to DDIM's steps, 1 as latent diffusion has it, with respacing ddimN")
      .add_integer("seed", "N", 0, 0, config::kLargestId, "image i depends on (seed, i) alone")
      .add_integer("batch", "N", 64, 1, kMostAtOnce, "images at a time");
  options.add()("no-alpha-to-one",
                "DDIM's last step ends at the chain's first alpha_bar, as latent diffusion's")(
      "weights", po::value<std::string>()->value_name("KIND"),
      "ema or raw, of a run, folder or file that has both (default: ema)")(
      "teacher", po::value<std::string>()->value_name("NAME"),
      "the teacher plugin that reads the model (dkdm plugins)")(
      "set", po::value<std::vector<std::string>>()->composing()->value_name("NAME=VALUE"),
      "a parameter of that teacher, such as label=3 or image_size=64 (dkdm plugins describe NAME)");
  add_device(options);
  options.with_words(1);
  if (!options.parse(args)) return 0;
  take_device(options, context);
  if (options.words().empty())
    options.misuse("sample: name a run, a trained model's folder or a checkpoint file");
  const fs::path output = options.get<std::string>("output");
  if (output.extension() != ".npz" && output.extension() != ".png")
    throw ConfigError("--output " + output.string(), "expected a file name ending in .npz or .png");

  const std::string weights = options.has("weights") ? options.get<std::string>("weights") : "ema";
  Params section(config::sample_table(),
                 {{"count", options.integer("count")},
                  {"respacing", options.get<std::string>("respacing")},
                  {"sampler", options.get<std::string>("sampler")},
                  {"solver_steps", options.integer("solver-steps")},
                  {"eta", options.real("eta")},
                  {"steps_offset", options.integer("steps-offset")},
                  {"set_alpha_to_one", !options.has("no-alpha-to-one")},
                  {"batch", options.integer("batch")},
                  {"weights", weights}},
                 "sample");
  Session session(context);
  session.choose_device();
  const auto model = named_model(options.words().front(), section.text("weights"), options, context,
                                 session.host());
  const auto spec = stages::sampling_spec(section, section.integer("count"),
                                          record::derive_seed(options.integer("seed"), "sample"));
  run::Progress progress({}, record::progress_folder(context.home()), "sample");
  progress.begin("sample");
  session.host().set_progress(&progress);
  const auto images = stages::sample_images(session.host(), model, spec);
  progress.end();
  session.host().set_progress(nullptr);
  if (output.extension() == ".npz")
    io::write_npz(output, {{"arr_0", images.permute({0, 2, 3, 1}).contiguous()}});
  else io::write_png(output, io::image_grid(images, /*columns=*/0, /*scale=*/3));
  std::printf("%s\n", output.c_str());
  return 0;
}

}  // namespace dkdm::cli

// dkdm sample: images from a trained network.
#include <cstdio>

#include "cli/commands.hpp"
#include "cli/session.hpp"
#include "dkdm/io.hpp"
#include "run/progress.hpp"

namespace dkdm::cli {

namespace fs = std::filesystem;
namespace po = boost::program_options;

int cmd_sample(const Arguments& args, Context& context) {
  Options options("sample CHECKPOINT|RUN -n N [-o FILE.npz|FILE.png] [options]",
                  "Draws N images from a trained model: a folder with model.json, or a run's number. "
                  "An npz holds them as ADM's tools expect (arr_0, uint8 NHWC); a png shows a grid.");
  options.add()("count,n", po::value<std::int64_t>()->default_value(64), "images")(
      "output,o", po::value<std::string>()->default_value("samples.png"), "FILE.npz or FILE.png")(
      "respacing", po::value<std::string>()->default_value("50"), "kept steps, e.g. 50 or ddim25")(
      "sampler", po::value<std::string>()->default_value("ancestral"),
      "ancestral, ddim or dpm-solver")(
      "solver-steps", po::value<std::int64_t>()->default_value(20), "steps of dpm-solver")(
      "eta", po::value<double>()->default_value(0), "DDIM's stochasticity")(
      "seed", po::value<std::int64_t>()->default_value(0), "image i depends on (seed, i) alone")(
      "batch", po::value<std::int64_t>()->default_value(64), "images at a time")(
      "weights", po::value<std::string>()->default_value("ema"), "ema or raw");
  options.with_words(1);
  if (!options.parse(args)) return 0;
  if (options.words().empty()) options.misuse("name a trained model's folder or a run");
  const fs::path output = options.get<std::string>("output");
  if (output.extension() != ".npz" && output.extension() != ".png")
    throw ConfigError("--output " + output.string(), "expected a file name ending in .npz or .png");

  Params section(config::sample_table(), {{"count", options.get<std::int64_t>("count")},
                                          {"respacing", options.get<std::string>("respacing")},
                                          {"sampler", options.get<std::string>("sampler")},
                                          {"solver_steps", options.get<std::int64_t>("solver-steps")},
                                          {"eta", options.get<double>("eta")},
                                          {"batch", options.get<std::int64_t>("batch")},
                                          {"weights", options.get<std::string>("weights")}},
                 "sample");
  Session session(context);
  const auto model = session.host().load_model(model_folder(options.words().front(), context),
                                               section.text("weights"));
  const auto spec = run::sampling_spec(section, section.integer("count"),
                                       run::derive_seed(options.get<std::int64_t>("seed"), "sample"));
  run::Progress progress;
  progress.begin("sample");
  session.host().set_progress(&progress);
  const auto images = run::sample_images(session.host(), model, spec);
  progress.end();
  session.host().set_progress(nullptr);
  if (output.extension() == ".npz")
    io::write_npz(output, {{"arr_0", images.permute({0, 2, 3, 1}).contiguous()}});
  else
    io::write_png(output, io::image_grid(images, /*columns=*/0, /*scale=*/3));
  std::printf("%s\n", output.c_str());
  return 0;
}

}  // namespace dkdm::cli

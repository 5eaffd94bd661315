// Work that was left unfinished: what a stage goes on from gives the bits of a stage that was never
// stopped; what is damaged, or was made for something else, is set aside, said, and made again.
#include <catch2/catch.hpp>
#include <fstream>
#include <functional>

#include "config/experiment.hpp"
#include "dkdm/denoising.hpp"
#include "dkdm/diffusion.hpp"
#include "dkdm/files.hpp"
#include "dkdm/io.hpp"
#include "fixtures/analytic.hpp"
#include "io/checkpoint/work_file.hpp"
#include "stages/stages.hpp"
#include "train/trainer.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;
using fixtures::Bench;
using fixtures::ClosedForm;
using fixtures::CountingHost;
using fixtures::ScratchFolder;
using fixtures::shipped_plugins;
namespace fs = std::filesystem;

namespace {

// Ways to spoil a file, by name.
const std::map<std::string, std::function<void(const fs::path&)>> kDamages{
    {"emptied", [](const fs::path& file) { fs::resize_file(file, 0); }},
    {"cut short", [](const fs::path& file) { fs::resize_file(file, fs::file_size(file) / 2); }},
    {"a bit flipped",
     [](const fs::path& file) {
       std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
       bytes.seekg(-1, std::ios::end);
       const char last = static_cast<char>(bytes.get());
       bytes.seekp(-1, std::ios::end);
       bytes.put(static_cast<char>(last ^ 1));
     }},
    {"without its checksum",
     [](const fs::path& file) {
       auto work = io::load_work(file);
       work.facts.erase("checksum");
       io::save_tensors(file, work.tensors, work.facts);
     }},
    {"a fact that is no number",
     [](const fs::path& file) {
       auto work = io::load_work(file);
       for (const char* name : {"step", "images", "first"})
         if (work.facts.contains(name)) work.facts[name] = "x";
       io::save_work(file, work.tensors, work.facts);
     }},
    {"a fact missing",
     [](const fs::path& file) {
       auto work = io::load_work(file);
       for (const char* name : {"teacher_evaluations", "images", "count"}) work.facts.erase(name);
       io::save_work(file, work.tensors, work.facts);
     }},
};

// Besides the set's own images, one goes through the network for its cost to be counted.
constexpr std::int64_t kCounted = 1;

// A set of 40 images in 4 steps of a network in closed form.
struct Sampling {
  CountingHost host;
  stages::StageContext bench{shipped_plugins(), host, nullptr};
  std::shared_ptr<ClosedForm> network = std::make_shared<ClosedForm>();
  TrainedModel model{network, {"cosine", 100, ""}, {1, 4, 4}};
  ScratchFolder scratch;

  stages::SamplingSpec spec(std::int64_t batch) const { return {{}, "4", 40, batch, 7}; }
  fs::path folder(const std::string& name) const {
    fs::create_directories(scratch.path / name);
    return scratch.path / name;
  }
  std::string drawn(const std::string& name, std::int64_t batch) {
    record::Manifest manifest;
    stages::draw_samples(bench.host, model, spec(batch), folder(name), manifest);
    CHECK(manifest.outputs == std::vector<std::string>{"samples.npz", "grid.png"});
    return io::sha256_file(folder(name) / stages::kSamplesFile);
  }
  // Stopped after `calls` of progress; four a batch.
  void drawn_in_part(const std::string& name, std::int64_t batch, std::int64_t calls) {
    host.calls = 0;
    host.allowed = calls;
    CHECK_THROWS_AS(drawn(name, batch), Interrupted);
    host.allowed = -1;
    network->images = 0;
  }
};

// One weight per channel, learning to predict noise.
class OneWeight final : public Denoiser {
 public:
  OneWeight() { weight_ = register_parameter("weight", at::full({1, 2, 1, 1}, 0.5)); }
  at::Tensor forward(const at::Tensor& x_t, const at::Tensor&) override {
    return at::cat({x_t, x_t}, 1) * weight_;
  }

 private:
  at::Tensor weight_;
};

// 12 steps of iterative distillation, a checkpoint every 4.
struct Training {
  ScratchFolder folder;
  std::vector<std::string> said;
  fs::path checkpoint = folder.path / "checkpoint.safetensors";
  fs::path earlier = folder.path / "earlier-checkpoint.safetensors";

  std::map<std::string, Value> settings{{"steps", std::int64_t{12}},
                                        {"checkpoint_every", std::int64_t{4}}};

  // The weights; Ctrl-C after `allowed` calls of progress.
  at::Tensor trained(std::int64_t allowed = -1) {
    Bench given(8, 4);
    given.host.allowed = allowed;
    const Params settings(config::train_table(), this->settings, "test");
    OneWeight student;
    const auto method = given.started("iterative", {}, folder.path / "none");
    try {
      train::train(student, *method, given.host, settings, 1, folder.path,
                   [](const std::vector<record::CurvePoint>&) {});
    } catch (...) {
      said.push_back(given.host.said);
      throw;
    }
    said.push_back(given.host.said);
    return io::load_tensors(folder.path / "raw.safetensors").at("weight");
  }
};

}  // namespace

TEST_CASE("samples: a set that was begun with another batch is the same set",
          "[robustness][resume]") {
  Sampling sampling;
  const auto whole = sampling.drawn("whole", 40);
  // Larger to smaller, smaller to larger, neither a multiple of the other.
  const auto batches =
      GENERATE(as<std::pair<std::int64_t, std::int64_t>>{}, std::pair(10, 5), std::pair(5, 10),
               std::pair(7, 9), std::pair(9, 7), std::pair(13, 40));
  INFO(batches.first << " then " << batches.second);
  sampling.drawn_in_part("begun", batches.first, 8);  // two batches
  CHECK(sampling.drawn("begun", batches.second) == whole);
  // What was there was not drawn again.
  CHECK(sampling.network->images == (40 - 2 * batches.first) * 4 + kCounted);
}

TEST_CASE("samples: parts out of order, overlapping and of another set give the same set",
          "[robustness][resume]") {
  Sampling sampling;
  const auto whole = sampling.drawn("whole", 40);
  const at::Tensor images =
      io::read_npz(sampling.folder("whole") / stages::kSamplesFile, "arr_0").permute({0, 3, 1, 2});
  sampling.drawn_in_part("begun", 10, 4);
  const auto folder = sampling.folder("begun");
  const auto set = io::load_work(folder / "part-0.safetensors").fact("set");
  const auto add = [&](std::int64_t first, std::int64_t count, const at::Tensor& pixels,
                       const std::string& of) {
    io::save_work(
        folder / ("part-" + std::to_string(first) + ".safetensors"),
        {{"images", pixels.contiguous()}},
        {{"set", of}, {"first", std::to_string(first)}, {"count", std::to_string(count)}});
  };
  add(5, 10, images.slice(0, 5, 15), set);                          // over the end of the first
  add(23, 4, images.slice(0, 23, 27), set);                         // alone
  add(30, 10, at::zeros({10, 1, 4, 4}, at::kByte), set + " else");  // of another set
  add(38, 5, at::zeros({5, 1, 4, 4}, at::kByte), set);              // beyond the end
  add(28, 2, at::zeros({2, 1, 8, 8}, at::kByte), set);              // of another size
  CHECK(sampling.drawn("begun", 10) == whole);
  CHECK(sampling.network->images == (40 - 15 - 4) * 4 + kCounted);
}

TEST_CASE("samples: a damaged part is said and drawn again", "[robustness][resume]") {
  Sampling sampling;
  const auto whole = sampling.drawn("whole", 40);
  for (const auto& [name, damage] : kDamages) {
    INFO(name);
    sampling.drawn_in_part(name, 10, 8);
    damage(sampling.folder(name) / "part-0.safetensors");
    CHECK(sampling.drawn(name, 10) == whole);
    CHECK_THAT(sampling.host.said, Contains("part-0.safetensors") && Contains("drawn again"));
    CHECK(sampling.network->images == 30 * 4 + kCounted);
  }
}

TEST_CASE("trainer: from a damaged checkpoint it goes back to the one before, to the same bits",
          "[robustness][resume]") {
  const at::Tensor whole = Training().trained();
  for (const auto& [name, damage] : kDamages) {
    INFO(name);
    Training stopped;
    CHECK_THROWS_AS(stopped.trained(/*allowed=*/9), Interrupted);  // saved at 4, 8 and 9
    REQUIRE(fs::exists(stopped.earlier));
    damage(stopped.checkpoint);
    CHECK(at::equal(stopped.trained(), whole));
    CHECK_THAT(stopped.said.back(), Contains("continuing from step 8"));
    CHECK(fs::exists(stopped.checkpoint.string() + ".damaged"));
    CHECK_FALSE(fs::exists(stopped.checkpoint));
    CHECK_FALSE(fs::exists(stopped.earlier));
  }
}

TEST_CASE("trainer: without any sound checkpoint it starts again, to the same bits",
          "[robustness][resume]") {
  const at::Tensor whole = Training().trained();
  for (const auto& [name, damage] : kDamages) {
    INFO(name);
    Training stopped;
    CHECK_THROWS_AS(stopped.trained(/*allowed=*/9), Interrupted);
    damage(stopped.checkpoint);
    damage(stopped.earlier);
    CHECK(at::equal(stopped.trained(), whole));
    CHECK_THAT(stopped.said.back(),
               Contains("earlier-checkpoint.safetensors") && Contains("starting from step 0"));
  }
}

TEST_CASE("trainer: killed between two checkpoints, it takes the one that there is",
          "[robustness][resume]") {
  const at::Tensor whole = Training().trained();
  Training stopped;
  CHECK_THROWS_AS(stopped.trained(/*allowed=*/9), Interrupted);
  fs::remove(stopped.checkpoint);
  CHECK(at::equal(stopped.trained(), whole));
  CHECK_THAT(stopped.said.back(), Contains("continuing from step 8"));
}

TEST_CASE("trainer: a checkpoint is due by steps or by the clock, whichever comes first",
          "[robustness][resume]") {
  const auto saved_at = [](std::int64_t every, double minutes) {
    Training killed;
    killed.settings["checkpoint_every"] = every;
    killed.settings["checkpoint_minutes"] = minutes;
    killed.settings["log_every"] = std::int64_t{1};
    // What a kill at step 7 would find: the checkpoints of before.
    std::vector<std::string> steps;
    try {
      killed.trained(/*allowed=*/7);
    } catch (const Interrupted&) {
      for (const auto& file : {killed.earlier, killed.checkpoint})
        if (fs::exists(file)) steps.push_back(io::load_work(file).fact("step"));
    }
    return steps;
  };
  // The last one is of the interruption.
  CHECK(saved_at(100, 1e5) == std::vector<std::string>{"7"});
  CHECK(saved_at(3, 1e5) == std::vector<std::string>{"6", "7"});
  CHECK(saved_at(100, 0) == std::vector<std::string>{"7", "7"});  // after every step
}

TEST_CASE("trainer: a checkpoint of another network is an error that names file and remedy",
          "[robustness][resume]") {
  Training stopped;
  CHECK_THROWS_AS(stopped.trained(/*allowed=*/9), Interrupted);
  auto work = io::load_work(stopped.checkpoint);
  work.tensors.erase("param/weight");
  io::save_work(stopped.checkpoint, work.tensors, work.facts);
  CHECK_THROWS_WITH(stopped.trained(), Contains(stopped.checkpoint.string()) &&
                                           Contains("missing param/weight") &&
                                           Contains("remove the file"));
}

TEST_CASE("prepare_pool: damaged parts are made again, to the same bits", "[robustness][resume]") {
  const auto prepared = [](Bench& bench, const fs::path& folder) {
    prepare_pool(bench.context, GaussianDiffusion({"cosine", 8, ""}), 22, 5, folder);
    return io::load_tensors(folder / "pool.safetensors").at("x");
  };
  Bench whole(8, 4);
  const ScratchFolder straight;
  const at::Tensor expected = prepared(whole, straight.path);
  for (const auto& [name, damage] : kDamages) {
    if (name.starts_with("a fact")) continue;  // its only fact is which set it is of
    INFO(name);
    const ScratchFolder broken;
    Bench killed(8, 4);
    killed.host.allowed = whole.host.calls / 2;
    CHECK_THROWS_AS(prepared(killed, broken.path), Interrupted);
    std::size_t parts = 0;
    for (const auto& entry : fs::directory_iterator(broken.path)) {
      if (++parts == 1) damage(entry.path());
    }
    REQUIRE(parts > 0);
    Bench resumed(8, 4);
    CHECK(at::equal(prepared(resumed, broken.path), expected));
    CHECK_THAT(resumed.host.said, Contains("part-") && Contains("made again"));
  }
}

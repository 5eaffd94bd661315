// The checks of `dkdm plugins check`: each finds the fault that it is there for and says what to
// do, in fixtures that have one fault each; without a fault all pass.
#include <atomic>
#include <catch2/catch.hpp>
#include <filesystem>
#include <map>

#include "conformance/check.hpp"
#include "run/run_host.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;
using conformance::Outcome;

namespace {

const plugin::Registry& registry() {
  static const plugin::Registry fixtures(
      {std::filesystem::path(DKDM_BUILD_DIR) / "tests/fixtures/plugins"});
  return fixtures;
}

// Findings of the checks of `kind`'s faulty fixture, by check.
std::map<std::string, conformance::Finding> findings(const std::string& kind,
                                                     const std::string& name,
                                                     const std::string& fault) {
  const plugin::PluginInfo& info = registry().find(kind, name);
  const std::atomic<bool> stop{false};
  run::RunHost host(registry(), stop, nullptr);
  std::map<std::string, conformance::Finding> found;
  conformance::Checklist list(
      [](const std::string&) {},
      [&](const conformance::Finding& finding) { found[finding.check] = finding; });
  conformance::check_description(info, list);
  const Params params(info.params, {{"fault", fault}});
  conformance::check_behaviour({registry(), info, params, host}, list);
  return found;
}

struct Fault {
  const char* name;
  const char* check;   // that finds it
  const char* remedy;  // words of it
};

void check_faults(const std::string& kind, const std::string& plugin, std::size_t checks,
                  const std::vector<Fault>& faults) {
  const auto sound = findings(kind, plugin, "none");
  CHECK(sound.size() == checks);
  for (const auto& [check, finding] : sound) {
    INFO(check << ": " << finding.text);
    CHECK(finding.outcome != Outcome::failed);
    CHECK_FALSE(finding.text.empty());
  }
  for (const Fault& fault : faults) {
    INFO(fault.name);
    auto found = findings(kind, plugin, fault.name);
    REQUIRE(found.contains(fault.check));
    const conformance::Finding& finding = found[fault.check];
    INFO(finding.text);
    CHECK(finding.outcome == Outcome::failed);
    CHECK_THAT(finding.text, Contains(fault.remedy));
    CHECK(finding.text.find('\n') == std::string::npos);
  }
}

}  // namespace

TEST_CASE("plugin checks: a student's faults are found", "[robustness][plugin]") {
  check_faults(
      "student", "fixture-faulty-student", 17,
      {{"unclear refusal", "image sizes", "1x28x28: fixture-faulty-student: create: 28?"},
       {"unclear refusal", "image sizes", "ConfigError"},
       {"throws", "gradient", "at 3x32x32: it threw: "},
       {"shape", "output", "at 3x32x32: forward gave"},
       {"shape", "output", "at 1x64x64: forward gave"},
       {"shape", "output", "return [N,C,H,W]"},
       {"dtype", "output", "return float32"},
       {"in place", "input and output", "in-place"},
       {"time type", "input and output", "take both"},
       {"not finite", "initial output", "initial weights of nan are not finite"},
       {"no seed", "seed", "LibTorch's default generator, which the host seeds"},
       {"own seed", "seed", "default generator alone"},
       {"unused", "gradient", "1 parameters get no gradient: unused"},
       {"memory", "evaluation mode", "from call to call"},
       {"dropout", "training mode", "dkdm/nn.hpp"},
       {"batch statistics", "batch neighbours", "no batch normalisation"},
       {"random", "random numbers", "dkdm::nn::RandomLayer"},
       {"unregistered", "save and load", "register everything"},
       {"device", "device",
        "student fixture-faulty-student: forward on meta: aten::add gets Float [32] on "
        "the CPU"},
       {"device", "device", "what forward makes must follow its input's options()"},
       // LibTorch takes these without a word where tensors have no memory.
       {"silent device", "device", "aten::index_select gets Long [32] on the CPU"},
       {"device of training", "device", "must follow its input's options()"},
       {"large", "large shapes",
        "fixture-faulty-student: forward: at 256 images of 3x256x256 gave "
        "Float [256, 6, 64, 256] for x_t Float [256, 3, 256, 256]; let every size follow"}});
}

TEST_CASE("plugin checks: shapes are looked at where no memory would do for them",
          "[robustness][plugin]") {
  const auto found = findings("student", "fixture-faulty-student", "none");
  CHECK(found.at("large shapes").text == "right for 256 images of 3x256x256, by shapes alone");
  // What its device has no shapes for is no fault of the plugin's.
  const auto kept = findings("student", "fixture-faulty-student", "unregistered");
  CHECK(kept.at("large shapes").outcome == Outcome::skipped);
}

TEST_CASE("plugin checks: sizes that a student refuses clearly are no fault",
          "[robustness][plugin]") {
  const auto found = findings("student", "fixture-faulty-student", "clear refusal");
  CHECK_THAT(
      found.at("image sizes").text,
      Contains("1x8x8 are taken") && Contains("refused clearly: 3x32x32 3x16x16 1x28x28 1x64x64"));
  for (const auto& [check, finding] : found) CHECK(finding.outcome == Outcome::passed);
}

TEST_CASE("plugin checks: a dataset's faults are found", "[robustness][plugin]") {
  check_faults("dataset", "fixture-faulty-dataset", 9,
               {{"empty", "opening", "refuse an empty folder"},
                {"float", "images", "expected uint8"},
                {"neighbours", "index", "let image i depend on i alone"},
                {"label", "labels", "number the classes from 0"},
                {"any index", "out of range", "throw"},
                {"fingerprint", "fingerprint", "no times"}});
}

TEST_CASE("plugin checks: a teacher's faults are found", "[robustness][plugin]") {
  check_faults("teacher", "fixture-faulty-teacher", 10,
               {{"fingerprint", "fingerprint", "hash the weight file"},
                {"training mode", "frozen", "call eval()"},
                {"trainable", "frozen", "set_requires_grad(false)"},
                {"shape", "forward", "return [N,C,H,W]"},
                {"neighbours", "batch neighbours", "let nothing mix rows"},
                {"unloaded weight", "loading again", "load every weight"},
                {"device", "device",
                 "teacher fixture-faulty-teacher: forward on meta: aten::mul gets Float [8] on the "
                 "CPU"}});
}

TEST_CASE("plugin checks: a method's faults are found", "[robustness][plugin]") {
  check_faults("method", "fixture-faulty-method", 12,
               {{"no images", "needs", "DKDM_DISTILLATION"},
                {"batch", "batch", "expected f32 [4, 1, 8, 8]"},
                {"step", "batch", "count steps of diffusion()"},
                {"one loss", "loss", "one value an example"},
                {"infinite", "loss", "not finite"},
                {"detached", "loss", "without detaching"},
                {"no seed", "seed", "MethodContext::seed"},
                {"memory", "resume", "into state()"},
                {"unannounced", "teacher evaluations",
                 "announces 0 teacher forwards for a batch of 64, 12 were counted"}});
}

TEST_CASE("plugin checks: an evaluator's faults are found", "[robustness][plugin]") {
  check_faults("evaluator", "fixture-faulty-evaluator", 12,
               {{"protocol", "protocol", "name the feature network"},
                {"reference", "protocol", "reference dataset's fingerprint"},
                {"not finite", "metrics", "is not finite"},
                {"batches", "batches", "batches of a size of your own"},
                {"never forgets", "afresh", "forget everything"},
                {"half a state", "state", "into state()"},
                {"no merging", "shards", "add sums and counts"},
                {"any number", "too few samples", "throw a dkdm::DataError"},
                {"any array", "wrong images", "throw a dkdm::DataError"}});
}

TEST_CASE("plugin checks: an autoencoder's faults are found", "[robustness][plugin]") {
  check_faults(
      "autoencoder", "fixture-faulty-autoencoder", 13,
      {{"unclear refusal", "shapes", "ConfigError"},
       {"no reverse", "shapes", "the image of its latent 1x16x16 is 1x32x16"},
       {"no reverse", "shapes", "the reverse of latent_shape()"},
       {"fingerprint", "fingerprint", "hash the weights' bytes"},
       {"loading", "fingerprint again", "the files and parameters alone"},
       {"unloaded weight", "loading again", "load every weight"},
       {"shape", "encode", "expected float32 [1, 1, 16, 16] on cpu"},
       {"in place", "encode", "encode: changed its input in place"},
       {"memory", "encode", "from call to call"},
       {"not finite", "decode", "decode gave NaN or infinities"},
       {"neighbours", "batch neighbours", "let nothing mix rows"},
       {"chunks", "chunks",
        "the latent's bits of an image changed when 5 were given 1 at a time; take the same number"},
       {"device", "device",
        "autoencoder fixture-faulty-autoencoder: encode on meta: aten::mul gets Float [16] on the "
        "CPU"}});
  const auto found = findings("autoencoder", "fixture-faulty-autoencoder", "none");
  CHECK(found.at("shapes").text ==
        "1x32x32 -> 1x16x16, 1x28x28 -> 1x14x14, known without weights; refused clearly: 3x32x32 "
        "3x32x16");
}

TEST_CASE("plugin checks: undocumented parameters are found", "[robustness][plugin]") {
  plugin::PluginInfo info{"student", "a-net", "1", "a net", {}, "a-net.so", ""};
  const auto text = [&](const Param& param) {
    info.params = {param};
    std::string failed;
    conformance::Checklist list([](const std::string&) {},
                                [&](const conformance::Finding& finding) {
                                  if (finding.outcome == Outcome::failed)
                                    failed += finding.check + ": " + finding.text;
                                });
    conformance::check_description(info, list);
    return failed;
  };
  CHECK(text(integer("width", 8, "channels").at_least(1)).empty());
  CHECK_THAT(text(integer("width", 8, "").at_least(1)), Contains("parameter width has no help"));
  CHECK_THAT(text(integer("width", 8, "channels")), Contains("width has no range"));
  CHECK_THAT(text(flag("plugin", true, "clashes")),
             Contains("a key that the experiment file uses"));
  CHECK_THAT(text(flag("Width", true, "large")), Contains("small letters"));
  info.summary = "";
  CHECK_THAT(text(flag("wide", true, "or not")), Contains("the summary is empty"));
}

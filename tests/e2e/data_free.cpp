// The paper's claim, held to: a teacher and statistics of a reference are all that sampling,
// data-free training and distillation need. No image of the dataset is opened; it may be absent.
#include <ATen/ATen.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "dkdm/checkpoint.hpp"
#include "dkdm/io.hpp"
#include "e2e/program.hpp"
#include "fixtures/inception.hpp"
#include "fixtures/teachers.hpp"

namespace {

using Catch::Matchers::Contains;
using e2e::Output;
using e2e::Program;
using nlohmann::json;
namespace fs = std::filesystem;
namespace io = dkdm::io;

const std::string kRows = R"toml([experiment]
name = "claim"
[diffusion]
schedule = "linear"
[teacher]
plugin = "guided-diffusion"
path = "dit.pt"
[student]
plugin = "dit"
depth = 1
hidden_size = 32
num_heads = 1
patch_size = 4
[train]
steps = 2
batch = 4
[sample]
count = 8
respacing = "2"
[synthetic]
respacing = "2"
[evaluator]
plugin = "inception"
weights = "weights.safetensors"
metrics = ["fid", "sfid"]
[[row]]
id = "teacher"
teacher = true
[[row]]
id = "data_free"
method = { plugin = "data-free" }
[[row]]
id = "dynamic"
method = { plugin = "dynamic", respacing = "10" }
)toml";

// Teacher, Inception's seeded weights, six images, and the statistics that `ref make` finds.
class Claim : public Program {
 public:
  Claim() {
    const auto state = dkdm::fixtures::inception_state();
    io::save_tensors(home() / "weights.safetensors", {state.begin(), state.end()});
    const at::Tensor images = dkdm::fixtures::inception_images({6, 3, 8, 8});
    io::write_npz(home() / "images.npz", {{"arr_0", images.permute({0, 2, 3, 1}).contiguous()}});
    io::NamedTensors teacher;
    for (const auto& [name, tensor] :
         dkdm::fixtures::filled_weights({{"depth", std::int64_t{1}},
                                         {"hidden_size", std::int64_t{32}},
                                         {"num_heads", std::int64_t{1}},
                                         {"patch_size", std::int64_t{4}}},
                                        {3, 8, 8}, "dit"))
      teacher.emplace_back(name, tensor * 0.5);
    io::write_torch(home() / "dit.pt", teacher);
    const Output made = run({"ref", "make", "npz:file=" + (home() / "images.npz").string(), "-o",
                             (home() / "statistics.npz").string(), "--set",
                             "weights=" + (home() / "weights.safetensors").string()});
    INFO(made.err);
    REQUIRE(made.exit_code == 0);
  }

  // "row metric" -> value, of what is on record.
  std::map<std::string, double> values() const {
    std::map<std::string, double> found;
    const Output said = run({"query", "--format", "json",
                             "SELECT r.row || ' ' || m.name AS name, m.value AS value FROM metrics "
                             "m JOIN runs r ON r.id = m.run"});
    INFO(said.err);
    for (const auto& row : json::parse(said.out)) found[row.at("name")] = row.at("value");
    return found;
  }
};

const std::string kDataset = "[dataset]\nplugin = \"npz\"\nfile = \"images.npz\"\n";
const std::string kStatistics = "[reference]\nstatistics = \"statistics.npz\"\n";

}  // namespace

TEST_CASE("data-free: teacher, data-free and distillation rows run where there is no dataset",
          "[e2e][data_free]") {
  const Claim with, without;
  const auto images = with.write("with.toml", kRows + kDataset);
  const Output computed = with.run({"run", images.string()});
  INFO(computed.err);
  REQUIRE(computed.exit_code == 0);
  const auto expected = with.values();
  REQUIRE(expected.size() == 6);

  fs::remove(without.home() / "images.npz");
  const Output said =
      without.run({"run", without.write("claim.toml", kRows + kStatistics).string()});
  INFO(said.err);
  REQUIRE(said.exit_code == 0);
  const auto found = without.values();
  REQUIRE(found.size() == 6);
  for (const auto& [name, value] : expected) {
    INFO(name);
    CHECK(found.at(name) == Approx(value).epsilon(1e-9));
  }
  CHECK(json::parse(without
                        .run({"query", "--format", "json",
                              "SELECT count(*) AS n FROM runs WHERE dataset <> ''"})
                        .out)[0]
            .at("n") == 0);
}

TEST_CASE("data-free: a dataset that is stated is opened for the rows that learn from it alone",
          "[e2e][data_free]") {
  const Claim claim;
  fs::remove(claim.home() / "images.npz");
  const std::string learns = "[[row]]\nid = \"real\"\nmethod = { plugin = \"data-based\" }\n";
  const auto absent = claim.write("absent.toml", kRows + kDataset + kStatistics);
  const Output planned = claim.run({"plan", absent.string()});
  INFO(planned.err);
  CHECK(planned.exit_code == 0);
  CHECK_THAT(planned.out, !Contains("needs"));
  const std::string real =
      claim.write("real.toml", kRows + learns + kDataset + kStatistics).string();
  const Output listed = claim.run({"plan", real, "--format", "json"});
  INFO(listed.err);
  REQUIRE(listed.exit_code == 0);
  for (const auto& stage : json::parse(listed.out)) {
    INFO(stage.dump());
    const bool of_images = stage.at("stage").get<std::string>().find("real") != std::string::npos;
    if (stage.at("state") == "absent") {
      CHECK(stage.at("stage") == "dataset npz");
      CHECK_THAT(stage.at("why").get<std::string>(),
                 Contains("images.npz") && Contains("for real"));
    } else {
      CHECK(stage.at("state") == (of_images ? "needs files" : "to run"));
      CHECK(stage.at("key").is_null() == of_images);
    }
  }
  // The keys of what needs no absent file are those of a plan that lacks nothing.
  const auto keys = [](const Output& plan) {
    std::map<std::string, std::string> keys;
    for (const auto& stage : json::parse(plan.out))
      if (stage.at("key").is_string()) keys[stage.at("stage")] = stage.at("key");
    return keys;
  };
  CHECK(keys(listed) == keys(claim.run({"plan", absent.string(), "--format", "json"})));
  const Output opened = claim.run({"run", real});
  CHECK(opened.exit_code == 3);
  CHECK_THAT(opened.err, Contains("images.npz"));
  CHECK_FALSE(fs::exists(claim.home() / "artifacts/train"));
  const Output none =
      claim.run({"plan", claim.write("none.toml", kRows + learns + kStatistics).string()});
  CHECK(none.exit_code == 2);
  CHECK_THAT(none.err, Contains("row \"real\": it, or its teacher, is trained on images") &&
                           Contains("expected a [dataset]"));
  const Output neither = claim.run({"plan", claim.write("neither.toml", kRows).string()});
  CHECK(neither.exit_code == 2);
  CHECK_THAT(neither.err, Contains("[dataset] is missing, or [reference] statistics"));
}

TEST_CASE(
    "data-free: a teacher, statistics and weights that are absent are planned without, "
    "and those that are damaged are not",
    "[e2e][data_free]") {
  const Claim claim;
  const auto file = claim.write("claim.toml", kRows + kStatistics);
  for (const char* name : {"dit.pt", "statistics.npz", "weights.safetensors"}) {
    INFO(name);
    const auto place = claim.home() / name;
    const std::string whole = e2e::read_file(place);
    fs::remove(place);
    const Output planned = claim.run({"plan", file.string()});
    INFO(planned.err);
    CHECK(planned.exit_code == 0);
    CHECK_THAT(planned.out, Contains("Needs: these files are absent") && Contains(name) &&
                                Contains("needs files"));
    const Output refused = claim.run({"run", file.string()});
    CHECK(refused.exit_code == 3);
    CHECK_THAT(refused.err, Contains(name));
    claim.write(name, whole.substr(0, whole.size() / 2));
    const Output damaged = claim.run({"plan", file.string()});
    // Weights are hashed to plan, and read when they are used.
    CHECK(damaged.exit_code == (name == std::string("weights.safetensors") ? 0 : 3));
    claim.write(name, whole);
  }
  CHECK(claim.run({"plan", file.string()}).exit_code == 0);
  CHECK_FALSE(fs::exists(claim.home() / "results.sqlite"));
}

TEST_CASE("data-free: statistics that cannot be used are refused before anything is trained",
          "[e2e][data_free]") {
  const Claim claim;
  const auto file = claim.write("claim.toml", kRows + kStatistics);
  const auto with = [&](const std::string& statistics) {
    return claim.run({"run", file.string(), "--set",
                      "reference.statistics=" + (claim.home() / statistics).string()});
  };
  const auto trained = [&] {
    return fs::exists(claim.home() / "artifacts/train") ||
           fs::exists(claim.home() / "artifacts/synthetic");
  };
  const Output missing = with("no.npz");
  CHECK(missing.exit_code == 3);
  CHECK_THAT(missing.err, Contains("no.npz: No such file"));

  const Output images = with("images.npz");
  CHECK(images.exit_code == 2);
  CHECK_THAT(images.err, Contains("images.npz holds none (mu, sigma); `dkdm ref make"));

  // Of other images, and of another protocol.
  const at::Tensor large = dkdm::fixtures::inception_images({6, 3, 16, 16});
  io::write_npz(claim.home() / "large.npz", {{"arr_0", large.permute({0, 2, 3, 1}).contiguous()}});
  REQUIRE(claim
              .run({"ref", "make", "npz:file=" + (claim.home() / "large.npz").string(), "-o",
                    (claim.home() / "large-statistics.npz").string(), "--set",
                    "weights=" + (claim.home() / "weights.safetensors").string()})
              .exit_code == 0);
  const Output sizes = with("large-statistics.npz");
  CHECK(sizes.exit_code == 2);
  CHECK_THAT(sizes.err, Contains("3x16x16") && Contains("3x8x8"));

  const Output protocol = claim.run({"run", file.string(), "--set", "evaluator.protocol=clean",
                                     "--set", "evaluator.metrics=[\"fid\"]"});
  CHECK(protocol.exit_code != 0);
  CHECK_THAT(protocol.err, Contains("its statistics are of protocol"));
  CHECK_FALSE(trained());
}

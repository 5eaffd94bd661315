// Whole experiments on an accelerator, which here is the fake one (tests/fake_device), in the real
// program: what they make has the bits of the CPU's.
#include <catch2/catch.hpp>
#include <map>
#include <nlohmann/json.hpp>

#include "e2e/fixture_experiment.hpp"
#include "e2e/program.hpp"
#include "e2e/query.hpp"

namespace {

using e2e::Output;
using e2e::Program;
using e2e::query;
using e2e::With;
namespace fs = std::filesystem;
using Words = std::vector<std::string>;

// The fake accelerator is there meanwhile.
struct WithDevice {
  With loaded{"LD_PRELOAD", DKDM_BUILD_DIR "/tests/libfake-device.so"};
};

// "stage/key/file" of every artifact in the store -> what it holds, but for files that tell times.
std::map<std::string, std::string> artifacts(const Program& program) {
  std::map<std::string, std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(program.home() / "artifacts")) {
    if (entry.path().filename() != "manifest.json") continue;
    const auto manifest = nlohmann::json::parse(e2e::read_file(entry.path()));
    const auto folder = entry.path().parent_path();
    for (const auto& file : manifest.at("files")) {
      const auto name = file.at("name").get<std::string>();
      if (name == "samples.json") continue;
      found[folder.parent_path().filename().string() + '/' + folder.filename().string() + '/' +
            name] = file.at("sha256").get<std::string>();
    }
  }
  return found;
}

// Every method and baseline of the paper, in a few steps and images.
const Words kQuickstart{"run",   "desk/quickstart",        "--set", "train.steps=20",
                        "--set", "teacher.train.steps=20", "--set", "train.checkpoint_every=7",
                        "--set", "sample.count=140",       "--set", "sample.respacing=4",
                        "--set", "synthetic.count=320",    "--set", "synthetic.respacing=4",
                        "--set", "train.batch=8",          "--set", "evaluate.every=10"};

Words on(const std::string& device, Words words) {
  words.insert(words.end(), {"--device", device});
  return words;
}

}  // namespace

TEST_CASE("device: an experiment of all methods gives the CPU's bits, and goes on after a kill",
          "[e2e]") {
  const Program here, there;
  const auto done = [](const Output& output) {
    INFO(output.err);
    REQUIRE(output.exit_code == 0);
  };
  done(here.run(on("cpu", kQuickstart)));

  const WithDevice device;
  const auto killed = there.run_until(
      on("fake", kQuickstart),
      [&] {
        for (const auto& entry : fs::recursive_directory_iterator(
                 there.home(), fs::directory_options::skip_permission_denied))
          if (entry.path().filename() == "earlier-checkpoint.safetensors") return true;
        return false;
      },
      SIGKILL);
  CHECK(killed.exit_code == 128 + SIGKILL);
  const auto on_device = there.run(on("fake", kQuickstart));
  done(on_device);
  CHECK(on_device.err.find("continuing from step") != std::string::npos);

  const auto expected = artifacts(here), found = artifacts(there);
  CHECK(expected.size() > 20);
  for (const auto& [name, sha256] : expected) {
    INFO(name);
    if (name.ends_with("/samples.json")) continue;  // what drawing them took
    const auto same = found.find(name);
    REQUIRE(same != found.end());
    CHECK(same->second == sha256);
  }

  // Where the batch set lies changes nothing.
  const Program apart;
  auto words = kQuickstart;
  words.insert(words.end(), {"--rows", "dynamic", "--set", "train.pool=host"});
  done(apart.run(on("fake", words)));
  for (const auto& [name, sha256] : artifacts(apart)) {
    INFO(name);
    CHECK(expected.at(name) == sha256);
  }

  // Nor does it that passes are recorded and launched as a whole.
  const Program graphs;
  words = kQuickstart;
  words.insert(words.end(), {"--set", "train.graphs=true", "--set", "teacher.train.graphs=true"});
  done(graphs.run(on("fake", words)));
  for (const auto& [name, sha256] : artifacts(graphs)) {
    INFO(name);
    if (!name.ends_with("/samples.json")) CHECK(expected.at(name) == sha256);
  }
  CHECK(query(graphs,
              "SELECT r.row, s.graphs FROM stages s JOIN runs r ON r.id = s.run "
              "WHERE s.name = 'train' AND s.status = 'done' ORDER BY r.row")
            .dump() == R"([{"graphs":"student recorded","row":"data_based"},)"
                       R"({"graphs":"student recorded","row":"data_free"},)"
                       R"({"graphs":"student recorded","row":"data_limited_20"},)"
                       R"({"graphs":"student recorded, teacher recorded","row":"dynamic"},)"
                       R"({"graphs":"student recorded, teacher recorded","row":"iterative"},)"
                       R"({"graphs":"student recorded, teacher recorded","row":"shuffled"}])");
  CHECK(query(there, "SELECT DISTINCT graphs FROM stages").dump() == R"([{"graphs":""}])");

  // What is on record of it: the device, and what it held; the CPU has nothing of that kind.
  const std::string machines = "SELECT DISTINCT device, repeatable FROM run_machines";
  CHECK(query(there, machines).dump() == R"([{"device":"fake:0","repeatable":1}])");
  CHECK(query(here, machines).dump() == R"([{"device":"cpu","repeatable":1}])");
  const std::string memory =
      "SELECT count(*) AS n, min(device_peak_bytes) AS least FROM stages WHERE name = 'train'";
  const auto on_record = query(there, memory)[0];
  CHECK(e2e::number(on_record["n"]) > 4);
  CHECK(e2e::number(on_record["least"]) > 1e6);
  CHECK(query(here, memory)[0]["least"].is_null());
}

TEST_CASE("device: doctor says what networks compute on, and why not on the GPU that is there",
          "[e2e][cli]") {
  const Program dkdm;
  const auto device = [&] {
    const auto output = dkdm.run({"doctor", "--format", "json"});
    INFO(output.err);
    CHECK(output.exit_code == 0);
    for (const auto& item : nlohmann::json::parse(output.out))
      if (item["item"] == "device") return item;
    return nlohmann::json();
  };
  const With none("CUDA_VISIBLE_DEVICES", "");
  {
    const WithDevice fake;
    const auto item = device();
    CHECK(item["state"] == "ok");
    CHECK(item["what"].get<std::string>().starts_with("fake:0: fake, 64.0 GiB"));
  }
  // A driver that names a GPU, which this LibTorch cannot use.
  const auto tool = dkdm.write("nvidia-smi", "#!/bin/sh\necho 'NVIDIA T4'\n");
  fs::permissions(tool, fs::perms::owner_all);
  const With path("PATH", dkdm.home().string() + ":" + std::getenv("PATH"));
  const auto item = device();
  CHECK(item["state"] == "note");
  const auto what = item["what"].get<std::string>();
  INFO(what);
  CHECK(what.starts_with("cpu, although there is a GPU: device cuda:0 cannot be used: LibTorch "));
}

TEST_CASE("device: what eval recorded of foreign images names the device", "[e2e][eval]") {
  const Program dkdm;
  const e2e::WithFixtures fixtures;
  const WithDevice device;
  for (const std::string name : {"fake", "cpu"}) {
    const auto output = dkdm.run(on(name, {"eval", "fixture-images", "fixture-images",
                                           "--evaluator", "fixture-metric", "--record"}));
    INFO(output.err);
    CHECK(output.exit_code == 0);
  }
  CHECK(query(dkdm, "SELECT device FROM run_machines ORDER BY run").dump() ==
        R"([{"device":"fake:0"},{"device":"cpu"}])");
}

TEST_CASE("device: what is not there is refused in one line, and a full one says what to lower",
          "[e2e]") {
  const Program program;
  const auto refused = [&](const Words& words, const std::string& said) {
    const auto output = program.run(words);
    INFO(output.err);
    CHECK(output.exit_code == 2);
    CHECK(output.err.find(said) != std::string::npos);
    const auto artifacts = program.home() / "artifacts";
    CHECK((!fs::exists(artifacts) || fs::is_empty(artifacts)));
  };
  refused(on("tpu", kQuickstart), "--device: there is no device \"tpu\", expected auto, cpu, cuda");
  refused(on("cuda:x", kQuickstart), "--device: there is no device \"cuda:x\"");
  auto in_file = kQuickstart;
  in_file.insert(in_file.end(), {"--set", "experiment.device=gpu"});
  refused(in_file, "--set experiment.device: device: there is no device \"gpu\"");
  {
    const With variable("DKDM_DEVICE", "vulcan");
    refused(kQuickstart, "$DKDM_DEVICE");
  }
  auto tf32 = on("cpu", kQuickstart);
  tf32.insert(tf32.end(), {"--set", "train.precision=tf32"});
  refused(tf32, "tf32 is of CUDA devices");

  const WithDevice device;
  refused(on("fake:1", kQuickstart), "device fake:1 cannot be used: there is 1 device");
  const auto full = [&](const std::string& bytes, Words words, const std::string& said) {
    const With small("FAKE_DEVICE_BYTES", bytes);
    for (const char* word : {"--rows", "data_based", "--set", "train.steps=3", "--fail-fast"})
      words.emplace_back(word);
    const auto output = program.run(on("fake", words));
    INFO(output.err);
    CHECK(output.exit_code == 1);
    CHECK(output.err.find("device fake:0: out of memory: tried to allocate ") != std::string::npos);
    CHECK(output.err.find(said) != std::string::npos);
    return output.err;
  };
  full("4000000", {"run", "desk/quickstart"}, "its networks alone take ");
  const auto err = full("100000000", {"run", "desk/quickstart", "--set", "train.batch=4096"},
                        "a smaller train.batch");

  // It was said before anything began, and a plan says the same.
  const auto begins = err.find("train data_based needs ");
  REQUIRE(begins != std::string::npos);
  const auto said = err.substr(begins, err.find('\n', begins) - begins);
  CHECK(said.find(", fake:0 has 100 MB (") != std::string::npos);
  CHECK(said.find("): lower train.batch, or train.precision = \"bf16\"") != std::string::npos);
  const With small("FAKE_DEVICE_BYTES", "100000000");
  const auto plan =
      program.run(on("fake", {"plan", "desk/quickstart", "--rows", "data_based", "--set",
                              "train.steps=3", "--set", "train.batch=4096", "--memory"}));
  INFO(plan.out);
  CHECK(plan.exit_code == 0);
  CHECK(plan.out.find(said + '\n') != std::string::npos);
}

TEST_CASE("device: a run that dies while it is planned is recorded on the device that it was for",
          "[e2e]") {
  const e2e::WithFixtures fixtures;
  const Program program;
  const auto file = program.write("crash.toml", e2e::fixture_experiment("name = \"crash\"", R"toml(
[[row]]
id = "constructor"
method = { plugin = "data-based" }
student = { plugin = "fixture-crashing-student", where = "constructor" }
)toml"));
  const auto recorded = [&] {
    return query(program,
                 "SELECT e.device, a.status, a.stage FROM attempts a JOIN environments e "
                 "ON e.id = a.environment ORDER BY a.id DESC LIMIT 1")
        .dump();
  };
  CHECK(program.run({"run", file, "--isolate", "--device", "cpu"}).exit_code == 1);
  CHECK(recorded() == R"([{"device":"cpu","stage":"plan","status":"failed"}])");
  const WithDevice device;
  CHECK(program.run({"run", file, "--isolate", "--device", "fake"}).exit_code == 1);
  CHECK(recorded() == R"([{"device":"fake:0","stage":"plan","status":"failed"}])");
}

TEST_CASE("device: a plugin is checked where it would compute", "[e2e]") {
  const Program program;
  const WithDevice device;
  const fs::path module = DKDM_BUILD_DIR "/tests/fixtures/plugins/faulty-student.so";
  const auto sound = program.run({"plugins", "check", module.string()});
  INFO(sound.out << sound.err);
  CHECK(sound.exit_code == 0);
  CHECK(sound.out.find("computes on fake:0") != std::string::npos);
  const auto faulty = program.run({"plugins", "check", module.string(), "--set", "fault=device"});
  INFO(faulty.out << faulty.err);
  CHECK(faulty.exit_code == 1);
  CHECK(faulty.out.find("forward on fake:0: aten::add gets Float [32] on the CPU") !=
        std::string::npos);
}

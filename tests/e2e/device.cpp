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
namespace fs = std::filesystem;
using Words = std::vector<std::string>;

// A variable of the environment for every program that is started meanwhile.
class With {
 public:
  With(const char* name, const std::string& value) : name_(name) {
    ::setenv(name, value.c_str(), 1);
  }
  ~With() { ::unsetenv(name_); }
  With(const With&) = delete;
  With& operator=(const With&) = delete;

 private:
  const char* name_;
};

// The fake accelerator is there meanwhile.
struct WithDevice {
  With loaded{"LD_PRELOAD", DKDM_BUILD_DIR "/tests/libfake-device.so"};
};

// "stage/key" of every artifact in the store -> what its files hold.
std::map<std::string, std::string> artifacts(const Program& program) {
  std::map<std::string, std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(program.home() / "artifacts")) {
    if (entry.path().filename() != "manifest.json") continue;
    const auto manifest = nlohmann::json::parse(e2e::read_file(entry.path()));
    const auto folder = entry.path().parent_path();
    for (const auto& file : manifest.at("files")) {
      const auto name = file.at("name").get<std::string>();
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
  const auto on_cpu = here.run(on("cpu", kQuickstart));
  INFO(on_cpu.err);
  REQUIRE(on_cpu.exit_code == 0);

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
  INFO(on_device.err);
  REQUIRE(on_device.exit_code == 0);
  CHECK(on_device.err.find("continuing from step") != std::string::npos);

  const auto expected = artifacts(here), found = artifacts(there);
  CHECK(expected.size() > 20);
  for (const auto& [name, sha256] : expected) {
    INFO(name);
    const auto same = found.find(name);
    REQUIRE(same != found.end());
    CHECK(same->second == sha256);
  }
}

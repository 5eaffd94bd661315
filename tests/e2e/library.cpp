// dkdm as a library: docs/examples/distill.cpp, built against the installed package, gives the
// weights that the host gives.
#include <catch2/catch.hpp>

#include <algorithm>

#include "e2e/fixture_experiment.hpp"
#include "e2e/program.hpp"

namespace {

using e2e::Output;
using e2e::Program;
namespace fs = std::filesystem;

const fs::path kRoot = fs::path(DKDM_BUILD_DIR) / "tests/library.d";

// A shell command; its output goes to files of kRoot.
Output shell(const std::string& command) {
  const std::string file = (kRoot / "command").string();
  std::ofstream(file) << "set -e\n" << command << '\n';
  const int status =
      std::system(("bash " + file + " >" + file + ".out 2>" + file + ".err").c_str());
  return {WEXITSTATUS(status), e2e::read_file(file + ".out"), e2e::read_file(file + ".err")};
}

Output done(const std::string& command) {
  const Output output = shell(command);
  INFO(command << "\n" << output.out << "\n" << output.err);
  REQUIRE(output.exit_code == 0);
  return output;
}

// The example as a reader builds it: a copy of the installed folder, beside a package without a
// source tree.
const fs::path& distill() {
  static const fs::path program = [] {
    fs::remove_all(kRoot);
    fs::create_directories(kRoot);
    done("cmake --install " DKDM_BUILD_DIR " --prefix " + (kRoot / "package").string());
    done("cp -r " + (kRoot / "package/share/doc/dkdm/examples").string() + " " +
         (kRoot / "example").string() +
         "\ncommand -v ccache >/dev/null && export CMAKE_CXX_COMPILER_LAUNCHER=ccache\n"
         "cd " +
         (kRoot / "example").string() +
         "\ncmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH=" +
         (kRoot / "package").string() + "\ncmake --build build");
    return kRoot / "example/build/distill";
  }();
  return program;
}

// The folder of the weights that `row` trained last.
fs::path trained(const Program& program, const std::string& row) {
  const Output said = program.run(
      {"query",
       "SELECT artifact FROM stages JOIN runs ON runs.id = stages.run WHERE stages.name = '" +
           std::string(row == "teacher" ? "teacher" : "train") + "' AND runs.row = '" + row + "'",
       "--format", "csv"});
  INFO(said.err);
  REQUIRE(said.exit_code == 0);
  const auto line = said.out.find('\n') + 1;
  return program.home() / said.out.substr(line, said.out.find_first_of("\r\n", line) - line);
}

// Ten steps of a chain, and more training than rows have steps: many a row becomes an image and
// restarts. The student draws random numbers in training.
const std::string kRows = R"toml(
[diffusion]
steps = 10
[synthetic]
respacing = "2"
[teacher.train]
steps = 20
lr = 0.05
ema = 0.5
[[row]]
id = "teacher"
teacher = true
[[row]]
id = "dynamic"
method.plugin = "dynamic"
student.plugin = "fixture-noisy"
train.steps = 60
)toml";

}  // namespace

TEST_CASE("library: the example of Algorithm 1 gives the weights of method dynamic, to the bit",
          "[e2e][sdk]") {
  const e2e::WithFixtures fixtures;
  ::setenv("OMP_NUM_THREADS", "2", 1);
  const Program program;
  const auto file = program.write("tiny.toml", e2e::fixture_experiment("name = \"tiny\"\n", kRows));
  const Output run = program.run({"run", file});
  INFO(run.err);
  REQUIRE(run.exit_code == 0);

  const fs::path teacher = trained(program, "teacher"), student = trained(program, "dynamic");
  const Output said = done(distill().string() + " " + teacher.string() + " fixture-noisy 4 60 " +
                           (program.home() / "out").string());
  CHECK(said.out.find("step 0: L_simple ") == 0);
  for (const char* weights : {"raw.safetensors", "ema.safetensors"}) {
    INFO(weights);
    const std::string expected = e2e::read_file(student / weights);
    REQUIRE(!expected.empty());
    CHECK(e2e::read_file(program.home() / "out" / weights) == expected);
    CHECK(e2e::read_file(teacher / weights) != expected);
  }
}

TEST_CASE("library: what the example is given wrongly is named", "[e2e][sdk]") {
  const e2e::WithFixtures fixtures;
  const auto refused = [](const std::string& arguments, const std::string& names) {
    const Output output = shell(distill().string() + " " + arguments);
    INFO(output.err);
    CHECK(output.exit_code == 1);
    CHECK(output.err.find(names) != std::string::npos);
  };
  refused("nowhere fixture-student 4 60 out", "nowhere: not a trained model");
  CHECK(shell(distill().string()).exit_code == 2);
}

TEST_CASE("library: the example fits a page", "[e2e][sdk]") {
  const std::string text = e2e::read_file(DKDM_SOURCE_DIR "/docs/examples/distill.cpp");
  CHECK(std::count(text.begin(), text.end(), '\n') < 130);
  for (const char* line :
       {"Line 1", "lines 2 and 3", "Line 4", "Line 5", "Line 6", "Line 7", "Line 8", "line 9"}) {
    INFO(line);
    CHECK(text.find(line) != std::string::npos);
  }
}

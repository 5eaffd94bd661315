// The real program on what others may have left: recorded plugins, pipes, lost output
// (docs/trust.md).
#include <fcntl.h>
#include <sys/stat.h>
#include <catch2/catch.hpp>

#include <algorithm>

#include "e2e/program.hpp"
#include "results/store/store.hpp"
#include "results_support.hpp"

namespace {

using Catch::Contains;
using e2e::Program;
namespace fs = std::filesystem;
namespace results = dkdm::results;

// Exit code and stderr of a line of shell, in which $dkdm is the program.
struct Ended {
  int code;
  std::string err;
};

Ended shell(const Program& home, const std::string& line) {
  const auto errors = home.home() / "shell-stderr";
  const std::string command = "export DKDM_HOME='" + home.home().string() +
                              "' dkdm='" DKDM_BUILD_DIR "/dkdm'; { " + line + "; } 2>'" +
                              errors.string() + "'";
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128, e2e::read_file(errors)};
}

// A run on record, with a trained network of student "ghost" from a library that marks its opening.
void record_ghost(const Program& home, const fs::path& library) {
  results::Store store(home.home() / "results.sqlite");
  auto run = results::testing::a_run("dynamic");
  run.student = "ghost";
  run.config += "[sample]\ncount = 4\n";
  const auto id = store.begin_run(run, results::testing::an_environment(),
                                  {{"student", "ghost", "1", "", library.string()}});
  dkdm::record::StageRecord stage;
  stage.name = "train";
  stage.key = "k";
  stage.artifact = "artifacts/train/k";
  store.record_stage(id, stage);
  stage.name = "sample";
  stage.artifact = "";
  store.record_stage(id, stage);
  store.end_run(id, "done", "", "");
  fs::create_directories(home.home() / "artifacts/train/k");
  home.write("artifacts/train/k/model.json",
             R"({"student": {"plugin": "ghost", "version": "1", "params": {}},
                 "image": {"channels": 1, "size": 16}, "diffusion": {"schedule": "linear", "steps": 10},
                 "trained_steps": 1})");
}

}  // namespace

TEST_CASE("trust: a library that a database records is shown and never opened", "[e2e][results]") {
  const Program home;
  const fs::path library = DKDM_BUILD_DIR "/tests/fixtures/plugins/marking-initialiser.so";
  REQUIRE(fs::exists(library));
  const auto mark = home.home() / "mark";
  ::setenv("DKDM_TEST_MARK", mark.c_str(), 1);
  record_ghost(home, library);
  for (const auto& command : std::vector<std::vector<std::string>>{
           {"sample", "1", "-n", "1", "-o", (home.home() / "x.png").string()},
           {"checkpoint", "export", "1", (home.home() / "x.pt").string()},
           {"eval", "1", "1", "--evaluator", "classifier"},
           {"runs", "show", "1"},
           {"report"},
           {"db", "check"}}) {
    INFO(command[0]);
    const auto said = home.run(command);
    CHECK_FALSE(fs::exists(mark));
    if (command[0] != "sample" && command[0] != "checkpoint" && command[0] != "eval") continue;
    CHECK(said.exit_code != 0);
    CHECK_THAT(said.err, Contains("unknown student \"ghost\"") && Contains(library.string()) &&
                             Contains("DKDM_PLUGIN_PATH=" + library.string()));
    if (command[0] != "eval") CHECK(std::count(said.err.begin(), said.err.end(), '\n') == 1);
  }
  INFO("given by its user it is opened, which shows that the mark would tell");
  ::setenv("DKDM_PLUGIN_PATH", library.c_str(), 1);
  home.run({"sample", "1"});
  ::unsetenv("DKDM_PLUGIN_PATH");
  ::unsetenv("DKDM_TEST_MARK");
  CHECK(fs::exists(mark));
}

TEST_CASE("trust: output that cannot be written is said, and ends with 1", "[e2e][cli]") {
  const Program home;
  {
    results::Store store(home.home() / "results.sqlite");
  }
  for (const std::string command : {"--help", "query 'SELECT 1'", "runs", "data list",
                                    "report --help", "db schema", "plugins list"}) {
    INFO(command);
    const auto full = shell(home, "$dkdm " + command + " > /dev/full");
    CHECK(full.code == 1);
    CHECK_THAT(full.err, Contains("dkdm: standard output: cannot be written"));
    const auto closed = shell(home, "$dkdm " + command + " >&-");
    CHECK(closed.code == 1);
    CHECK_THAT(closed.err,
               Contains("dkdm: standard output: cannot be written: Bad file descriptor"));
    CHECK(shell(home, "$dkdm " + command + " > /dev/null").code == 0);
  }
  INFO("with nothing to print a closed stdout is no loss, and no file gets its place");
  CHECK(shell(home, "$dkdm db migrate >&-").code == 0);
  CHECK(home.run({"db", "check"}).exit_code == 0);
}

TEST_CASE("trust: -o writes into devices and pipes, and a full one is an error", "[e2e][cli]") {
  const Program home;
  {
    results::Store store(home.home() / "results.sqlite");
    results::testing::add_finished(store, results::testing::a_run("dynamic"),
                                   {results::testing::a_metric("fid", 9)});
  }
  const auto full = shell(home, "$dkdm report -o /dev/full");
  CHECK(full.code == 1);
  CHECK_THAT(full.err, Contains("/dev/full: cannot write: No space left on device"));
  CHECK(fs::is_character_file("/dev/full"));
  CHECK(shell(home, "$dkdm report -o /dev/null").code == 0);
  CHECK(fs::is_character_file("/dev/null"));
  const auto out = (home.home() / "out").string();
  CHECK(shell(home, "echo before > " + out + "; $dkdm report --format csv -o /dev/stdout >> " + out)
            .code == 0);
  CHECK_THAT(e2e::read_file(out),
             Catch::StartsWith("before\nexperiment,") && !Contains("/dev/stdout"));
  CHECK(shell(home, "$dkdm report --format csv -o /dev/fd/3 3> " + out).code == 0);
  CHECK_THAT(e2e::read_file(out), Catch::StartsWith("experiment,"));
}

TEST_CASE("trust: a pipe where a file is expected is one line, at once", "[e2e][cli]") {
  const Program home;
  {
    results::Store store(home.home() / "results.sqlite");
  }
  for (const char* name : {"x.pt", "x.npz", "x.safetensors", "x.toml", "x.tar", "x.json", "x.so"}) {
    REQUIRE(::mkfifo((home.home() / name).c_str(), 0600) == 0);
  }
  const auto in = home.home().string() + "/";
  for (const std::string command :
       {"checkpoint inspect $in/x.pt", "checkpoint inspect $in/x.npz",
        "checkpoint inspect $in/x.safetensors", "ref inspect $in/x.npz", "plan $in/x.toml",
        "run $in/x.toml", "db merge $in/x.tar", "report --against $in/x.json", "report $in/x.toml",
        "plugins check $in/x.so", "eval $in/x.npz $in/x.npz"}) {
    INFO(command);
    const auto said = shell(home, "in=" + in + "; timeout 30 $dkdm " + command + " > /dev/null");
    CHECK(said.code != 0);
    CHECK(said.code != 124);
    if (command.starts_with("plugins check")) continue;  // it is what its table says
    CHECK(std::count(said.err.begin(), said.err.end(), '\n') == 1);
  }
}

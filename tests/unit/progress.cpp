// The word that a process leaves of how far it is (core/record/progress_file.hpp).
#include "record/progress_file.hpp"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include <fstream>

#include "record/process.hpp"
#include "run/progress.hpp"

using namespace dkdm::record;
using dkdm::run::Progress;
namespace fs = std::filesystem;

namespace {

struct Folder {
  Folder() {
    std::string name = (fs::temp_directory_path() / "dkdm-progress-XXXXXX").string();
    path = mkdtemp(name.data());
  }
  ~Folder() { fs::remove_all(path); }
  fs::path path;
};

}  // namespace

TEST_CASE("progress: others read how far a stage is, and nothing is left at the end",
          "[unit][run]") {
  const Folder folder;
  {
    Progress progress({10, 30}, folder.path / "progress", "run");
    progress.begin("train dynamic", "abc");
    const auto records = read_progress(folder.path / "progress");
    REQUIRE(records.size() == 1);
    CHECK(records[0].command == "run");
    CHECK(records[0].label == "train dynamic");
    CHECK(records[0].key == "abc");
    CHECK(records[0].pid == getpid());
    CHECK(records[0].process == process_token(getpid()));
    CHECK(records[0].stage == 1);
    CHECK(records[0].stages == 2);
    CHECK(records[0].left_s > 35);  // nothing is done: about 10 s and 30 s
    CHECK(records[0].left_s < 41);
    progress.end();
    progress.begin("evaluate", "def");
    CHECK(read_progress(folder.path / "progress")[0].stage == 2);
  }
  CHECK(read_progress(folder.path / "progress").empty());
}

TEST_CASE("progress: what a killed process left goes with the next one", "[unit][run]") {
  const Folder folder;
  const pid_t child = fork();
  if (child == 0) {
    ProgressFile file(folder.path);
    file.write({});
    raise(SIGKILL);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(read_progress(folder.path).size() == 1);
  std::ofstream(folder.path / "damaged.json") << "{\"host\": 7";
  const ProgressFile next(folder.path);
  CHECK(read_progress(folder.path).empty());
}

TEST_CASE("progress: a file that somebody else put there is passed over, however deep it is nested",
          "[unit][run]") {
  const Folder folder;
  {
    std::ofstream(folder.path / "deep.json") << "{\"host\":" << std::string(30'000, '[');
  }
  {
    std::ofstream(folder.path / "large.json") << std::string(100'000, ' ');
  }
  REQUIRE(::mkfifo((folder.path / "pipe.json").c_str(), 0600) == 0);
  fs::create_symlink("loop.json", folder.path / "loop.json");
  CHECK(read_progress(folder.path).empty());
}

TEST_CASE("progress: a folder that cannot be written stops nothing", "[unit][run]") {
  const Folder folder;
  std::ofstream(folder.path / "file") << "x";
  Progress progress({}, folder.path / "file" / "below", "run");
  progress.begin("a stage");
  progress.update("steps", 1, 2);
  progress.end();
  CHECK(read_progress(folder.path / "file" / "below").empty());
}

TEST_CASE("progress: rates are iterations a second, or seconds each where they are slow",
          "[unit][run]") {
  CHECK(rate_text(0.24) == "0.24 s/it");
  CHECK(rate_text(1.0 / 11) == "11 it/s");
  CHECK(rate_text(0).empty());
}

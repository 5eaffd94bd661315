// What can go wrong around a run, through the real program: one clear line, the right exit code,
// and everything recorded before intact. Networks, images and metrics are fixtures of a few
// numbers, so a run takes a moment; full disk and read-only store are real mounts, seen by this
// test alone.
#include <sched.h>
#include <sys/mount.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <map>

#include "e2e/fixture_experiment.hpp"
#include "e2e/program.hpp"

namespace {

using e2e::Output;
using e2e::Program;
using e2e::WithFixtures;
using nlohmann::json;
namespace fs = std::filesystem;

const std::string kExperiment = e2e::fixture_experiment("name = \"faults\"", R"toml(
[[row]]
id = "teacher"
teacher = true
[[row]]
id = "data_based"
method = { plugin = "data-based" }
)toml");

// A mount that only this process and its children see; gone with the object.
class Mount {
 public:
  Mount(fs::path where, const char* type, unsigned long flags, const char* options)
      : where_(std::move(where)) {
    static const bool own = ::unshare(CLONE_NEWNS) == 0 &&
                            ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
    mounted_ =
        own && ::mount(where_.c_str(), where_.c_str(), type, flags & ~MS_RDONLY, options) == 0;
    // A bind mount takes its flags only when it is mounted again.
    if (mounted_ && (flags & MS_RDONLY) != 0)
      mounted_ = ::mount("none", where_.c_str(), nullptr, MS_REMOUNT | flags, nullptr) == 0;
    if (!mounted_) WARN("not checked: mounting needs the rights of root");
  }
  ~Mount() {
    if (mounted_) ::umount2(where_.c_str(), MNT_DETACH);
  }
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;
  bool mounted() const { return mounted_; }

 private:
  fs::path where_;
  bool mounted_ = false;
};

// The lines of stderr that are the program's complaint, without progress and announcements.
std::vector<std::string> complaints(const Output& output) {
  std::vector<std::string> found;
  std::istringstream lines(output.err);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("dkdm: ") || line.starts_with("failed: ")) found.push_back(line);
  return found;
}

void check_complaint(const Output& output, int exit_code, const std::vector<std::string>& names) {
  INFO("stderr: " << output.err);
  CHECK(output.exit_code == exit_code);
  REQUIRE(complaints(output).size() == 1);
  for (const auto& name : names) CHECK(complaints(output)[0].find(name) != std::string::npos);
}

json statuses(const Program& program, const fs::path& store) {
  const auto output = program.run(
      {"query", "SELECT row, status FROM run_status ORDER BY run", "--format", "json"}, store);
  INFO(output.err);
  REQUIRE(output.exit_code == 0);
  return json::parse(output.out);
}

// The teacher's row, made in `store` before the fault.
void make_teacher(const Program& program, const fs::path& file, const fs::path& store = {}) {
  const auto first = program.run({"run", file, "--rows", "teacher"}, store);
  INFO(first.err);
  REQUIRE(first.exit_code == 0);
}

}  // namespace

TEST_CASE("faults: missing and truncated data end with 3 and name the file", "[e2e][faults]") {
  const WithFixtures fixtures;
  const Program program;
  const auto file = program.write("faults.toml", kExperiment);
  const auto root = program.home() / "images";
  const std::vector<std::string> command{"run",   file,
                                         "--set", "dataset.plugin=fashion-mnist",
                                         "--set", "dataset.root=" + root.string()};
  check_complaint(program.run(command), 3, {"train-images-idx3-ubyte", "dataset-fashion-mnist"});

  fs::create_directory(root);
  const std::string name = "train-images-idx3-ubyte.gz";
  const auto whole = e2e::read_file(fs::path("/usr/share/datasets/fashion-mnist") / name);
  REQUIRE(whole.size() > 100'000);
  std::ofstream(root / name, std::ios::binary) << whole.substr(0, 100'000);
  fs::copy("/usr/share/datasets/fashion-mnist/train-labels-idx1-ubyte.gz", root);
  check_complaint(program.run(command), 3, {(root / name).string()});
  CHECK_FALSE(fs::exists(program.home() / "results.sqlite"));  // nothing was begun
}

TEST_CASE("faults: an unknown plugin and one of another compiler end with 2", "[e2e][faults]") {
  const WithFixtures fixtures;
  const Program program;
  const auto file = program.write("faults.toml", kExperiment);
  check_complaint(program.run({"run", file, "--set", "student.plugin=fixture-studnet"}), 2,
                  {"unknown student \"fixture-studnet\"", "did you mean \"fixture-student\"?"});
  check_complaint(program.run({"run", file, "--set", "student.plugin=wrong-build-id"}), 2,
                  {"wrong-build-id.so", "compiler 4", "rebuild"});
  // The refused module is listed with its reason, and stops nobody else.
  const auto listing = program.run({"plugins"});
  CHECK(listing.exit_code == 0);
  CHECK(listing.out.find("fixture-student") != std::string::npos);
  CHECK(listing.err.find("wrong-build-id.so") != std::string::npos);
}

TEST_CASE("faults: a database of a newer version is refused and left as it was", "[e2e][faults]") {
  const WithFixtures fixtures;
  const Program program;
  const auto file = program.write("faults.toml", kExperiment);
  make_teacher(program, file);
  // user_version lies at byte 60 of the file, big-endian (SQLite's file format, 1.3).
  const auto database = program.home() / "results.sqlite";
  {
    std::fstream bytes(database, std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekp(60);
    bytes.write("\0\0\x03\xe7", 4);
  }
  const auto before = e2e::read_file(database);
  check_complaint(program.run({"run", file}), 1, {"schema version 999", "update dkdm"});
  check_complaint(program.run({"report"}), 1, {"schema version 999"});
  CHECK(e2e::read_file(database) == before);
}

TEST_CASE("faults: a full disk stops the run, which goes on when there is room", "[e2e][faults]") {
  const WithFixtures fixtures;
  const Program program;
  const auto file = program.write("faults.toml", kExperiment);
  // The program's own stdout and stderr lie outside of the disk that fills up.
  const auto store = program.home() / "store";
  fs::create_directory(store);
  const Mount disk(store, "tmpfs", 0, "size=4m");
  if (!disk.mounted()) return;
  make_teacher(program, file, store);

  const auto ballast = store / "ballast";
  {
    std::ofstream filling(ballast, std::ios::binary);
    const std::string block(4096, 'x');
    while (filling.write(block.data(), 4096).flush()) {
    }
  }
  const auto full = program.run({"run", file}, store);
  INFO("stderr: " << full.err);
  CHECK(full.exit_code == 1);
  REQUIRE(complaints(full).size() == 1);
  const auto line = complaints(full)[0];
  CHECK((line.find("No space left on device") != std::string::npos ||
         line.find("the disk is full") != std::string::npos));

  fs::remove(ballast);
  CHECK(statuses(program, store)[0] == json({{"row", "teacher"}, {"status", "done"}}));
  const auto continued = program.run({"run", file}, store);
  INFO(continued.err);
  CHECK(continued.exit_code == 0);
  CHECK(statuses(program, store).back() == json({{"row", "data_based"}, {"status", "done"}}));
}

TEST_CASE("faults: a read-only store refuses to run and still answers", "[e2e][faults]") {
  const WithFixtures fixtures;
  const Program program;
  const auto file = program.write("faults.toml", kExperiment);
  make_teacher(program, file);
  // The program's own stdout and stderr lie outside of what is made read-only.
  const auto store = program.home() / "store";
  fs::create_directory(store);
  for (const char* part : {"artifacts", "work", "results.sqlite"})
    fs::rename(program.home() / part, store / part);
  const Mount frozen(store, nullptr, MS_BIND | MS_RDONLY, nullptr);
  if (!frozen.mounted()) return;
  check_complaint(program.run({"run", file}, store), 1,
                  {store.string(), "cannot be opened: Read-only file system", "DKDM_HOME"});
  const auto answer =
      program.run({"query", "SELECT row FROM run_status", "--format", "csv"}, store);
  INFO(answer.err);
  CHECK(answer.exit_code == 0);
  CHECK(answer.out.find("teacher") != std::string::npos);
}

TEST_CASE("faults: what was computed and not recorded is recorded at the next start",
          "[e2e][faults]") {
  const WithFixtures fixtures;
  const Program program;
  const auto file = program.write("faults.toml", kExperiment);
  const auto first = program.run({"run", file});
  INFO(first.err);
  REQUIRE(first.exit_code == 0);
  const auto values = [&] {
    return program
        .run({"query", "SELECT row, name, value FROM latest_metrics ORDER BY row, name", "--format",
              "csv"})
        .out;
  };
  const auto before = values();
  // The database is lost; what it took long to make is not.
  for (const char* part : {"results.sqlite", "results.sqlite-wal", "results.sqlite-shm"})
    fs::remove(program.home() / part);
  std::map<fs::path, fs::file_time_type> made;
  for (const auto& entry : fs::recursive_directory_iterator(program.home() / "artifacts"))
    if (entry.is_regular_file()) made[entry.path()] = fs::last_write_time(entry.path());
  REQUIRE(made.size() > 4);

  const auto again = program.run({"run", file});
  INFO(again.err);
  CHECK(again.exit_code == 0);
  CHECK(values() == before);
  for (const auto& [path, time] : made) CHECK(fs::last_write_time(path) == time);
  CHECK(program.run({"db", "check"}).exit_code == 0);
}

TEST_CASE("faults: merging says what is damaged, and gc what it would delete", "[e2e][faults]") {
  const WithFixtures fixtures;
  const Program program;
  const auto file = program.write("faults.toml", kExperiment);
  const auto other = program.home() / "other", here = program.home() / "here";
  make_teacher(program, file, other);
  const auto merged = program.run({"db", "merge", other}, here);
  INFO(merged.err);
  CHECK(merged.exit_code == 0);
  CHECK(program.run({"db", "merge", other}, here).out.find("nothing: all is here") !=
        std::string::npos);

  const auto forgotten = program.run({"runs", "rm", "1"}, here);
  CHECK(forgotten.exit_code == 0);
  const auto count = [&] {
    std::size_t folders = 0;
    for (const auto& kind : fs::directory_iterator(here / "artifacts"))
      folders += static_cast<std::size_t>(std::distance(fs::directory_iterator(kind), {}));
    return folders;
  };
  const auto folders = count();
  const auto listed = program.run({"db", "gc", "--dry-run"}, here);
  CHECK(listed.exit_code == 0);
  CHECK(listed.out.find("artifacts/train/") != std::string::npos);
  CHECK(listed.err.find(std::to_string(folders) + " folders that no run names") !=
        std::string::npos);
  CHECK(count() == folders);
  CHECK(program.run({"db", "gc", "--yes"}, here).exit_code == 0);
  CHECK(count() == 0);

  for (const auto& entry : fs::recursive_directory_iterator(other / "artifacts/train"))
    if (entry.path().extension() == ".safetensors") std::ofstream(entry.path()) << "torn";
  const auto damaged = program.run({"db", "merge", other}, here);
  CHECK(damaged.exit_code == 1);
  CHECK(damaged.err.find("is damaged there and was not copied") != std::string::npos);
}

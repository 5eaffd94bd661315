// Figures for papers: which there are, that names cannot give gnuplot orders, and that a missing
// gnuplot is an error that says how to get it. Drawing itself is checked where gnuplot is
// installed.
#include <catch2/catch.hpp>

#include <cstdlib>

#include "dkdm/error.hpp"
#include "results/report/report_plots.hpp"
#include "results_support.hpp"

using namespace dkdm;
using namespace dkdm::results;
using namespace dkdm::results::testing;

namespace {

// PATH, as it was at the end.
class Path {
 public:
  explicit Path(const std::string& path) : before_(std::getenv("PATH")) {
    ::setenv("PATH", path.c_str(), 1);
  }
  ~Path() { ::setenv("PATH", before_.c_str(), 1); }
  Path(const Path&) = delete;
  Path& operator=(const Path&) = delete;

 private:
  std::string before_;
};

void add_row(Store& store, const std::string& row, const std::string& rho,
             const std::string& label) {
  auto run = a_run(row);
  run.label = label;
  run.config =
      "[[row]]\nid = \"" + row + "\"\n[row.method]\n" + (rho.empty() ? "" : "rho = " + rho + "\n");
  std::vector<record::MetricRecord> metrics{a_metric("fid", 30), a_metric("fid", 12)};
  metrics[1].step = 200;
  const auto id = add_finished(store, run, metrics);
  record::StageRecord pool;
  pool.name = "pool";
  pool.key = "pool-" + row;
  pool.teacher_evaluations = 640;
  store.record_stage(id, pool);
  store.record_curves("stage-" + run.key, {{"loss", 0, 1.0}, {"loss", 50, 0.5}});
}

// A program that stands in for gnuplot: succeeds when the script is there.
void install_stub(const TempFolder& folder, const std::string& body) {
  std::filesystem::create_directory(folder / "bin");
  write_file(folder / "bin/gnuplot", "#!/bin/sh\n" + body + "\n");
  std::filesystem::permissions(folder / "bin/gnuplot", std::filesystem::perms::owner_all);
}

}  // namespace

TEST_CASE("plots: a script and its values for each figure of the paper", "[unit][results]") {
  TempFolder folder;
  Store store(folder / "r.sqlite");
  add_row(store, "small", "0.1", "it's `touch ran` \"x\"");
  add_row(store, "large", "0.4", "large");
  add_row(store, "other", "", "shuffled");
  install_stub(folder, "test -f \"$1\"");
  const Path path((folder / "bin").string());
  const auto written = write_plots(folder / "r.sqlite", {}, {}, folder / "plots");
  std::vector<std::string> names;
  for (const auto& file : written) names.push_back(file.filename().string());
  CHECK(names == std::vector<std::string>{"desk-bars-fid.pdf", "desk-bars-fid.svg",
                                          "desk-figure4a.pdf", "desk-figure4a.svg",
                                          "desk-figure4b.pdf", "desk-figure4b.svg", "desk-loss.pdf",
                                          "desk-loss.svg", "desk-teacher-evaluations.pdf",
                                          "desk-teacher-evaluations.svg"});
  // Single quotes: gnuplot takes the text as it stands; a backquote would run a command elsewhere.
  const auto script = read_file(folder / "plots/desk-figure4a.gp");
  CHECK(contains(script, "title 'it’s ’touch ran’ \"x\"'"));
  CHECK_FALSE(contains(script, "`"));
  CHECK(contains(read_file(folder / "plots/desk-figure4b.gp"), "title 'ρ = 0.1'"));
  CHECK(contains(read_file(folder / "plots/desk-figure4a.dat"), "0 30 0 1\n200 12 0 1\n"));
}

TEST_CASE("plots: curves that all are of a rho make one figure, not two", "[unit][results]") {
  TempFolder folder;
  Store store(folder / "r.sqlite");
  add_row(store, "small", "0.1", "small");
  add_row(store, "large", "0.4", "large");
  install_stub(folder, "true");
  const Path path((folder / "bin").string());
  write_plots(folder / "r.sqlite", {}, {}, folder / "plots");
  CHECK(std::filesystem::exists(folder / "plots/desk-figure4b.gp"));
  CHECK_FALSE(std::filesystem::exists(folder / "plots/desk-figure4a.gp"));
}

TEST_CASE("plots: what gnuplot complains of is passed on", "[unit][results]") {
  TempFolder folder;
  Store store(folder / "r.sqlite");
  add_row(store, "small", "0.1", "small");
  install_stub(folder, "echo 'line 3: no such terminal' >&2; exit 1");
  const Path path((folder / "bin").string());
  CHECK_THROWS_WITH(write_plots(folder / "r.sqlite", {}, {}, folder / "plots"),
                    Catch::Contains("desk-") && Catch::Contains("line 3: no such terminal"));
}

TEST_CASE("plots: without gnuplot the error names the package, with exit code 3",
          "[unit][results]") {
  TempFolder folder;
  Store store(folder / "r.sqlite");
  add_row(store, "small", "0.1", "small");
  const Path path(folder.path().string());
  try {
    write_plots(folder / "r.sqlite", {}, {}, folder / "plots");
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.exit_code() == ExitCode::missing);
    CHECK(contains(error.what(), "apt-get install gnuplot-nox"));
  }
}

TEST_CASE("plots: gnuplot draws them all", "[unit][results]") {
  TempFolder folder;
  Store store(folder / "r.sqlite");
  add_row(store, "small", "0.1", "'; it's `touch ran` \"x\" \\ {/*2 y} @z 20 %n");
  add_row(store, "large", "0.4", "large");
  try {
    for (const auto& file : write_plots(folder / "r.sqlite", {}, {}, folder / "plots")) {
      INFO(file);
      const auto head = read_file(file).substr(0, 5);
      CHECK(head == (file.extension() == ".pdf" ? "%PDF-" : "<?xml"));
    }
    CHECK_FALSE(std::filesystem::exists(folder / "plots/ran"));
  } catch (const Error& error) {
    if (error.exit_code() != ExitCode::missing) throw;
    WARN("not checked, since gnuplot is not installed: " << error.what());
  }
}

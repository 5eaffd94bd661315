// Comparison with another database or an earlier report: what is a regression, what does not
// compare.
#include <catch2/catch.hpp>

#include <cmath>

#include "dkdm/error.hpp"
#include "results/report/report_compare.hpp"
#include "results_support.hpp"

using namespace dkdm;
using namespace dkdm::results;
using namespace dkdm::results::testing;

namespace {

// A database with the FID of row "dynamic" at seeds 0, 1, …
struct Recorded {
  Recorded(const TempFolder& folder, const std::string& name, const std::vector<double>& values,
           const std::string& protocol = "classifier-1a2b")
      : file(folder / name), store(file) {
    for (std::size_t seed = 0; seed < values.size(); ++seed) {
      add_finished(store, a_run("dynamic", static_cast<std::int64_t>(seed)),
                   {a_metric("fid", values[seed], protocol)});
    }
  }
  std::filesystem::path file;
  Store store;
};

std::string verdict(const Comparison& comparison, std::size_t row = 0) {
  return comparison.table.rows.at(row).back().text.value();
}

std::string compared(const std::vector<double>& here, const std::vector<double>& there,
                     const Tolerance& tolerance = {}) {
  TempFolder folder;
  const Recorded a(folder, "a.sqlite", here), b(folder, "b.sqlite", there);
  const auto comparison = compare_reports(a.file, {}, {}, b.file, tolerance);
  REQUIRE(comparison.compared == 1);
  CHECK((comparison.regressions == 1) == verdict(comparison).starts_with("REGRESSION"));
  return verdict(comparison);
}

}  // namespace

TEST_CASE("compare: with several seeds the spread decides", "[unit][results]") {
  // Both sides have standard deviation sqrt(2) (of two values 2 apart), pooled sqrt(2);
  // allowed 2.83.
  CHECK(compared({11, 13}, {9, 11}) == "within");      // 2 worse
  CHECK(compared({12, 14}, {9, 11}) == "REGRESSION");  // 3 worse
  CHECK(compared({12, 14}, {9, 11}, {3, 0.05}) == "within");
  CHECK(compared({6, 8}, {9, 11}) == "better");
  CHECK(compared({9, 11}, {9, 11}) == "equal");
}

TEST_CASE("compare: with a single seed on a side a share of the value decides", "[unit][results]") {
  CHECK(compared({10.4}, {10}) == "within");  // allowed 5 % of 10
  CHECK(compared({10.6}, {10}) == "REGRESSION");
  CHECK(compared({10.6}, {9, 11}) == "REGRESSION");
  CHECK(compared({10.6}, {10}, {2, 0.1}) == "within");
  CHECK(compared({std::nan("")}, {10}) == "REGRESSION: not finite");
}

TEST_CASE("compare: an earlier JSON report serves as well as its database", "[unit][results]") {
  TempFolder folder;
  const Recorded now(folder, "a.sqlite", {12, 14}), then(folder, "b.sqlite", {9, 11});
  ReportOptions options;
  options.format = ReportFormat::json;
  write_file(folder / "then.json", report(then.file, {}, options));
  const auto by_report = compare_reports(now.file, {}, {}, folder / "then.json");
  const auto by_database = compare_reports(now.file, {}, {}, then.file);
  CHECK(by_report.table.render(Format::csv) == by_database.table.render(Format::csv));
  CHECK(by_report.regressions == 1);
}

TEST_CASE("compare: more is better where the metric says so", "[unit][results]") {
  TempFolder folder;
  Store a(folder / "a.sqlite"), b(folder / "b.sqlite");
  add_finished(a, a_run("dynamic"), {a_metric("is", 2)});
  add_finished(b, a_run("dynamic"), {a_metric("is", 3)});
  CHECK(compare_reports(folder / "a.sqlite", {}, {}, folder / "b.sqlite").regressions == 1);
  CHECK(compare_reports(folder / "b.sqlite", {}, {}, folder / "a.sqlite").regressions == 0);
}

TEST_CASE("compare: other conditions do not compare, and the table says which", "[unit][results]") {
  TempFolder folder;
  const Recorded a(folder, "a.sqlite", {10}), b(folder, "b.sqlite", {5}, "inception-ffff");
  const auto comparison = compare_reports(a.file, {}, {}, b.file);
  CHECK(comparison.compared == 0);
  CHECK(verdict(comparison) ==
        "not comparable: protocol classifier-1a2b here, inception-ffff there");
}

TEST_CASE("compare: two configurations of a row are said, with what differs", "[unit][results]") {
  TempFolder folder;
  Store now(folder / "a.sqlite"), then(folder / "b.sqlite");
  auto run = a_run("dynamic");
  run.variant = "11111111aaaa";
  add_finished(now, run, {a_metric("fid", 10), a_metric("sfid", 5)});
  run.variant = "22222222bbbb";
  run.config = "[train]\nsteps = 200\nlr = 0.001\n";
  add_finished(then, run, {a_metric("fid", 10), a_metric("sfid", 5)});
  const auto comparison = compare_reports(folder / "a.sqlite", {}, {}, folder / "b.sqlite");
  CHECK(comparison.notes ==
        std::vector<std::string>{
            "desk, dynamic: two configurations, variant 11111111 here and 22222222 there: there "
            "train.steps = 200 instead of 100"});
  CHECK(comparison.compared == 2);

  ReportOptions options;
  options.format = ReportFormat::json;
  write_file(folder / "then.json", report(folder / "b.sqlite", {}, options));
  CHECK(compare_reports(folder / "a.sqlite", {}, {}, folder / "then.json").notes ==
        std::vector<std::string>{
            "desk, dynamic: two configurations, variant 11111111 here and 22222222 there"});
  CHECK(compare_reports(folder / "a.sqlite", {}, {}, folder / "a.sqlite").notes.empty());
}

TEST_CASE("compare: a row that failed since is a regression, one not run is not",
          "[unit][results]") {
  TempFolder folder;
  const Recorded then(folder, "b.sqlite", {10});
  Store now(folder / "a.sqlite");
  add_finished(now, a_run("teacher"), {a_metric("fid", 5)});
  auto comparison = compare_reports(folder / "a.sqlite", {}, {}, then.file);
  CHECK(verdict(comparison, 0) == "only here");
  CHECK(verdict(comparison, 1) == "only there");
  CHECK(comparison.regressions == 0);

  now.end_run(now.begin_run(a_run("dynamic"), an_environment(), {}), "failed", "train", "NaN");
  comparison = compare_reports(folder / "a.sqlite", {}, {}, then.file);
  CHECK(verdict(comparison, 1) == "REGRESSION: failed");
  CHECK(comparison.regressions == 1);
}

TEST_CASE("compare: a file that is neither database nor report is named", "[unit][results]") {
  TempFolder folder;
  const Recorded a(folder, "a.sqlite", {10});
  CHECK_THROWS_AS(compare_reports(a.file, {}, {}, folder / "none.json"), DataError);
  write_file(folder / "other.json", "{\"x\": 1}");
  CHECK_THROWS_AS(compare_reports(a.file, {}, {}, folder / "other.json"), ConfigError);
  CHECK_THROWS_WITH(compare_reports(a.file, {}, {}, folder / "other.json"),
                    Catch::Contains("other.json") && Catch::Contains("--format json"));
}

// Reports: means over seeds, published values, failures, protocols apart, every format.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <cmath>
#include <regex>

#include "results/admin/check.hpp"
#include "results/query/query.hpp"
#include "results/report/report.hpp"
#include "results_support.hpp"

using namespace dkdm;
using namespace dkdm::results;
using namespace dkdm::results::testing;

namespace {

std::vector<record::MetricRecord> scores(double fid,
                                         const std::string& protocol = "classifier-1a2b",
                                         std::int64_t sample_count = 512) {
  return {a_metric("is", 2.5, protocol, sample_count), a_metric("fid", fid, protocol, sample_count),
          a_metric("sfid", fid + 1, protocol, sample_count)};
}

std::string rendered(const std::filesystem::path& file, ReportFormat format) {
  ReportOptions options;
  options.format = format;
  return report(file, {"desk"}, options);
}

nlohmann::json tables(const std::filesystem::path& file) {
  return nlohmann::json::parse(rendered(file, ReportFormat::json));
}

std::string csv(const std::filesystem::path& file, const std::string& sql) {
  return query(file, sql).render(Format::csv);
}

// teacher 5; dynamic 10 and 14 at two seeds; data_free 20.
void fill(Store& store) {
  add_finished(store, a_run("teacher"), scores(5), 1072);
  add_finished(store, a_run("dynamic", 0), scores(10));
  add_finished(store, a_run("dynamic", 1), scores(14));
  add_finished(store, a_run("data_free"), scores(20));
}

}  // namespace

TEST_CASE("report: text has the paper's shape with its values beside", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  fill(store);
  // Published: DKDM table 2, CIFAR10. The spread of 10 and 14 is sqrt(8).
  const auto text = rendered(file, ReportFormat::text);
  INFO(text);
  CHECK(contains(text, R"(
Method            IS@512 ↑     FID@512 ↓    sFID@512 ↓  paper IS  paper FID  paper sFID  Parameters  Training (s)  Seeds
────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
The teacher           2.50          5.00          6.00      9.52       4.45        7.09      0.35 M          1072      1
The dynamic    2.50 ± 0.00  12.00 ± 2.83  13.00 ± 2.83      8.60       9.56       11.77      0.35 M           120      2
The data_free         2.50         20.00         21.00      8.28      12.06       13.23      0.35 M           120      1
)"));
  CHECK(contains(text,
                 "Desk table: classifier-1a2b, 512 samples, ema weights, "
                 "reference reference-7\n"));
}

TEST_CASE("report: a cell is mean and standard deviation over the seeds' latest runs",
          "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  add_finished(store, a_run("dynamic", 0), scores(1000));
  store.set_force(true);
  add_finished(store, a_run("dynamic", 0), scores(10));  // supersedes the first
  add_finished(store, a_run("dynamic", 1), scores(14));
  const auto fid = tables(file)[0]["rows"][0]["metrics"]["fid"];
  CHECK(fid["seeds"] == 2);
  CHECK(fid["mean"].get<double>() == Approx(12));            // (10 + 14) / 2
  CHECK(fid["std"].get<double>() == Approx(std::sqrt(8.)));  // ((-2)^2 + 2^2) / (2 - 1)
}

TEST_CASE("report: the best student is marked, the teacher never", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  fill(store);
  const auto markdown = rendered(file, ReportFormat::markdown);
  CHECK(contains(markdown, "**12.00 ± 2.83**"));
  CHECK_FALSE(contains(markdown, "**5.00**"));
  CHECK_FALSE(contains(markdown, "**20.00**"));
  CHECK(contains(rendered(file, ReportFormat::latex), "\\textbf{12.00 $\\pm$ 2.83}"));
}

TEST_CASE("report: protocols, sample counts and references stand side by side, never in one column",
          "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  add_finished(store, a_run("teacher"), scores(5));
  add_finished(store, a_run("dynamic"), scores(10, "inception-ffff"));
  add_finished(store, a_run("iterative"), scores(11, "classifier-1a2b", 1024));
  auto other_reference = scores(12);
  for (auto& metric : other_reference) metric.reference = "reference-8";
  add_finished(store, a_run("shuffled"), other_reference);
  const auto json = tables(file);
  REQUIRE(json.size() == 4);
  for (const auto& table : json) CHECK(table["rows"].size() == 1);
  CHECK(json[0]["reference"] == "reference-8");  // the newest run's table comes first
  const auto text = rendered(file, ReportFormat::text);
  // The newest run's way of evaluating is [A].
  CHECK(contains(text,
                 "Desk table: [A] classifier-1a2b, 512 samples, ema weights, reference "
                 "reference-8; [B] classifier-1a2b, 1024 samples, ema weights, reference "
                 "reference-7; [C] inception-ffff, 512 samples"));
  CHECK(contains(text, "[A] FID@512 ↓"));
  CHECK(contains(text, "[B] FID@1024 ↓"));
  // The dynamic row has its value in the third group and nothing in the others.
  CHECK(std::regex_search(text, std::regex("\nThe dynamic( +—){6} +2\\.50 +10\\.00 +11\\.00 ")));
}

TEST_CASE("report: rows without a value say why", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  add_finished(store, a_run("teacher"), scores(5));
  const auto id = store.begin_run(a_run("dynamic"), an_environment(), {});
  store.end_run(id, "failed", "train", "loss is not finite at step 17");
  ReportOptions options;
  options.choice.asked = {a_run("teacher"), a_run("dynamic"), a_run("data_free")};
  const auto text = report(file, {"desk"}, options);
  INFO(text);
  CHECK(contains(text, "The dynamic: failed in stage train: loss is not finite at step 17.\n"));
  CHECK(contains(text, "The data_free: not run yet.\n"));
  CHECK(contains(text, "\nThe dynamic      failed          —"));
  CHECK(contains(text, "\nThe data_free   not run          —"));

  SECTION("an experiment that never ran is a table of missing rows") {
    auto cell = a_run("teacher");
    cell.experiment = "new";
    options.choice.asked = {cell};
    CHECK(contains(report(file, {"new"}, options), "The teacher: not run yet."));
  }
  SECTION("an unknown experiment is an error that names it") {
    CHECK_THROWS_WITH(report(file, {"desk2"}, {}), Catch::Contains("'desk2'"));
  }
}

TEST_CASE("report: runs of other settings are another configuration, never in one mean",
          "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  auto longer = a_run("dynamic", 1);
  longer.config += "ema = 0.99\n";
  add_finished(store, a_run("dynamic", 0), scores(10));
  add_finished(store, longer, scores(11));
  const auto row = tables(file)[0]["rows"][0];
  CHECK(tables(file)[0]["rows"].size() == 1);
  CHECK(row["metrics"]["fid"]["mean"] == 11);  // of the newest run's configuration alone
  CHECK(row["metrics"]["fid"]["seeds"] == 1);
  CHECK(contains(rendered(file, ReportFormat::text),
                 "The dynamic: another configuration on record, variant "));
  CHECK(contains(rendered(file, ReportFormat::text), ": no train.ema (run 1)."));

  ReportOptions all;
  all.choice.variants = {"all"};
  const auto text = report(file, {"desk"}, all);
  INFO(text);
  CHECK(contains(text, "\nThe dynamic (train.ema = none)      2.50      10.00"));
  CHECK(contains(text, "\nThe dynamic (train.ema = 0.99)      2.50      11.00"));
  all.choice.variants = {"zzz"};
  CHECK_THROWS_WITH(report(file, {"desk"}, all), Catch::Contains("--variant zzz"));
}

TEST_CASE("report: csv has one line a row with full precision", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  auto run = a_run("dynamic");
  run.variant = "variant-of-desk";
  add_finished(store, run, scores(10.125));
  CHECK(rendered(file, ReportFormat::csv) ==
        "experiment,row,label,status,protocol,reference,sample_count,weights,is,is_std,fid,fid_std,"
        "sfid,sfid_std,published_is,published_fid,published_sfid,parameters,train_seconds,seeds,"
        "reason,variant,setting,selection\r\n"
        "desk,dynamic,The dynamic,done,classifier-1a2b,reference-7,512,ema,2.5,,10.125,,11.125,,"
        "8.6,9.56,11.77,350000,120,1,,variant-of-desk,,last\r\n");
}

TEST_CASE("report: latex escapes its special characters", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  auto run = a_run("dynamic");
  run.label = "data_limited 20 % & {more}";
  add_finished(store, run, scores(10));
  const auto latex = rendered(file, ReportFormat::latex);
  CHECK(contains(latex, "data\\_limited 20 \\% \\& \\{more\\} & 2.50 & 10.00"));
  CHECK(contains(latex, "FID@512 $\\downarrow$"));
  CHECK(contains(latex, "\\toprule"));
}

TEST_CASE("report: latex cannot be taken over by a name", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  auto run = a_run("dynamic");
  run.label = "[x] *a* \\input{y} <b> -- ü 漢 \xff";
  add_finished(store, run, scores(10));
  // "[" and "*" after "\\\\" are its arguments; what pdfTeX has no glyph for is named.
  CHECK(contains(rendered(file, ReportFormat::latex),
                 "{[}x{]} {*}a{*} \\textbackslash{}input\\{y\\} \\textless{}b\\textgreater{} "
                 "-{}- ü U+6F22 ? &"));
}

TEST_CASE("report: a long label is shortened for a person and whole for a program",
          "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  auto run = a_run("dynamic");
  run.label = std::string(10'000, 'W');
  add_finished(store, run, scores(10));
  CHECK(contains(rendered(file, ReportFormat::text), "\n" + std::string(79, 'W') + "…  "));
  CHECK(tables(file)[0]["rows"][0]["label"] == run.label);
}

TEST_CASE("report: on a terminal the best value is bold and a failure red", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  fill(store);
  const auto id = store.begin_run(a_run("iterative"), an_environment(), {});
  store.end_run(id, "failed", "train", "");
  ReportOptions options;
  options.colour = true;
  const auto text = report(file, {"desk"}, options);
  CHECK(contains(text, "  \x1b[1m12.00 ± 2.83\x1b[0m  "));  // ECMA-48: 1 is bold, 31 red, 0 neither
  CHECK(contains(text, "  \x1b[31mfailed\x1b[0m  "));
  CHECK_FALSE(contains(rendered(file, ReportFormat::text), "\x1b"));
}

TEST_CASE("report: a run counts with its last evaluated step", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  auto early = a_metric("fid", 30), late = a_metric("fid", 12);
  early.step = 100;
  late.step = 200;
  add_finished(store, a_run("dynamic"), {late, early});  // recorded in any order
  CHECK(tables(file)[0]["rows"][0]["metrics"]["fid"]["mean"] == 12);
  CHECK(contains(rendered(file, ReportFormat::text),
                 "Values are of each run's last evaluated step."));
}

TEST_CASE("report: where a rule chose the step, its values count, and say so", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  const auto at = [](std::int64_t step, double fid) {
    auto metric = a_metric("fid", fid);
    metric.step = step;
    return metric;
  };
  const auto selected = [&](std::int64_t seed, std::int64_t step, double best) {
    auto run = a_run("dynamic", seed);
    const auto id =
        add_finished(store, run, {at(100, seed == 0 ? best : 40), at(200, 20), at(300, 30)});
    record::SelectionRecord selection{"best:fid", step, 300, 3, at(step, best)};
    store.record_selection(id, selection);
  };
  selected(0, 100, 10);
  selected(1, 200, 20);
  const auto row = tables(file)[0]["rows"][0];
  CHECK(row["metrics"]["fid"]["mean"] == 15);  // of 10 and 20, not of 30
  CHECK(row["selection"]["rule"] == "best:fid");
  CHECK(row["selection"]["step_by_seed"] == nlohmann::json{{"0", 100}, {"1", 200}});
  CHECK(row["selection"]["last"]["fid"] == 30);
  const auto text = rendered(file, ReportFormat::text);
  CHECK(contains(text, "↓ last"));
  CHECK(contains(text, "30.00"));
  CHECK(contains(text, "train.select = \"best:fid\" chose among those that were evaluated"));
  CHECK(contains(text, "seed 0: 100, seed 1: 200 of 3"));
  CHECK_FALSE(contains(text, "last evaluated step"));
  CHECK(contains(rendered(file, ReportFormat::csv), ",best:fid\r\n"));

  // The views tell the same.
  CHECK(csv(file, "SELECT seed, fid, step, selection, last_fid FROM cells ORDER BY seed") ==
        "seed,fid,step,selection,last_fid\r\n0,10,100,best:fid,30\r\n1,20,200,best:fid,30\r\n");
  CHECK(csv(file, "SELECT mean, selection FROM leaderboard") ==
        "mean,selection\r\n15,best:fid\r\n");
  CHECK(check_database(file, folder.path()).findings.empty());

  // A row without a rule beside it does not compare.
  add_finished(store, a_run("data_free"), {at(300, 12)});
  CHECK(contains(rendered(file, ReportFormat::text), "not to be compared with those: "));
  // What is measured afterwards at the last step stays there.
  store.record_metrics(1, {at(300, 31)});
  CHECK(csv(file, "SELECT fid FROM cells WHERE run = 1") == "fid\r\n10\r\n");
}

TEST_CASE("report: Section 10 is a table of what training takes", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  for (const std::int64_t seed : {0, 1}) {
    auto run = a_run("dynamic", seed);
    run.table = "section10";
    run.config = "[train]\nbatch = 64\n";
    const auto id = store.begin_run(run, an_environment(), {});
    record::StageRecord train;
    train.name = "train";
    train.key = "t" + std::to_string(seed);
    train.steps = 60;
    train.elapsed_s = 100;
    train.teacher_s = 25 + 10.0 * double(seed);
    train.held_bytes = 82'000;
    train.peak_bytes = 300'000'000 + 10'000'000 * seed;
    store.record_stage(id, train);
    store.record_curves(train.key, {{"step_seconds", 10, 5}, {"step_seconds", 60, 0.5}});
    store.record_metrics(id, scores(10));
    store.end_run(id, "done", "", "");
  }
  auto missing = a_run("iterative");
  missing.table = "section10";
  store.end_run(store.begin_run(missing, an_environment(), {}), "failed", "train", "no memory");
  const auto text = rendered(file, ReportFormat::markdown);
  CHECK(contains(text, "Desk table\n"));
  CHECK_FALSE(contains(text, "FID"));
  CHECK(contains(text, "| The dynamic   |              310 |        0.0820 |    2.00 |"));
  CHECK(contains(text, "\n- Peak memory is the process's, while it trained.\n"));
  CHECK(contains(text, "| The iterative |           failed |             — |"));
  const auto cost = tables(file)[0]["rows"][0]["cost"];
  CHECK(cost["steps_per_second"] == 2);
  CHECK(cost["examples_per_second"] == 128);
  CHECK(cost["teacher_share"] == 0.3);
  CHECK(cost["device_peak_bytes"].is_null());
}

TEST_CASE("report: Section 10 has the memory of the device where there is one, and says so",
          "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  const auto add = [&](const std::string& row, std::int64_t seed,
                       const record::EnvironmentRecord& machine, std::optional<double> bytes) {
    auto run = a_run(row, seed);
    run.table = "section10";
    const auto id = store.begin_run(run, machine, {});
    record::StageRecord train;
    train.name = "train";
    train.key = row + std::to_string(seed);
    train.steps = 60;
    train.elapsed_s = 100;
    train.peak_bytes = 900'000'000;
    train.device_peak_bytes = bytes;
    store.record_stage(id, train);
    store.record_metrics(id, scores(10));
    store.end_run(id, "done", "", "");
  };
  add("dynamic", 0, a_gpu_environment(), 4e9);
  add("dynamic", 1, a_gpu_environment(), 5e9);
  const auto cost = tables(file)[0]["rows"][0]["cost"];
  CHECK(cost["device_peak_bytes"] == 5e9);
  CHECK(cost["peak_bytes"] == 9e8);
  CHECK(tables(file)[0]["rows"][0]["device_peak_bytes"] == 5e9);
  auto text = rendered(file, ReportFormat::markdown);
  INFO(text);
  CHECK(contains(text, "| The dynamic |             5000 |"));
  CHECK(contains(text,
                 "\n- Peak memory is that of the device that networks computed on, in tensors.\n"));

  add("iterative", 0, an_environment(), {});
  text = rendered(file, ReportFormat::markdown);
  CHECK(contains(text, "| The dynamic   |             5000 |"));
  CHECK(contains(text, "| The iterative |              900 |"));
  CHECK(contains(text,
                 "of the device that networks computed on, in tensors: The dynamic; that of the "
                 "process, which trained on the CPU: The iterative. The two do not compare."));

  // A line whose seeds were trained on both has no common device.
  add("dynamic", 2, an_environment(), {});
  text = rendered(file, ReportFormat::markdown);
  CHECK(contains(text, "| The dynamic   |              900 |"));
  CHECK(contains(text, "\n- Peak memory is the process's, while it trained.\n"));
}

TEST_CASE("report: the difference to the paper stands where the numbers compare, else a warning",
          "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  auto run = a_run("dynamic");
  const auto add = [&](const std::string& experiment, const std::string& scale,
                       const std::string& protocol, std::int64_t count) {
    run.experiment = experiment;
    run.scale = scale;
    add_finished(store, run, scores(10, protocol, count));
    return report(file, {experiment}, {});
  };
  // Published: 9.56 (DKDM table 2, CIFAR10); 10 - 9.56 = 0.44.
  const auto same = add("paper", "paper", "adm-inception", 50'000);
  CHECK(contains(same, "  paper FID (Δ)  "));
  CHECK(contains(same, "  9.56 (+0.44)  "));
  CHECK_FALSE(contains(same, "not the numbers"));
  for (const auto& other : {add("small", "desk", "adm-inception", 50'000),
                            add("own", "paper", "classifier-1a2b", 50'000),
                            add("few", "paper", "adm-inception", 10'000)}) {
    CHECK_FALSE(contains(other, "Δ"));
    CHECK(contains(other, "compare the order of the rows, not the numbers."));
  }
}

TEST_CASE("report: an unknown format is refused with those there are", "[unit][results]") {
  CHECK(parse_report_format("tex") == ReportFormat::latex);
  CHECK_THROWS_WITH(parse_report_format("pdf"),
                    Catch::Contains("'pdf'") && Catch::Contains("latex, html"));
}

TEST_CASE("report: parameters and times are of the run whose value is shown", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  auto shown = a_run("dynamic"), crashed = a_run("dynamic");
  shown.variant = "aaaa";
  add_finished(store, shown, scores(10), 120);
  crashed.key = "another";
  crashed.variant = "bbbb";
  crashed.parameters = 14'000'000;
  const auto id = store.begin_run(crashed, an_environment(), {});
  store.end_run(id, "crashed", "train", "signal 9");
  ReportOptions options;
  options.format = ReportFormat::json;
  options.choice.asked = {shown};
  const auto first = nlohmann::json::parse(report(file, {"desk"}, options))[0]["rows"];
  REQUIRE(first.size() == 1);
  CHECK(first[0]["parameters"] == 350'000);
  CHECK(first[0]["train_seconds"] == 120);
  // And the other way round: the crashed configuration has no number and nothing of the finished
  // one.
  options.choice.asked = {crashed};
  const auto second = nlohmann::json::parse(report(file, {"desk"}, options))[0]["rows"];
  REQUIRE(second.size() == 1);
  CHECK(second[0]["status"] == "crashed");
  CHECK(second[0]["metrics"].empty());
  CHECK(second[0]["runs"].empty());
  CHECK(second[0]["train_seconds"].is_null());
}

TEST_CASE("report: without cells it shows what the last command asked for, and names it",
          "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  auto first = a_run("dynamic"), second = a_run("dynamic");
  first.variant = "aaaa";
  second.key = "another";
  second.variant = "bbbb";
  second.config = "[train]\nsteps = 100\nlr = 0.5\n";
  const auto ask = [&](const record::RunRecord& run, const std::string& command) {
    store.add_to_request(store.begin_request(run, command), {run});
  };
  ask(first, "dkdm run desk.toml");
  add_finished(store, first, scores(10));
  ask(second, "dkdm run desk.toml --set train.lr=0.5");
  const auto before = rendered(file, ReportFormat::text);
  CHECK(contains(before, "The dynamic: not run yet."));  // and not the 10 of the other rate
  CHECK_FALSE(contains(before, "10.00"));
  add_finished(store, second, scores(20));
  const auto text = rendered(file, ReportFormat::text);
  INFO(text);
  CHECK(contains(text, "As the last command asked for: dkdm run desk.toml --set train.lr=0.5 ("));
  CHECK(contains(text, "20.00"));
  CHECK(contains(text, "variant aaaa: train.lr = 0.001 instead of 0.5 (run 1)."));
  ask(first, "dkdm run desk.toml");  // nothing is run again
  CHECK(tables(file)[0]["rows"][0]["metrics"]["fid"]["mean"] == 10);
}

TEST_CASE("report: several evaluations of the same samples share a line", "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  auto first = a_run("dynamic"), second = a_run("dynamic"), third = a_run("dynamic");
  first.samples = second.samples = "the samples";
  third.samples = "others";
  second.key = "by inception";
  third.key = "of others";
  first.variant = second.variant = third.variant = "aaaa";  // as of another seed
  add_finished(store, first, scores(10));
  add_finished(store, second, scores(90, "inception-ffff"));
  add_finished(store, third, scores(70, "third-0000"));
  ReportOptions options;
  options.choice.asked = {first};
  const auto text = report(file, {"desk"}, options);
  INFO(text);
  CHECK(contains(text,
                 "Desk table: [A] classifier-1a2b, 512 samples, ema weights, reference "
                 "reference-7; [B] inception-ffff, 512 samples"));
  CHECK(contains(text, "\nThe dynamic"));
  CHECK(contains(text, "90.00"));
  CHECK_FALSE(contains(text, "70.00"));  // not of these samples
}

TEST_CASE("report: values of several kinds of processor say which digits are the machine's",
          "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  fill(store);
  CHECK_FALSE(contains(rendered(file, ReportFormat::text), "processor"));
  auto environment = an_environment();
  environment.host = "laptop";
  environment.cpu = "eight fast cores";
  const auto add = [&](const record::RunRecord& run, double fid) {
    const auto id = store.begin_run(run, environment, {});
    store.record_metrics(id, scores(fid));
    store.end_run(id, "done", "", "");
  };
  add(a_run("iterative"), 12);
  auto text = rendered(file, ReportFormat::text);
  CHECK(contains(text, "2 kinds of processor: eight fast cores (laptop), two slow cores (desk)"));
  CHECK_FALSE(contains(text, "The same configuration gave"));
  add(a_run("dynamic", 0), 10.2);  // 10 on the desk
  text = rendered(file, ReportFormat::text);
  INFO(text);
  CHECK(
      contains(text, "The same configuration gave FID 10.20 and 10.00 on two kinds of processor"));
  CHECK(contains(text, "differences up to 0.20"));
}

TEST_CASE("report: what networks computed on is the kind of processor, not what else is there",
          "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  store.set_force(true);
  const auto add = [&](const record::RunRecord& run, const record::EnvironmentRecord& machine,
                       double fid) {
    const auto id = store.begin_run(run, machine, {});
    store.record_metrics(id, scores(fid));
    store.end_run(id, "done", "", "");
  };
  auto idle = a_gpu_environment();
  idle.device = "cpu";  // as an_environment() but for a GPU that did nothing
  idle.cpu = an_environment().cpu;
  add(a_run("teacher"), an_environment(), 5);
  add(a_run("dynamic", 0), idle, 10);
  add(a_run("dynamic", 0), an_environment(), 10.2);
  CHECK_FALSE(contains(rendered(file, ReportFormat::text), "kinds of processor"));

  // Its GPU, by kind and name: the second GPU of another machine is the same.
  auto second = a_gpu_environment();
  second.device = "cuda:1";
  second.cpu = "other cores";
  second.host = "cluster-4";
  add(a_run("iterative", 0), a_gpu_environment(), 12);
  add(a_run("iterative", 0), second, 12.5);
  auto text = rendered(file, ReportFormat::text);
  INFO(text);
  CHECK(
      contains(text, "2 kinds of processor: NVIDIA H200 (cuda, cluster-4), two slow cores (desk)"));
  CHECK_FALSE(contains(text, "The same configuration gave"));

  // One machine's CPU and GPU are two kinds.
  add(a_run("shuffled", 0), a_gpu_environment(), 13);
  auto cpu = a_gpu_environment();
  cpu.device = "cpu";
  add(a_run("shuffled", 0), cpu, 13.5);
  for (const auto format : {ReportFormat::text, ReportFormat::latex, ReportFormat::html}) {
    text = rendered(file, format);
    INFO(text);
    CHECK(
        contains(text,
                 "Values are from 3 kinds of processor: NVIDIA H200 (cuda, cluster-4), many cores "
                 "(cluster-3), two slow cores (desk)."));
    CHECK(contains(text,
                   "The same configuration gave FID 13.50 and 13.00 on two kinds of processor"));
  }
}

TEST_CASE("report: kernels that do not repeat and other precisions than fp32 are said",
          "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  const auto add = [&](const std::string& row, std::int64_t seed, bool repeatable,
                       const std::string& precision) {
    auto run = a_run(row, seed);
    if (!precision.empty()) run.config += "precision = \"" + precision + "\"\n";
    auto machine = a_gpu_environment();
    machine.repeatable = repeatable;
    const auto id = store.begin_run(run, machine, {});
    store.record_metrics(id, scores(10 + double(seed)));
    store.end_run(id, "done", "", "");
  };
  add("iterative", 0, true, "");
  add("shuffled", 0, true, "fp32");
  CHECK_FALSE(contains(rendered(file, ReportFormat::text), "--fast"));
  CHECK_FALSE(contains(rendered(file, ReportFormat::text), "train.precision"));
  add("dynamic", 0, false, "bf16");
  add("dynamic", 1, true, "bf16");
  add("data_free", 0, false, "tf32");
  for (const auto format : {ReportFormat::text, ReportFormat::markdown, ReportFormat::html}) {
    const auto text = rendered(file, format);
    INFO(text);
    for (const std::string part :
         {"Made with --fast: ", "The dynamic (1 of 2 runs)",
          "Trained in bf16 (train.precision): The dynamic.",
          "Trained in tf32 (train.precision): The data", "The other rows are in fp32."})
      CHECK(contains(text, part));
    CHECK_FALSE(contains(text, "kinds of processor"));
  }
  CHECK(contains(rendered(file, ReportFormat::latex),
                 "Made with -{}-fast: The dynamic (1 of 2 runs)"));
}

TEST_CASE("report: experiments stand side by side, row by row, with the paper's values in brackets",
          "[unit][results]") {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  Store store(file);
  const auto add = [&](const std::string& dataset, const std::string& title, const std::string& row,
                       double fid) {
    auto run = a_run(row);
    run.key += dataset;
    run.experiment = "table2-" + dataset;
    run.title = title;
    run.published_section = "table2." + dataset;
    add_finished(store, run, scores(fid));
  };
  add("cifar10", "Table 2, CIFAR10", "teacher", 5);
  add("cifar10", "Table 2, CIFAR10", "dynamic", 10);
  add("celeba64", "Table 2, CelebA64", "dynamic", 8);
  add("celeba64", "Table 2, CelebA64", "own", 9);
  const auto wide = [&](ReportFormat format) {
    ReportOptions options;
    options.format = format;
    options.wide = true;
    return report(file, {"table2-cifar10", "table2-celeba64"}, options);
  };
  // Published: DKDM table 2. What a dataset does not have is a dash.
  const auto text =
      std::regex_replace(wide(ReportFormat::markdown), std::regex(" +"), std::string(" "));
  INFO(text);
  CHECK(contains(text,
                 "| Method | CIFAR10 IS@512 ↑ | CIFAR10 FID@512 ↓ | CIFAR10 sFID@512 ↓ | "
                 "CelebA64 IS@512 ↑ | CelebA64 FID@512 ↓ | CelebA64 sFID@512 ↓ |"));
  CHECK(contains(text, "| The teacher | 2.50 (9.52) | 5.00 (4.45) | 6.00 (7.09) | — | — | — |"));
  CHECK(contains(text, "2.50 (8.60)"));
  CHECK(contains(text, "10.00 (9.56)"));
  CHECK(contains(text, "8.00 (7.07)"));
  CHECK(contains(text, "| The own | — | — | — | **2.50** | 9.00 | 10.00 |"));
  CHECK(contains(text, "In brackets: the paper's"));
  CHECK(contains(text, "\n- The paper's values were measured with"));  // of both: said once
  const auto latex = wide(ReportFormat::latex);
  CHECK(contains(latex, "\\begin{tabular}{lrrrrrr}"));
  CHECK(contains(latex, "8.00 (7.07)"));
  CHECK_THROWS_WITH(wide(ReportFormat::csv), Catch::Contains("--wide"));
  CHECK_THROWS_WITH(wide(ReportFormat::html), Catch::Contains("text, markdown or latex"));
}

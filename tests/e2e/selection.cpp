// The step whose values count: chosen among the evaluated ones, recorded, reported, and used by
// every command that takes a run.
#include <catch2/catch.hpp>
#include <map>
#include <nlohmann/json.hpp>

#include "e2e/fixture_experiment.hpp"
#include "e2e/program.hpp"
#include "e2e/query.hpp"

namespace {

using e2e::number;
using e2e::Output;
using e2e::Program;
using e2e::query;
namespace fs = std::filesystem;

// 12 steps, evaluated every 3.
struct Table {
  Program program;
  const e2e::WithFixtures fixtures;
  const fs::path file = program.write(
      "table.toml",
      e2e::fixture_experiment("name = \"table\"\ntitle = \"Chosen steps\"\ntable = \"table2\"\n",
                              "[[row]]\nid = \"data\"\nmethod = { plugin = \"data-based\" }\n"));

  Output run(const std::string& name, const std::vector<std::string>& settings) const {
    std::vector<std::string> args{"run", file};
    for (const auto& setting :
         {"experiment.name=" + name, std::string("evaluator.plugin=fixture-mean"),
          std::string("train.steps=12"), std::string("train.lr=0.3"),
          std::string("train.ema_warmup=true"), std::string("evaluate.every=3")})
      args.insert(args.end(), {"--set", setting});
    for (const auto& setting : settings) args.insert(args.end(), {"--set", setting});
    return program.run(args);
  }
  void made(const std::string& name, const std::vector<std::string>& settings) const {
    const auto output = run(name, settings);
    INFO(output.err);
    REQUIRE(output.exit_code == 0);
  }
  // FID of a run by step, of a protocol and number of images.
  std::map<int, double> course(const std::string& name, const std::string& protocol,
                               int count) const {
    std::map<int, double> values;
    for (const auto& point :
         query(program, "SELECT step, fid FROM training_fid WHERE experiment = '" + name +
                            "' AND protocol = '" + protocol +
                            "' AND sample_count = " + std::to_string(count)))
      values[int(number(point["step"]))] = number(point["fid"]);
    return values;
  }
  nlohmann::json cell(const std::string& name) const {
    const auto cells =
        query(program,
              "SELECT run, fid, inception_score, step, selection, last_fid FROM cells "
              "WHERE experiment = '" +
                  name + "' AND protocol = 'mean pixel' AND sample_count = 8");
    REQUIRE(cells.size() == 1);
    return cells[0];
  }
};

int best_step(const std::map<int, double>& course, bool least) {
  int best = course.begin()->first;
  for (const auto& [step, value] : course)
    if (least ? value < course.at(best) : value > course.at(best)) best = step;
  return best;
}

}  // namespace

TEST_CASE("selection: the best evaluated step counts, in the record, the report and every command",
          "[e2e]") {
  const Table table;
  table.made("whole", {});
  const auto course = table.course("whole", "mean pixel", 8);
  REQUIRE(course.size() == 4);
  const int darkest = best_step(course, true), brightest = best_step(course, false);
  REQUIRE(darkest != brightest);  // so one of them is not the last

  for (const auto& [rule, step] :
       std::map<std::string, int>{{"best:fid", darkest}, {"best:is", brightest}}) {
    INFO(rule);
    const auto name = rule.substr(5);
    table.made(name, {"train.select=" + rule});
    const auto cell = table.cell(name);
    CHECK(int(number(cell["step"])) == step);
    CHECK(number(cell["fid"]) == course.at(step));
    CHECK(number(cell["inception_score"]) == course.at(step));
    CHECK(cell["selection"] == rule);
    CHECK(number(cell["last_fid"]) == course.at(12));
    // The rule changes no bit of the training, and nothing is evaluated twice.
    for (const auto& stage :
         query(table.program, "SELECT stage, status FROM costs WHERE experiment = '" + name + "'"))
      CHECK((stage["status"] == "cached") == (stage["stage"] != "select"));
    const auto selected = query(table.program, "SELECT * FROM selections WHERE run = " +
                                                   std::to_string(int(number(cell["run"]))))[0];
    CHECK(number(selected["candidates"]) == 4);
    CHECK(number(selected["last_step"]) == 12);
    CHECK(number(selected["by_value"]) == course.at(step));
    // Asked for again there is nothing to do.
    CHECK(table.run(name, {"train.select=" + rule}).err.find("0 of ") != std::string::npos);

    const auto report = table.program.run({"report", name});
    CHECK(report.out.find(" last") != std::string::npos);
    CHECK(report.out.find("train.select = \"" + rule + "\" chose") != std::string::npos);
    const auto show = table.program.run({"runs", "show", std::to_string(int(number(cell["run"])))});
    CHECK(show.out.find("Selection") != std::string::npos);

    // Two runs of one training have one picture in the page exactly where they chose one step.
    const auto page = table.program.home() / (name + ".html");
    REQUIRE(table.program.run({"report", name, "-o", page}).exit_code == 0);
    const auto picture = [](const std::string& html) {
      const auto begin = html.find("data:image/png;base64,");
      REQUIRE(begin != std::string::npos);
      return html.substr(begin, html.find('"', begin) - begin);
    };
    const auto of_last = table.program.home() / "whole.html";
    REQUIRE(table.program.run({"report", "whole", "-o", of_last}).exit_code == 0);
    CHECK((picture(e2e::read_file(page)) == picture(e2e::read_file(of_last))) == (step == 12));

    // What takes a run takes the weights that count for it.
    const auto of_run = table.program.home() / "run.npz",
               of_step = table.program.home() / "step.npz";
    const auto folder =
        table.program.home() /
        query(table.program, "SELECT artifact FROM stages JOIN runs ON runs.id = run WHERE run = " +
                                 std::to_string(int(number(cell["run"]))) +
                                 " AND name = 'train'")[0]["artifact"]
            .get<std::string>();
    const auto weights = step == 12 ? folder : folder / ("step-" + std::to_string(step));
    const auto draw = [&](const std::string& from, const fs::path& to) {
      const auto output =
          table.program.run({"sample", from, "-n", "4", "--respacing", "2", "-o", to});
      INFO(output.err);
      REQUIRE(output.exit_code == 0);
      return e2e::read_file(to);
    };
    CHECK(draw(std::to_string(int(number(cell["run"]))), of_run) == draw(weights, of_step));
    const auto again =
        table.program.run({"eval", std::to_string(int(number(cell["run"]))), "fixture-images",
                           "--evaluator", "fixture-mean", "--format", "json"});
    INFO(again.err);
    REQUIRE(again.exit_code == 0);
    CHECK(number(nlohmann::json::parse(again.out)[0]["value"]) == course.at(step));
  }

  INFO("two rules are two configurations, and the difference is said");
  const auto diff = table.program.run({"runs", "diff", "2", "3"});
  CHECK(diff.out.find("train.select") != std::string::npos);
  CHECK(query(table.program, "SELECT DISTINCT variant FROM runs").size() == 3);
  CHECK(table.program.run({"db", "check", "--hash"}).exit_code == 0);
}

TEST_CASE("selection: images that had a part in the choice need not judge it", "[e2e]") {
  const Table table;
  table.made("whole", {});
  const auto same = table.course("whole", "mean pixel", 8);
  for (const auto& [name, least] : std::map<std::string, bool>{{"fid", true}, {"is", false}}) {
    INFO(name);
    table.made(name, {"train.select=best:" + name, "evaluate.samples=other", "evaluate.count=6"});
    const auto other = table.course(name, "mean pixel, images of another seed", 6);
    REQUIRE(other.size() == 4);
    CHECK(other != same);
    const int step = best_step(other, least);
    const auto cell = table.cell(name);
    CHECK(int(number(cell["step"])) == step);
    // Chosen by the others, evaluated with the images of the table.
    CHECK(number(cell["fid"]) == same.at(step));
    CHECK(number(cell["last_fid"]) == same.at(12));
    const auto selected = query(table.program,
                                "SELECT by_value, by_sample_count FROM selections "
                                "WHERE run = " +
                                    std::to_string(int(number(cell["run"]))))[0];
    CHECK(number(selected["by_value"]) == other.at(step));
    CHECK(number(selected["by_sample_count"]) == 6);
  }
}

TEST_CASE("selection: kept samples are those of the chosen step", "[e2e]") {
  const Table table;
  table.made("whole", {});
  const auto course = table.course("whole", "mean pixel", 8);
  for (const auto& [name, least] : std::map<std::string, bool>{{"fid", true}, {"is", false}})
    for (const std::string images : {"same", "other"}) {
      INFO(name << " " << images);
      table.made(name + images,
                 {"train.select=best:" + name, "sample.save=true", "evaluate.samples=" + images});
      const auto cell = table.cell(name + images);
      const int step = int(number(cell["step"]));
      CHECK(number(cell["fid"]) == course.at(step));
      const auto files = query(
          table.program,
          "SELECT artifact FROM stages WHERE run = " + std::to_string(int(number(cell["run"]))) +
              " AND name = '" + (step == 12 ? "sample" : "select") + "'");
      REQUIRE(files.size() == 1);
      const auto samples =
          table.program.home() / files[0]["artifact"].get<std::string>() / "samples.npz";
      const auto value = table.program.run(
          {"eval", samples, "fixture-images", "--evaluator", "fixture-mean", "--format", "json"});
      INFO(value.err);
      REQUIRE(value.exit_code == 0);
      CHECK(number(nlohmann::json::parse(value.out)[0]["value"]) == course.at(step));
    }
}

TEST_CASE("selection: a rule that cannot choose is refused before anything is trained", "[e2e]") {
  const Table table;
  for (const auto& [settings, said] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"train.select=best:kid"}, "the evaluator fixture-mean gives fid, is"},
           {{"train.select=best:fid", "evaluate.every=0"}, "there is only the last"},
           {{"train.select=lowest"}, "expected last, or best:"}}) {
    const auto output = table.run("refused", settings);
    INFO(output.err);
    CHECK(output.exit_code != 0);
    CHECK(output.err.find(said) != std::string::npos);
    CHECK_FALSE(fs::exists(table.program.home() / "artifacts" / "train"));
  }
}

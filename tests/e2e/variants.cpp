// A table shows the values of the configuration that was asked for, whatever else is on record.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <regex>
#include <set>

#include "e2e/fixture_experiment.hpp"
#include "e2e/program.hpp"

namespace {

using e2e::Output;
using e2e::Program;
namespace fs = std::filesystem;
using Words = std::vector<std::string>;

constexpr const char* kTeacher = "[[row]]\nid = \"teacher\"\nteacher = true\n";
constexpr const char* kStudent =
    "[[row]]\nid = \"student\"\nmethod = { plugin = \"data-based\" }\n";
constexpr const char* kDynamic =
    "[[row]]\nid = \"dynamic\"\nmethod = { plugin = \"dynamic\", respacing = \"8\", rho = 0.5 }\n";

// The metric is the mean pixel of the samples, so other samples have another value.
std::string experiment(const std::string& rows) {
  auto text = e2e::fixture_experiment("name = \"t\"\ntable = \"table2\"\n", rows);
  const std::string train = "[train]\n", metric = "fixture-metric";
  text.insert(text.find(train) + train.size(), "ema = 0.5\nlr = 0.01\n");  // so that steps show
  return text.replace(text.find(metric), metric.size(), "fixture-faulty-evaluator");
}

// The one number behind `label` in the first table of `text`; "" where there is none.
std::string shown(const std::string& text, const std::string& label) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(label + "  ")) continue;
    std::smatch found;
    const auto rest = line.substr(label.size());
    if (std::regex_search(rest, found, std::regex("^ +([0-9]+\\.[0-9]+)"))) return found[1];
    return "";
  }
  return "";
}

struct Lab {
  explicit Lab(const std::string& rows = std::string(kTeacher) + kStudent)
      : file(program.write("t.toml", experiment(rows))) {}

  Output run(Words more = {}, int exit_code = 0) {
    Words args{"run", file};
    args.insert(args.end(), more.begin(), more.end());
    const auto output = program.run(args);
    INFO(output.out << output.err);
    CHECK(output.exit_code == exit_code);
    return output;
  }
  std::string report(Words more) {
    Words args{"report"};
    args.insert(args.end(), more.begin(), more.end());
    const auto output = program.run(args);
    INFO(output.out << output.err);
    CHECK(output.exit_code == 0);
    return output.out;
  }
  nlohmann::json tables(Words more) {
    more.insert(more.end(), {"--format", "json"});
    return nlohmann::json::parse(report(more));
  }
  nlohmann::json query(const std::string& sql) {
    const auto output = program.run({"query", sql, "--format", "json"});
    INFO(output.err);
    REQUIRE(output.exit_code == 0);
    return nlohmann::json::parse(output.out);
  }

  e2e::WithFixtures fixtures;
  Program program;
  fs::path file;
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("variants: after --set of any key, the plain command shows its own values again",
          "[e2e]") {
  Lab lab;
  const auto first = lab.run().out;
  const auto teacher = shown(first, "teacher"), student = shown(first, "student");
  REQUIRE_FALSE(teacher.empty());
  REQUIRE_FALSE(student.empty());
  struct Change {
    const char* setting;
    const char* row;  // whose value it changes
  };
  for (const auto& [setting, row] :
       {Change{"sample.respacing=5", "teacher"}, Change{"sample.count=7", "teacher"},
        Change{"teacher.train.steps=30", "teacher"},
        Change{"row.student.train.steps=40", "student"},
        Change{"diffusion.schedule=cosine", "teacher"}, Change{"sample.weights=raw", "student"}}) {
    INFO(setting);
    const auto other = lab.run({"--set", setting}).out;
    // As the command asked; a value that is not another's by chance.
    CHECK(shown(lab.report({"t"}), row) == shown(other, row));
    CHECK(contains(lab.report({"t"}), "As the last command asked for: dkdm run "));
    const auto again = lab.run();
    CHECK(contains(again.err, "0 of "));
    CHECK(shown(again.out, "teacher") == teacher);
    CHECK(shown(again.out, "student") == student);
    CHECK(shown(lab.report({lab.file}), "teacher") == teacher);
    CHECK(shown(lab.report({lab.file}), "student") == student);
    CHECK(shown(lab.report({"t"}), "student") == student);
    CHECK(shown(lab.report({lab.file, "--set", setting}), row) == shown(other, row));
  }
  // The other sampling is on record under its name, with what differs, and can be chosen.
  const auto five = shown(lab.run({"--set", "sample.respacing=5"}).out, "teacher");
  CHECK(five != teacher);
  lab.run();
  const auto text = lab.report({"t"});
  std::smatch found;
  REQUIRE(std::regex_search(text, found,
                            std::regex("teacher: another configuration on record, variant "
                                       "([0-9a-f]{8}): sample.respacing = 5 instead of 2 \\(run")));
  CHECK(shown(lab.report({"t", "--variant", found[1]}), "teacher") == five);
  CHECK(shown(lab.report({"t", "--variant", found[1]}), "student") == student);
  CHECK(lab.program.run({"report", "t", "--variant", "xyz"}).exit_code == 2);
  CHECK(shown(lab.report({"t", "--set", "sample.respacing=5"}), "teacher") == five);
  CHECK(shown(lab.report({"t", "--set", "row.student.train.steps=40"}), "teacher") == teacher);
  const auto none = lab.report({"t", "--set", "sample.respacing=7"});
  CHECK(shown(none, "teacher").empty());
  CHECK(contains(none, "teacher: not run yet."));
  CHECK(lab.program.run({"report", "t", "--set", "sample.spacing=5"}).exit_code == 2);
}

TEST_CASE("variants: an edit that is taken back shows the first values; a removed row is gone",
          "[e2e]") {
  Lab lab;
  const auto value = shown(lab.run().out, "student");
  auto edited = e2e::read_file(lab.file);
  edited.replace(edited.find("steps = 3"), 9, "steps = 9");
  const auto original = e2e::read_file(lab.file);
  lab.program.write("t.toml", edited);
  CHECK(shown(lab.report({lab.file}), "student").empty());  // not run yet
  CHECK(contains(lab.report({lab.file}), "student: not run yet."));
  CHECK(shown(lab.report({"t"}), "student") == value);  // as last asked for
  const auto other = shown(lab.run().out, "student");
  CHECK(shown(lab.report({"t"}), "student") == other);
  lab.program.write("t.toml", original);
  CHECK(shown(lab.report({lab.file}), "student") == value);
  CHECK(shown(lab.run().out, "student") == value);

  lab.program.write("t.toml", experiment(kTeacher));
  for (const auto& text : {lab.run().out, lab.report({lab.file}), lab.report({"t"})}) {
    CHECK(shown(text, "student").empty());
    CHECK(contains(text, "Other rows on record: student."));
  }
}

TEST_CASE("variants: a configuration that failed shows its reason and no other's number", "[e2e]") {
  Lab lab;
  const auto value = shown(lab.run().out, "student");
  const Words faulty{"--set", "row.student.method.plugin=fixture-faulty-method", "--set",
                     "row.student.method.fault=infinite"};
  const auto failed = lab.run(faulty, 1);
  for (const auto& text : {failed.out, lab.report({"t"}),
                           lab.report({lab.file, faulty[0], faulty[1], faulty[2], faulty[3]})}) {
    INFO(text);
    CHECK(shown(text, "student").empty());
    CHECK(std::regex_search(text, std::regex("\nstudent +failed ")));
    CHECK(contains(text, "student: failed in stage train: "));
    CHECK(contains(text, "method.plugin = data-based instead of fixture-faulty-method"));
  }
  CHECK(shown(lab.report({lab.file}), "student") == value);
  CHECK(shown(lab.run().out, "student") == value);
  CHECK(contains(lab.report({"t"}),
                 "method.fault = infinite, method.plugin = fixture-faulty-method"));
  const auto asked =
      lab.query("SELECT row, fid, count(*) AS n FROM cells WHERE asked = 1 GROUP BY row");
  CHECK(asked.empty());  // the metric is no FID
  CHECK(lab.query("SELECT row FROM asked").size() == 2);
}

TEST_CASE("variants: a list of values is swept: a row of its own for each, never a mean", "[e2e]") {
  Lab lab(std::string(kTeacher) + kDynamic);
  const auto output = lab.run({"--set", "row.dynamic.method.rho=0.25,0.5,1.0", "--seeds", "0-1"});
  INFO(output.out);
  std::set<std::string> values;
  const auto rows = lab.tables({"t"})[0]["rows"];
  REQUIRE(rows.size() == 4);  // and one teacher
  for (const std::string rho : {"0.25", "0.5", "1"}) {
    CHECK(contains(output.out, "\ndynamic (method.rho = " + rho + ")  "));
    const auto row = std::find_if(rows.begin(), rows.end(), [&](const auto& r) {
      return r["setting"] == "method.rho = " + rho;
    });
    REQUIRE(row != rows.end());
    CHECK((*row)["metrics"]["mean"]["seeds"] == 2);
    values.insert((*row)["variant"].get<std::string>());
  }
  CHECK(values.size() == 3);
  CHECK(lab.query("SELECT DISTINCT s.number FROM settings s JOIN latest_runs l USING (run) WHERE "
                  "s.key = 'method.rho' AND l.asked = 1 ORDER BY 1")
            .size() == 3);
  CHECK(lab.query("SELECT variant FROM leaderboard WHERE row = 'dynamic' AND metric = 'mean' AND "
                  "seeds = 2")
            .size() == 3);
  CHECK(lab.program.run({"plan", lab.file, "--set", "row.dynamic.method.rho=0.25,0.5"}).exit_code ==
        0);

  // One value of them alone is its own row; two values of a key that takes a list are no sweep.
  const auto one = lab.run({"--set", "row.dynamic.method.rho=0.25"});
  CHECK(contains(one.err, "0 of "));
  CHECK(contains(one.out, "\ndynamic  "));
  CHECK_FALSE(
      contains(lab.run({"--set", "sample.respacing=2,2", "--rows", "teacher"}).out, "teacher ("));
  const auto wrong =
      lab.program.run({"run", lab.file, "--set", "row.dynamic.method.rho=0.25,fast"});
  CHECK(wrong.exit_code == 2);
  CHECK(contains(wrong.err, "\"fast\""));
}

TEST_CASE("variants: seeds are averaged within one configuration, and exactly those asked for",
          "[e2e]") {
  Lab lab(kStudent);
  lab.run({"--seeds", "0-2"});
  lab.run({"--seeds", "0-1", "--set", "train.steps=30"});
  const auto spread = [&](const Words& words) {
    return lab.tables(words)[0]["rows"][0]["metrics"]["mean"];
  };
  const auto three = spread({lab.file, "--seeds", "0-2"});
  CHECK(three["seeds"] == 3);
  double sum = 0;
  for (int seed = 0; seed < 3; ++seed) {
    sum += lab.query(
                  "SELECT m.value FROM latest_metrics m JOIN settings s USING (run) WHERE "
                  "m.seed = " +
                  std::to_string(seed) +
                  " AND s.key = 'train.steps' AND "
                  "s.number = 3")[0]["value"]
               .get<double>();
  }
  CHECK(three["mean"].get<double>() == Approx(sum / 3));
  CHECK(spread({"t"})["seeds"] == 2);
  const auto one = lab.run().out;
  CHECK_FALSE(contains(one, "±"));
  CHECK(contains(one, "student: also on record with seeds 1, 2."));
}

TEST_CASE(
    "variants: several evaluators stand side by side, and an evaluation adds to its run's row",
    "[e2e]") {
  Lab lab(std::string(kTeacher) + kStudent);
  const auto value = shown(lab.run().out, "student");
  const auto both = lab.run({"--set", "evaluator.plugin=fixture-metric"}).out;
  INFO(both);
  // The evaluator that was asked for comes first: it counts the eight images.
  CHECK(contains(both, "[A] count"));
  CHECK(contains(both, "[B] mean"));
  CHECK(std::regex_search(both, std::regex("\nstudent +8\\.00 +" + value)));
  const auto first = lab.run().out;
  CHECK(std::regex_search(first, std::regex("\nstudent +" + value + " +8\\.00")));

  Lab other(kStudent);
  const auto alone = shown(other.run().out, "student");
  const auto id = other.query("SELECT max(id) AS id FROM runs")[0]["id"].dump();
  const auto added = other.program.run(
      {"eval", id, "fixture-images", "--evaluator", "fixture-metric", "--record"});
  INFO(added.err);
  REQUIRE(added.exit_code == 0);
  CHECK(std::regex_search(other.report({other.file}),
                          std::regex("\nstudent +" + alone + " +8\\.00")));
  const auto check = other.program.run({"db", "check", "--hash"});
  INFO(check.out);
  CHECK(check.exit_code == 0);
}

TEST_CASE("variants: merged databases keep configurations apart, and shards make one table",
          "[e2e]") {
  Lab here, there;
  const auto value = shown(here.run({"--shard", "1/2"}).out, "teacher");
  CHECK(contains(here.report({"t"}), "student: not run yet."));
  const auto student = shown(there.run({"--shard", "2/2"}).out, "student");
  there.run({"--set", "sample.respacing=5"});
  const auto other = shown(there.report({"t"}), "teacher");
  CHECK(other != value);
  REQUIRE(here.program.run({"db", "merge", there.program.home()}).exit_code == 0);
  const auto text = here.report({here.file});
  INFO(text);
  CHECK(shown(text, "teacher") == value);
  CHECK(shown(text, "student") == student);
  CHECK(contains(text, "sample.respacing = 5 instead of 2"));
  // The last command of all machines is theirs, and the report says which it was.
  CHECK(shown(here.report({"t"}), "teacher") == other);
  CHECK(contains(here.report({"t"}), "sample.respacing=5"));
}

TEST_CASE("variants: a pinned run counts, with its note, until it is unpinned", "[e2e]") {
  Lab lab(kTeacher);
  const auto two = shown(lab.run().out, "teacher");
  const auto five = shown(lab.run({"--set", "sample.respacing=5"}).out, "teacher");
  REQUIRE(two != five);
  REQUIRE(lab.program.run({"runs", "pin", "1", "--note", "the paper's"}).exit_code == 0);
  const auto text = lab.report({"t"});
  INFO(text);
  CHECK(shown(text, "teacher") == two);
  CHECK(contains(text, "run 1 (seed 0) is pinned as the one that counts: the paper's"));
  // A command's own table is of what it asked for, and says what is pinned.
  const auto again = lab.run({"--set", "sample.respacing=5"}).out;
  CHECK(shown(again, "teacher") == five);
  CHECK(contains(again, "pinned: the paper's"));
  CHECK(lab.query("SELECT run FROM latest_runs WHERE pinned = 1")[0]["run"] == 1);
  REQUIRE(lab.program.run({"runs", "unpin", "1"}).exit_code == 0);
  CHECK(shown(lab.report({"t"}), "teacher") == five);
  CHECK(lab.program.run({"runs", "unpin", "1"}).exit_code != 0);
}

TEST_CASE("variants: a run records the teacher and the plugins that it used, and no others",
          "[e2e]") {
  Lab lab(std::string(kTeacher) + kStudent + kDynamic);
  lab.run();
  const auto runs = lab.query("SELECT row, teacher, teacher_key FROM runs ORDER BY row_order");
  CHECK(runs[0]["teacher"] == "checkpoint");
  CHECK(runs[1]["teacher"] == "");  // trained on data
  CHECK(runs[1]["teacher_key"] == "");
  CHECK(runs[2]["teacher"] == "checkpoint");
  CHECK(runs[2]["teacher_key"] == runs[0]["teacher_key"]);
  CHECK(lab.query("SELECT key FROM stages WHERE name = 'teacher'")[0]["key"] ==
        runs[0]["teacher_key"]);
  const auto plugins = lab.query(
      "SELECT kind, name FROM run_plugins p JOIN runs r ON r.id = p.run "
      "WHERE r.row = 'student' ORDER BY kind, name");
  std::set<std::string> names;
  for (const auto& plugin : plugins) names.insert(plugin["name"].get<std::string>());
  CHECK(names == std::set<std::string>{"data-based", "fixture-faulty-evaluator", "fixture-images",
                                       "fixture-student"});
}

TEST_CASE("variants: an epoch's last batch is learned from where it is kept, and counted as it is",
          "[e2e]") {
  const e2e::WithFixtures fixtures;
  Lab lab;
  const Words settings{"--set", "train.batch=3", "--set", "train.steps=4"};
  lab.run(settings);
  Words keeping = settings;
  keeping.insert(keeping.end(), {"--set", "train.last_batch=keep"});
  lab.run(keeping);
  // Of four images four batches of 3, or of 3, 1, 3 and 1.
  const auto flops = lab.query("SELECT flops FROM stages WHERE name = 'train' ORDER BY run");
  REQUIRE(flops.size() == 2);
  REQUIRE(flops[0]["flops"].get<double>() > 0);
  CHECK(flops[1]["flops"].get<double>() == Approx(flops[0]["flops"].get<double>() * 8 / 12));
}

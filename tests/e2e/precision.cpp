// [train] precision in the real program: in keys and records where it is not fp32; "auto" becomes a
// word that stays.
#include <algorithm>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "e2e/program.hpp"
#include "e2e/query.hpp"

namespace {

using e2e::Program;
using e2e::query;
namespace fs = std::filesystem;

// `command` on rows of training on real images alone, in a few steps.
std::vector<std::string> command_of(const std::string& command,
                                    const std::vector<std::string>& settings) {
  std::vector<std::string> args{command, "desk/quickstart", "--rows", "data_based"};
  for (const char* setting :
       {"train.steps=3", "train.batch=8", "sample.count=140", "sample.respacing=2"})
    args.insert(args.end(), {"--set", setting});
  for (const auto& setting : settings) args.insert(args.end(), {"--set", setting});
  return args;
}

void made(const Program& program, const std::vector<std::string>& settings) {
  auto args = command_of("run", settings);
  args.insert(args.end(), {"--device", "cpu"});
  const auto output = program.run(args);
  INFO(output.err);
  REQUIRE(output.exit_code == 0);
}

// Of the run that the last command asked for: the setting, and whether its training's key says it.
std::pair<std::string, bool> recorded(const Program& program) {
  const auto asked = query(program,
                           "SELECT r.id, s.value FROM request_cells c JOIN runs r ON r.key = c.key "
                           "JOIN settings s ON s.run = r.id AND s.key = 'train.precision' "
                           "WHERE c.request = (SELECT max(id) FROM requests)");
  REQUIRE(asked.size() == 1);
  const auto run = std::to_string(std::int64_t(e2e::number(asked.at(0).at("id"))));
  const auto parts = query(program,
                           "SELECT count(*) AS n FROM determinants WHERE part = 'precision' AND "
                           "stage_key = (SELECT key FROM stages WHERE name = 'train' AND run = " +
                               run + ")");
  return {asked.at(0).at("value"), e2e::number(parts.at(0).at("n")) == 1};
}

std::int64_t trainings(const Program& program) {
  return std::int64_t(
      e2e::number(query(program, "SELECT count(DISTINCT key) AS n FROM stages WHERE name = 'train'")
                      .at(0)
                      .at("n")));
}

std::string text(const fs::path& file) { return e2e::read_file(file); }

}  // namespace

TEST_CASE("precision: another one than fp32 is another training; auto is fixed where it is planned",
          "[e2e]") {
  const Program program;
  made(program, {});
  CHECK(recorded(program) == std::pair(std::string("fp32"), false));
  made(program, {"train.precision=bf16"});
  CHECK(recorded(program) == std::pair(std::string("bf16"), true));
  CHECK(trainings(program) == 2);
  CHECK_FALSE(fs::exists(program.home() / "precision"));

  made(program, {"train.precision=auto"});
  const auto chosen = recorded(program).first;
  CHECK((chosen == "fp32" || chosen == "bf16"));
  CHECK(trainings(program) == 2);  // one of the two above
  // Of the student's network, and of the teacher's where that is another one.
  const auto each_choice = [&](const auto& take) {
    for (const auto& entry : fs::directory_iterator(program.home() / "precision"))
      take(entry.path());
  };
  std::vector<std::string> words;
  each_choice([&](const fs::path& file) {
    const auto about = nlohmann::json::parse(text(file));
    CHECK(about.at("fp32_s").get<double>() > 0);
    CHECK(about.at("bf16_s").get<double>() > 0);
    words.push_back(about.at("precision"));
  });
  CHECK((words.size() == 1 || words.size() == 2));
  CHECK(std::count(words.begin(), words.end(), chosen) > 0);

  // What was chosen is not asked for again, whatever this machine would say now.
  const std::string other = chosen == "fp32" ? "bf16" : "fp32";
  each_choice([&](const fs::path& file) {
    auto about = nlohmann::json::parse(text(file));
    about["precision"] = other;
    std::ofstream(file) << about.dump();
  });
  made(program, {"train.precision=auto"});
  CHECK(recorded(program).first == other);
  CHECK(trainings(program) == 2);
  each_choice([](const fs::path& file) { std::ofstream(file) << "{"; });
  made(program, {"train.precision=auto"});  // damaged: measured again
  each_choice([](const fs::path& file) {
    CHECK(nlohmann::json::parse(text(file)).at("precision").is_string());
  });

  // A report computes nothing, and a plan may be for another machine: neither asks for the device.
  const e2e::With device("DKDM_DEVICE", "cuda");
  const auto report = program.run(command_of("report", {"train.precision=auto"}));
  const auto plan = program.run(command_of("plan", {"train.precision=tf32"}));
  const auto refused = program.run(command_of("run", {"train.precision=tf32"}));
  INFO(report.err << plan.err << refused.err);
  CHECK(report.exit_code == 0);
  CHECK(report.out.find("Data-based training") != std::string::npos);
  CHECK(plan.exit_code == 0);
  CHECK(plan.err.find("device cuda:0 cannot be used: ") != std::string::npos);
  CHECK(plan.err.find("planned on the CPU") != std::string::npos);
  CHECK(refused.exit_code == 2);
  CHECK(refused.err.find("$DKDM_DEVICE: device cuda:0 cannot be used: ") != std::string::npos);
}

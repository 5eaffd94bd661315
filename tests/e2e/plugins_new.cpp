// The plugin kit as its users have it: an installed package that was moved, `dkdm plugins new` for
// every kind, and the guide in plugins/README.md command by command. Budgets are a few steps:
// whether a network learns is not asked here.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <regex>
#include <set>

#include "e2e/program.hpp"

namespace {

using Catch::Matchers::Contains;
using e2e::Output;
using e2e::read_file;
using nlohmann::json;
namespace fs = std::filesystem;

// One place for all cases, so that a second run finds its objects in ccache.
const fs::path kRoot = fs::path(DKDM_BUILD_DIR) / "tests/plugins_new.d";
const char* const kKinds[] = {"student",      "teacher",   "dataset",    "baseline",
                              "distillation", "evaluator", "autoencoder"};
const std::string kLight =
    " --set train.steps=3 --set train.batch=8 --set sample.respacing=3 --set synthetic.respacing=3";

void write(const fs::path& file, const std::string& text) { std::ofstream(file) << text; }

// Runs a script in kRoot with a home of its own; every command must succeed.
Output shell(const std::string& script) {
  const std::string prelude =
      "set -e\ncd " + kRoot.string() + "\nexport HOME=" + kRoot.string() +
      " OMP_NUM_THREADS=2 CMAKE_GENERATOR=Ninja CMAKE_BUILD_PARALLEL_LEVEL=2\n"
      "unset DKDM_HOME DKDM_PLUGIN_PATH DKDM_EXPERIMENTS\n"
      "if command -v ccache >/dev/null; then export CMAKE_CXX_COMPILER_LAUNCHER=ccache; fi\n";
  write(kRoot / "script.sh", prelude + script);
  const std::string file = (kRoot / "script.sh").string();
  const int status =
      std::system(("bash " + file + " >" + file + ".out 2>" + file + ".err </dev/null").c_str());
  return {WEXITSTATUS(status), read_file(file + ".out"), read_file(file + ".err")};
}

Output done(const std::string& script) {
  const Output output = shell(script);
  INFO(script << "\n" << output.out << "\n" << output.err);
  REQUIRE(output.exit_code == 0);
  return output;
}

// The program of a package that was installed to one prefix and moved to another.
const std::string& dkdm() {
  static const std::string program = [] {
    fs::remove_all(kRoot);
    fs::create_directories(kRoot);
    done("cmake --install " DKDM_BUILD_DIR " --prefix first && mv first moved");
    return (kRoot / "moved/bin/dkdm").string();
  }();
  return program;
}

void check_refused(const std::string& arguments, const std::string& names) {
  const Output output = shell(dkdm() + " " + arguments);
  INFO(output.err);
  CHECK(output.exit_code == 2);
  CHECK(output.out.empty());
  CHECK_THAT(output.err, Contains(names));
}

// Lines of the public headers that `source` includes, directly or not.
std::size_t header_lines(const fs::path& source, std::set<std::string>& seen) {
  std::size_t lines = 0;
  std::istringstream text(read_file(source));
  const std::regex include("#include \"(dkdm/.*)\"");
  std::smatch match;
  for (std::string line; std::getline(text, line);) {
    if (!std::regex_match(line, match, include) || !seen.insert(match[1]).second) continue;
    const fs::path header = kRoot / "moved/include" / match[1].str();
    const std::string content = read_file(header);
    REQUIRE(!content.empty());
    lines +=
        std::size_t(std::count(content.begin(), content.end(), '\n')) + header_lines(header, seen);
  }
  return lines;
}

}  // namespace

TEST_CASE("package: a moved prefix has its plugins and experiments", "[e2e][sdk]") {
  const Output listing = done(dkdm() + " plugins --format json");
  CHECK(listing.err.empty());
  const json plugins = json::parse(listing.out);
  CHECK(plugins.size() >= 17);  // those of the design's table that are shipped
  for (const json& plugin : plugins) CHECK(plugin.at("from") == "shipped");
  CHECK_THAT(done(dkdm() + " plugins describe dit").out,
             Contains((kRoot / "moved/lib/dkdm/plugins/dit.so").string()));
  check_refused("plan nowhere", "desk/quickstart");  // the experiments that it knows
}

TEST_CASE("plugins new: refuses what cannot be", "[e2e][sdk]") {
  check_refused("plugins new studnet my-net", "did you mean student?");
  check_refused("plugins new student My_Net", "lower-case words joined by '-'");
  check_refused("plugins new student adm-unet", "taken by the student");
  check_refused("plugins new student", "expected KIND NAME");
  check_refused("plugins new student fine -o moved", "exists already");
  check_refused("plugins describe dit -o x", "--output belongs to plugins new");
}

TEST_CASE("plugins new: every kind builds against the package, passes its check and runs",
          "[e2e][sdk]") {
  std::string script = "mkdir kinds && cd kinds\n";
  std::string project = "cmake_minimum_required(VERSION 3.25)\nproject(kinds LANGUAGES CXX)\n";
  for (const std::string kind : kKinds) {
    script += dkdm() + " plugins new " + kind + " my-" + kind + "\n";
    // In one project two compile at a time; each into its own build folder, as it does alone.
    project +=
        "add_subdirectory(my-" + kind + " ${CMAKE_CURRENT_SOURCE_DIR}/my-" + kind + "/build)\n";
  }
  done(script);
  write(kRoot / "kinds/CMakeLists.txt", project);
  done("cd kinds && cmake -S . -B build && cmake --build build");

  for (const std::string kind : kKinds) {
    const std::string name = "my-" + kind, folder = "cd kinds/" + name + "\n";
    INFO(name);
    const std::string source = read_file(kRoot / "kinds" / name / ("my_" + kind + ".cpp"));
    CHECK(std::count(source.begin(), source.end(), '\n') < 110);
    const std::string build = read_file(kRoot / "kinds" / name / "CMakeLists.txt");
    CHECK(std::count(build.begin(), build.end(), '\n') == 5);

    const std::string described =
        done(folder + dkdm() + " plugins describe build/" + name + ".so").out;
    CHECK_THAT(described, Contains("\n  " + kind + ", version 1, command line, "));
    CHECK_THAT(done(folder + dkdm() + " plugins check build/" + name + ".so").out,
               Contains("checks passed"));
    // Experiments have no place for an autoencoder.
    const bool has_experiment = fs::exists(kRoot / "kinds" / name / "experiment.toml");
    CHECK(has_experiment == (kind != "autoencoder"));
    CHECK((read_file(kRoot / "kinds" / name / "README.md").find("run experiment.toml") !=
           std::string::npos) == has_experiment);
    if (!has_experiment) continue;
    // All share the home, and so the teacher and the evaluator.
    done(folder + "export DKDM_HOME=" + (kRoot / "home").string() + "\n" + dkdm() +
         " run experiment.toml" + kLight);
    const Output runs = done(
        "export DKDM_HOME=" + (kRoot / "home").string() + "\n" + dkdm() +
        " query --format json \"SELECT run, row, status, (SELECT count(*) FROM latest_metrics m WHERE "
        "m.run = s.run) AS metrics FROM run_status s WHERE experiment = '" +
        name + "'\"");
    const json rows = json::parse(runs.out);
    CHECK(rows.size() >= 2);
    for (const json& row : rows) {
      INFO(row.dump());
      CHECK(row.at("status") == "done");
      CHECK(row.at("metrics") >= 1);
      // A recorded run says which files its plugins were; they are opened where a person names
      // them.
      if (row.at("row") == "dynamic" && kind == "student") {
        const std::string home = "export DKDM_HOME=" + (kRoot / "home").string() + "\n";
        const std::string sample =
            dkdm() + " sample " + row.at("run").dump() + " -n 2 --respacing 2 -o two.png";
        const Output refused = shell(home + sample);
        CHECK(refused.exit_code == 2);
        CHECK_THAT(refused.err, Contains("DKDM_PLUGIN_PATH="));
        const auto module = kRoot / "kinds" / name / "build" / (name + ".so");
        done(home + "export DKDM_PLUGIN_PATH=" + module.string() + "\n" + sample);
      }
    }
  }
}

TEST_CASE("plugins new: what a student includes is read in one sitting", "[e2e][sdk]") {
  done("rm -rf read && " + dkdm() + " plugins new student read");
  std::set<std::string> seen;
  CHECK(header_lines(kRoot / "read/read.cpp", seen) < 600);
  CHECK(seen.contains("dkdm/denoiser.hpp"));
}

TEST_CASE("plugins: where each is from, and why one is refused", "[e2e][sdk]") {
  const fs::path module = kRoot / "kinds/my-student/build/my-student.so";
  REQUIRE(fs::exists(module));
  const auto from = [&](const std::string& script) {
    for (const json& plugin : json::parse(done(script).out))
      if (plugin.at("name") == "my-student") return plugin.at("from").get<std::string>();
    return std::string("not listed");
  };
  const std::string list = dkdm() + " plugins list --format json ", file = module.string();
  CHECK(from("DKDM_PLUGIN_PATH=kinds/my-student/build " + list) ==
        "DKDM_PLUGIN_PATH: kinds/my-student/build/my-student.so");
  CHECK(from("DKDM_PLUGIN_PATH=" + file + " " + list) == "DKDM_PLUGIN_PATH: " + file);
  CHECK(from(list + file) == "command line: " + file);
  CHECK(from(list + "kinds/my-student/experiment.toml") ==
        "kinds/my-student/experiment.toml: " + file);

  done(
      "mkdir cut && cp kinds/my-student/experiment.toml cut/ && mkdir cut/build && "
      "head -c 5000 " +
      file + " >cut/build/my-student.so");
  const Output listed = done(list + "cut/build/my-student.so");
  CHECK(json::parse(listed.out).size() >= 17);  // the others are there
  CHECK_THAT(listed.err, Contains("not loaded: cut/build/my-student.so: open: is cut short"));
  check_refused("plan cut/experiment.toml", "is cut short");
  check_refused("plan cut/experiment.toml", "experiment.toml:5:");  // the line that names it
  done("rm cut/build/my-student.so");
  check_refused("plan cut/experiment.toml", "no such plugin file or folder; build it first");
}

TEST_CASE("guide: every command of plugins/README.md runs as it is written", "[e2e][sdk]") {
  // The clone in which the guide begins: its launcher, whose `build` is done, and its build folder.
  dkdm();
  done("rm -rf clone my-net dkdm && mkdir clone && ln -s " DKDM_BUILD_DIR
       " clone/build\n"
       "printf '#!/bin/sh\\n[ \"$1\" = build ]\\n' >clone/dkdm && chmod +x clone/dkdm");
  std::string script = "cd clone\ndkdm() { if [ \"$1\" = run ]; then command dkdm \"$@\"" + kLight +
                       "; else command dkdm \"$@\"; fi; }\nset -x\n";
  std::istringstream guide(read_file(DKDM_SOURCE_DIR "/plugins/README.md"));
  bool inside = false;
  int commands = 0;
  for (std::string line; std::getline(guide, line);) {
    if (line.starts_with("```")) {
      inside = line == "```sh";
    } else if (inside) {
      script += line + "\n";
      ++commands;
    }
  }
  CHECK(commands > 10);
  const Output output = done(script);
  CHECK_THAT(output.out, Contains("my-net"));
  CHECK(fs::exists(kRoot / "my-net/.dkdm/results.sqlite"));
}

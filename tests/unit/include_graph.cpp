// The folders of the program include one another as docs/architecture.md draws it: in one
// direction, and by no arrow that the table there does not have.
#include <catch2/catch.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

const fs::path kSources = DKDM_SOURCE_DIR;

// Folder -> those that it includes headers of, with an example of a file that does.
using Graph = std::map<std::string, std::map<std::string, std::string>>;

std::vector<std::string> lines_of(const fs::path& file) {
  std::ifstream stream(file);
  INFO(file);
  REQUIRE(stream);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// The room a file is in: its folder; plugins are one room, since none includes another's folder.
std::string room(const fs::path& file) {
  const auto folder = file.parent_path().string();
  if (folder.starts_with("plugins/")) return "plugins";
  if (folder.starts_with("core/cli/")) return "core/cli";
  return folder;
}

// The file that `file` means by `name`, relative to the sources; nothing for one that the build
// makes.
std::optional<fs::path> resolved(const fs::path& file, const std::string& name) {
  for (const fs::path& base :
       {file.parent_path(), fs::path("core"), fs::path("core/include"), fs::path()}) {
    const auto path = (base / name).lexically_normal();
    if (fs::is_regular_file(kSources / path)) return path;
  }
  return std::nullopt;
}

Graph graph_of_sources() {
  static const std::regex include(R"re(^\s*#\s*include "([^"]+)")re");
  Graph graph;
  for (const char* top : {"core", "metrics", "plugins", "results"}) {
    for (const auto& entry : fs::recursive_directory_iterator(kSources / top)) {
      const auto extension = entry.path().extension();
      if (extension != ".cpp" && extension != ".hpp") continue;
      const auto file = fs::relative(entry.path(), kSources);
      auto& arrows = graph[room(file)];
      for (const auto& line : lines_of(entry.path())) {
        std::smatch found;
        if (!std::regex_search(line, found, include)) continue;
        const auto target = resolved(file, found[1]);
        if (!target || room(*target) == room(file)) continue;
        arrows.emplace(room(*target), file.string() + " includes " + target->string());
      }
    }
  }
  return graph;
}

// The table "Folders": | `folder` | what is in it | what it includes |, where io means core/io.
Graph graph_of_document() {
  static const std::regex row(R"re(^\| `([^`]+)` \|[^|]*\| ([^|]*) \|$)re");
  Graph graph;
  for (const auto& line : lines_of(kSources / "docs/architecture.md")) {
    std::smatch found;
    if (!std::regex_match(line, found, row)) continue;
    auto& arrows = graph[found[1]];
    std::istringstream cell(found[2]);
    for (std::string name; std::getline(cell >> std::ws, name, ',');) {
      if (name == "–") continue;
      arrows[fs::is_directory(kSources / "core" / name) ? "core/" + name : name] = "";
    }
  }
  return graph;
}

// What all may include: they include nothing but each other.
const std::set<std::string> kCommon = {"core", "core/include/dkdm"};

// The arrows of a cycle that `from` is in, "" = there is none.
std::string cycle(const Graph& graph, const std::string& from, std::vector<std::string> path = {}) {
  path.push_back(from);
  const auto arrows = graph.find(from);
  if (arrows == graph.end()) return "";
  for (const auto& [to, example] : arrows->second) {
    if (to == path.front()) return example;
    if (std::find(path.begin(), path.end(), to) != path.end()) continue;
    const auto rest = cycle(graph, to, path);
    if (!rest.empty()) return example + "; " + rest;
  }
  return "";
}

}  // namespace

TEST_CASE("include graph: no folders include one another", "[unit][structure]") {
  const auto graph = graph_of_sources();
  REQUIRE(graph.size() > 20);
  for (const auto& [folder, arrows] : graph) {
    INFO(folder);
    CHECK(cycle(graph, folder) == "");
  }
}

TEST_CASE("include graph: a cycle is found", "[unit][structure]") {
  const Graph graph{{"a", {{"b", "a.cpp includes b.hpp"}}},
                    {"b", {{"c", "b.cpp includes c.hpp"}}},
                    {"c", {{"b", "c.cpp includes b.hpp"}}}};
  CHECK(cycle(graph, "b") == "b.cpp includes c.hpp; c.cpp includes b.hpp");
  CHECK(cycle(graph, "a") == "");
}

TEST_CASE("include graph: the arrows are those of docs/architecture.md", "[unit][structure]") {
  const auto drawn = graph_of_document();
  const auto graph = graph_of_sources();
  for (const auto& [folder, arrows] : graph) {
    if (folder == "core") {
      CHECK((arrows.empty() || (arrows.size() == 1 && arrows.contains("core/include/dkdm"))));
      continue;
    }
    INFO("docs/architecture.md has no row for " << folder);
    REQUIRE(drawn.contains(folder));
    for (const auto& [to, example] : arrows) {
      INFO("docs/architecture.md draws no arrow " << folder << " -> " << to << ": " << example);
      CHECK((kCommon.contains(to) || drawn.at(folder).contains(to)));
    }
  }
  for (const auto& [folder, arrows] : drawn) {
    INFO("docs/architecture.md has a row for " << folder << ", which is no folder");
    REQUIRE(graph.contains(folder));
    for (const auto& [to, example] : arrows) {
      INFO("docs/architecture.md draws an arrow that is not there: " << folder << " -> " << to);
      CHECK(graph.at(folder).contains(to));
    }
  }
}

TEST_CASE("include graph: the files that documents name are there", "[unit][structure]") {
  static const std::regex name(R"re(`([a-z_]+/[a-z_/]+\.(cpp|hpp|sql|toml|md))`)re");
  std::size_t count = 0;
  for (const char* document :
       {"README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/formats.md",
        "docs/numerics.md", "docs/trust.md", "plugins/README.md", "results/README.md",
        "metrics/README.md", "core/diffusion/README.md"}) {
    for (const auto& line : lines_of(kSources / document)) {
      for (auto found = std::sregex_iterator(line.begin(), line.end(), name);
           found != std::sregex_iterator(); ++found, ++count) {
        INFO(document << " names " << found->str());
        CHECK(resolved(document, (*found)[1]));
      }
    }
  }
  CHECK(count > 30);
}

TEST_CASE("include graph: SQL is spoken in results/ alone", "[unit][structure]") {
  static const std::regex include(R"re(^\s*#\s*include <(sqlite3|SQLiteCpp))re");
  for (const char* top : {"core", "metrics", "plugins"}) {
    for (const auto& entry : fs::recursive_directory_iterator(kSources / top)) {
      if (entry.path().extension() != ".cpp" && entry.path().extension() != ".hpp") continue;
      INFO(entry.path());
      for (const auto& line : lines_of(entry.path())) CHECK_FALSE(std::regex_search(line, include));
    }
  }
}

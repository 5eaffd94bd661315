// A plugin's author reads the headers that the plugin includes: for every kind they fit one
// sitting.
#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <string>

namespace {

namespace fs = std::filesystem;

const fs::path kSources = DKDM_SOURCE_DIR;

// The public headers that `file` includes, themselves and through each other, and their lines in
// all.
struct Reading {
  std::set<std::string> headers;
  std::size_t lines = 0;

  void follow(const fs::path& file) {
    static const std::regex include(R"re(#include "(dkdm/[a-z_]+\.hpp)")re");
    INFO(file);
    std::ifstream stream(file);
    REQUIRE(stream);
    std::smatch found;
    for (std::string line; std::getline(stream, line);) {
      if (file.extension() == ".hpp") ++lines;
      if (std::regex_search(line, found, include) && headers.insert(found[1]).second)
        follow(kSources / "core/include" / found[1].str());
    }
  }
};

}  // namespace

TEST_CASE("plugin headers: under 600 lines for a plugin of any kind", "[unit][plugin]") {
  for (const char* kind :
       {"student", "teacher", "dataset", "baseline", "distillation", "evaluator", "autoencoder"}) {
    INFO(kind);
    Reading reading;
    reading.follow(kSources / "core/cli/templates" / (std::string(kind) + ".cpp"));
    CHECK(reading.headers.count("dkdm/boundary.hpp") == 1);
    CHECK(reading.lines < 600);
  }
}

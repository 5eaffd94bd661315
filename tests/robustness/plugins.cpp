// Broken modules: each is refused with one line that names file, values and remedy; none of them
// stops the others.
#include <ATen/ATen.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "dkdm/plugin.hpp"
#include "plugin/registry.hpp"

using namespace dkdm;
using Catch::Matchers::Contains;
namespace fs = std::filesystem;

namespace {

const fs::path kFixtures = fs::path(DKDM_BUILD_DIR) / "tests/fixtures/plugins";

const plugin::Registry& fixtures() {
  static const plugin::Registry registry({kFixtures});
  return registry;
}

// A new folder with the good student and nothing else, removed at the end.
struct Folder {
  fs::path path;
  Folder() {
    std::string name = (fs::temp_directory_path() / "dkdm-plugins-XXXXXX").string();
    path = ::mkdtemp(name.data());
    fs::permissions(path, static_cast<fs::perms>(0755));
    fs::copy_file(kFixtures / "good-student.so", path / "good.so");
  }
  ~Folder() { fs::remove_all(path); }

  // The reason why `file` is refused; the good student must have loaded.
  std::string refusal(const std::string& file) const {
    const plugin::Registry registry({path});
    CHECK(registry.lookup("student", "fixture-student"));
    REQUIRE(registry.refusals().size() == 1);
    CHECK(registry.refusals()[0].file == path / file);
    return registry.refusals()[0].reason;
  }
};

std::string fixture_refusal(const std::string& file) {
  for (const plugin::Refusal& refusal : fixtures().refusals()) {
    if (refusal.file.filename() != file) continue;
    CHECK_THAT(refusal.reason, Contains(file));
    CHECK(refusal.reason.find('\n') == std::string::npos);
    return refusal.reason;
  }
  FAIL(file << " was not refused");
  return "";
}

plugin::PluginChoice choice(const std::string& name, const std::map<std::string, Value>& given) {
  const plugin::PluginInfo& info = fixtures().find("student", name);
  return {info.kind, info.name, info.version, Params(info.params, given)};
}

}  // namespace

TEST_CASE("plugins: the good modules load among the broken ones", "[robustness][plugin]") {
  const plugin::PluginInfo& student = fixtures().find("student", "fixture-student");
  CHECK(student.version == "1");
  CHECK(student.summary == "a student for tests");
  CHECK(student.params.size() == 3);
  CHECK(student.file == kFixtures / "good-student.so");
  CHECK(fixtures().lookup("dataset", "fixture-images"));
  CHECK(fixtures().lookup("evaluator", "fixture-metric"));
  CHECK_FALSE(fixtures().lookup("teacher", "fixture-student"));
}

TEST_CASE("plugins: a module of another ABI is refused with both numbers", "[robustness][plugin]") {
  CHECK_THAT(fixture_refusal("wrong-abi.so"),
             Contains("plugin ABI 999, this dkdm has " DKDM_STR(DKDM_ABI)) && Contains("rebuild"));
}

TEST_CASE("plugins: a module built by another compiler is refused with both builds",
          "[robustness][plugin]") {
  CHECK_THAT(fixture_refusal("wrong-build-id.so"),
             Contains("compiler 4") && Contains(DKDM_BUILD_ID) && Contains("rebuild"));
}

TEST_CASE("plugins: what differs between two builds is named", "[robustness][plugin]") {
  CHECK_THAT(fixture_refusal("wrong-libtorch.so"),
             Contains("LibTorch 2.6.0 for LibTorch " TORCH_VERSION) && Contains(DKDM_BUILD_ID) &&
                 Contains("rebuild"));
  CHECK_THAT(fixture_refusal("wrong-flags.so"), Contains("C++ 201703L for C++ ") &&
                                                    Contains("cxx11 0 for cxx11 ") &&
                                                    Contains(DKDM_BUILD_ID) && Contains("rebuild"));
}

TEST_CASE("plugins: a table that is missing or cannot be had is a refusal",
          "[robustness][plugin]") {
  CHECK_THAT(fixture_refusal("null-table.so"), Contains("returned nothing, expected a table"));
  CHECK_THAT(fixture_refusal("throwing-table.so"), Contains("threw") && Contains("DKDM_* macro"));
}

TEST_CASE("plugins: a missing symbol or library is named", "[robustness][plugin]") {
  CHECK_THAT(fixture_refusal("missing-symbol.so"), Contains("exports no symbol dkdm_plugin"));
  CHECK_THAT(fixture_refusal("missing-library.so"),
             Contains("libdkdm-nowhere.so.7") && Contains("install that library"));
  CHECK_THAT(fixture_refusal("undefined-symbol.so"),
             Contains("dkdm_function_of_another_version") && Contains("rebuild"));
}

TEST_CASE("plugins: a taken name is refused with both files", "[robustness][plugin]") {
  CHECK_THAT(fixture_refusal("same-name.so"),
             Contains("\"fixture-student\"") && Contains("good-student.so") && Contains("rename"));
}

TEST_CASE("plugins: parameters that cannot be had are a refusal", "[robustness][plugin]") {
  CHECK_THAT(fixture_refusal("throwing-params.so"), Contains("no parameters today"));
  CHECK_THAT(fixture_refusal("wrong-default.so"), Contains("dropout: expected range 0…1, got 2"));
}

TEST_CASE("plugins: a module that ends its process is a refusal that says how",
          "[robustness][plugin]") {
  CHECK_THAT(fixture_refusal("crashing-initialiser.so"),
             Contains("when opened: aborted (signal 6)") && Contains("no table today") &&
                 Contains("static objects"));
  CHECK_THAT(fixture_refusal("exiting-initialiser.so"), Contains("when opened: exit code 0"));
  CHECK_THAT(fixture_refusal("crashing-params.so"),
             Contains("when asked for its parameters: segmentation fault (signal 11)"));
}

TEST_CASE("plugins: an unknown kind is refused with the known ones", "[robustness][plugin]") {
  CHECK_THAT(fixture_refusal("unknown-kind.so"),
             Contains("\"sampler\"") && Contains("student, teacher, dataset"));
}

TEST_CASE("plugins: files that are no libraries are refused before they are loaded",
          "[robustness][plugin]") {
  const Folder folder;
  SECTION("a text file") {
    std::ofstream(folder.path / "notes.so") << "remember the milk\n";
    CHECK_THAT(folder.refusal("notes.so"), Contains("not a shared library"));
  }
  SECTION("an empty file") {
    std::ofstream(folder.path / "empty.so").flush();
    CHECK_THAT(folder.refusal("empty.so"), Contains("not a shared library"));
  }
  SECTION("a module cut short, anywhere") {
    const auto size = fs::file_size(folder.path / "good.so");
    for (const auto kept : {std::uintmax_t{20}, std::uintmax_t{100}, size / 2, size - 1}) {
      fs::copy_file(folder.path / "good.so", folder.path / "short.so",
                    fs::copy_options::overwrite_existing);
      fs::resize_file(folder.path / "short.so", kept);
      CHECK_THAT(folder.refusal("short.so"),
                 Contains("cut short: " + std::to_string(kept) + " bytes"));
    }
  }
  SECTION("a folder") {
    fs::create_directory(folder.path / "folder.so");
    CHECK_THAT(folder.refusal("folder.so"), Contains("is a folder"));
  }
  SECTION("a link to nothing") {
    fs::create_symlink("nothing", folder.path / "link.so");
    CHECK_THAT(folder.refusal("link.so"), Contains("No such file"));
  }
  SECTION("a file without permission") {
    fs::copy_file(folder.path / "good.so", folder.path / "secret.so");
    fs::permissions(folder.path / "secret.so", fs::perms::none);
    // Root may read everything, so be somebody else for the moment.
    const bool root = ::geteuid() == 0;
    if (root) REQUIRE(::seteuid(65534) == 0);
    const std::string reason = folder.refusal("secret.so");
    if (root) REQUIRE(::seteuid(0) == 0);
    CHECK_THAT(reason, Contains("Permission denied") && Contains("permissions"));
  }
}

TEST_CASE("plugins: $DKDM_PLUGIN_PATH adds folders, and the same file twice is one plugin",
          "[robustness][plugin]") {
  const Folder folder;
  const std::string path = folder.path.string();
  ::setenv("DKDM_PLUGIN_PATH", (path + ":" + path + ":" + path + "/none").c_str(), 1);
  const plugin::Registry registry(std::vector<fs::path>{});
  ::unsetenv("DKDM_PLUGIN_PATH");
  CHECK(registry.plugins().size() == 1);
  REQUIRE(registry.refusals().size() == 1);
  CHECK_THAT(registry.refusals()[0].reason, Contains("/none") && Contains("plugin path"));
}

TEST_CASE("plugins: an unknown name comes with the nearest, a refused one with its reason",
          "[robustness][plugin]") {
  const auto find = [](const std::string& kind, const std::string& name) {
    return fixtures().find(kind, name, "a.toml:3:1");
  };
  CHECK_THROWS_WITH(find("student", "fixture-studnet"),
                    "a.toml:3:1: unknown student \"fixture-studnet\", did you mean "
                    "\"fixture-student\"?");
  const plugin::Registry no_teacher({kFixtures / "good-student.so"});
  CHECK_THROWS_WITH(no_teacher.find("teacher", "ldm"), Contains("no plugin of that kind"));
  CHECK_THROWS_WITH(find("teacher", "fixture-student"),
                    Contains("\"fixture-student\" is a student, expected a teacher"));
  CHECK_THROWS_WITH(find("student", "wrong-abi"), Contains("plugin ABI 999"));
  CHECK_THROWS_AS(find("student", "wrong-abi"), ConfigError);
}

TEST_CASE("plugins: a constructor's error arrives with its name, message and exit code",
          "[robustness][plugin]") {
  const auto make = [](const char* how) {
    return fixtures().student(choice("fixture-throwing", {{"how", std::string(how)}}),
                              {{1, 8, 8}, {}}, 0);
  };
  CHECK_THROWS_WITH(make("data"), "fixture-throwing: create: weights.bin: no such file");
  try {
    make("data");
  } catch (const PluginError& e) {
    CHECK(e.exit_code() == ExitCode::missing);
  }
  CHECK_THROWS_WITH(make("number"), Contains("not a std::exception"));
  CHECK_THROWS_AS(make("interrupt"), Interrupted);
}

TEST_CASE("plugins: a student's weights depend on the seed and leave LibTorch's generator alone",
          "[robustness][plugin]") {
  const auto weights = [](std::uint64_t seed) {
    const auto student = fixtures().student(choice("fixture-student", {}), {{3, 8, 8}, {}}, seed);
    return student->parameters()[0].detach().clone();
  };
  at::manual_seed(5);
  const at::Tensor undisturbed = at::rand({4});
  at::manual_seed(5);
  const at::Tensor first = weights(1);
  CHECK(at::equal(at::rand({4}), undisturbed));
  CHECK(at::equal(weights(1), first));
  CHECK_FALSE(at::equal(weights(2), first));
  CHECK(first.size(0) == 6);
}

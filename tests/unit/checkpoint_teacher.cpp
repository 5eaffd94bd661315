// The teacher plugin for models that this suite trained.
#include <catch2/catch.hpp>

#include "dkdm/files.hpp"
#include "fixtures/analytic.hpp"

using dkdm::Params;
using dkdm::Value;
using dkdm::fixtures::CountingHost;
using dkdm::fixtures::ScratchFolder;
using dkdm::fixtures::shipped_plugins;

namespace {

std::shared_ptr<dkdm::Teacher> teacher(CountingHost& host,
                                       const std::map<std::string, Value>& given) {
  const auto& info = shipped_plugins().find("teacher", "checkpoint");
  return shipped_plugins().teacher({info.kind, info.name, info.version, Params(info.params, given)},
                                   host);
}

void write_model(const std::filesystem::path& folder, const std::string& ema,
                 const std::string& description) {
  std::filesystem::create_directories(folder);
  dkdm::io::write_text(folder / "ema.safetensors", ema);
  dkdm::io::write_text(folder / "raw.safetensors", "raw weights");
  dkdm::io::write_text(folder / "model.json", description);
}

}  // namespace

TEST_CASE("checkpoint: the host loads the folder with the weights asked for", "[unit][teacher]") {
  ScratchFolder scratch;
  write_model(scratch.path, "a", "{}");
  CountingHost host;
  teacher(host, {{"path", scratch.path.string()}, {"weights", std::string("raw")}})->load();
  CHECK(host.loaded == scratch.path);
  CHECK(host.weights == "raw");
}

TEST_CASE("checkpoint: the fingerprint follows weights and description, not the place",
          "[unit][teacher]") {
  ScratchFolder scratch;
  write_model(scratch.path / "a", "a", "{}");
  write_model(scratch.path / "copy", "a", "{}");
  write_model(scratch.path / "weights", "b", "{}");
  write_model(scratch.path / "described", "a", "{ }");
  CountingHost host;
  auto of = [&](const char* name, const std::string& weights = "ema") {
    return teacher(host, {{"path", (scratch.path / name).string()}, {"weights", weights}})
        ->fingerprint();
  };
  CHECK(of("a") == of("copy"));
  CHECK(of("a") != of("weights"));
  CHECK(of("a") != of("described"));
  CHECK(of("a") != of("a", "raw"));
}

TEST_CASE("checkpoint: a missing path and a folder without a model are named", "[unit][teacher]") {
  ScratchFolder scratch;
  CountingHost host;
  CHECK_THROWS_WITH(teacher(host, {})->load(), Catch::Contains("path is not set"));
  CHECK_THROWS_WITH(teacher(host, {{"path", scratch.path.string()}})->fingerprint(),
                    Catch::Contains(scratch.path.string()) && Catch::Contains("model.json"));
}

// Every student module in the build, at its default parameters, keeps the promises of
// dkdm/denoiser.hpp: the checks of `dkdm plugins check`. A new architecture is tested by being
// there.
#include <atomic>
#include <catch2/catch.hpp>

#include "conformance/check.hpp"
#include "fixtures/students.hpp"
#include "run/run_host.hpp"

using namespace dkdm;

namespace {

std::vector<std::string> students() {
  std::vector<std::string> names;
  for (const auto& plugin : fixtures::registry().plugins())
    if (plugin.kind == "student") names.push_back(plugin.name);
  return names;
}

}  // namespace

TEST_CASE("discovered students: every check of the program passes", "[conformance][students]") {
  REQUIRE(students().size() >= 2);
  const auto name = GENERATE(from_range(students()));
  INFO(name);
  const plugin::PluginInfo& info = fixtures::registry().find("student", name);
  const std::atomic<bool> stop{false};
  run::RunHost host(fixtures::registry(), stop, nullptr);
  int made = 0;
  conformance::Checklist list([](const std::string&) {},
                              [&](const conformance::Finding& finding) {
                                ++made;
                                INFO(finding.check << ": " << finding.text);
                                CHECK(finding.outcome == conformance::Outcome::passed);
                              });
  conformance::check_description(info, list);
  // The program tries more and larger shapes; these keep the largest defaults to seconds.
  conformance::check_behaviour(
      {fixtures::registry(), info, Params(info.params, {}), host, {{3, 16, 16}, {1, 32, 32}}},
      list);
  CHECK(made >= 14);
}

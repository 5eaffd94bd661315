// Settings: a field is one line of a table, and is then read, checked, described and written.
#include "config/settings.hpp"

#include <catch2/catch.hpp>

#include <set>

using namespace dkdm;
using config::Setting;
using config::Settings;

namespace {

struct Kettle {
  double litres = 1.5;
  std::int64_t watts = 2000;
  bool whistles = false;
  std::string colour = "red";
};

std::vector<Setting<Kettle>> first_fields() {
  return {{&Kettle::litres, real("litres", 1.5, "how much").between(0, 10)},
          {&Kettle::watts, integer("watts", 2000, "how fast").at_least(1)},
          {&Kettle::whistles, flag("whistles", false, "whether it says so").no_effect_on_result()}};
}

Kettle read(const Settings<Kettle>& settings, const std::map<std::string, Value>& given) {
  return settings.read(Params(settings.table(), given));
}

}  // namespace

TEST_CASE(
    "settings: a field that is added is one line, and changes no key while it is at its default",
    "[unit][config]") {
  const Settings<Kettle> before(first_fields());
  auto fields = first_fields();
  fields.push_back(
      {&Kettle::colour, text("colour", "red", "of its outside").one_of({"red", "blue"}).added()});
  const Settings<Kettle> after(fields);

  CHECK(after.describe(Kettle()) == before.describe(Kettle()));
  const Kettle blue = read(after, {{"colour", std::string("blue")}, {"litres", 2.0}});
  CHECK(blue.colour == "blue");
  CHECK(blue.litres == 2);
  CHECK(blue.watts == 2000);
  CHECK(after.describe(blue) == "litres = 2.0\nwatts = 2000\ncolour = \"blue\"\n");
  CHECK(after.values(blue).back().first == "colour");
  CHECK(to_text(after.values(blue).back().second) == "\"blue\"");
  CHECK_THROWS_WITH(read(after, {{"colour", std::string("green")}}),
                    "colour: expected one of red, blue, got \"green\"");
  CHECK_THROWS_AS(read(before, {{"colour", std::string("blue")}}), ConfigError);
}

TEST_CASE("settings: what has no effect on a result is in no key", "[unit][config]") {
  const Settings<Kettle> settings(first_fields());
  CHECK(settings.describe(read(settings, {{"whistles", true}})) == settings.describe(Kettle()));
  CHECK(settings.describe(Kettle(), [](const std::string& name) { return name != "watts"; }) ==
        "litres = 1.5\n");
}

TEST_CASE("settings: a parameter of another type than its field is a bug", "[unit][config]") {
  CHECK_THROWS_AS(Settings<Kettle>(
                      std::vector<Setting<Kettle>>{{&Kettle::watts, real("watts", 1, "how fast")}}),
                  std::logic_error);
}

TEST_CASE(
    "settings: every field of a process and of a sampler is a setting with the struct's default",
    "[unit][config]") {
  const auto& diffusion = config::diffusion_settings();
  CHECK(diffusion.read(Params(diffusion.table(), {})) == DiffusionConfig());
  const Params other(diffusion.table(), {{"schedule", std::string("linear")},
                                         {"steps", std::int64_t{500}},
                                         {"beta_start", 0.001},
                                         {"beta_end", 0.01},
                                         {"variance", std::string("fixed_small")},
                                         {"variance_range", std::string("unit")}});
  CHECK(diffusion.read(other) ==
        DiffusionConfig{"linear", 500, "", 0.001, 0.01, "fixed_small", "unit"});
  // Each of them is another key.
  std::set<std::string> keys{diffusion.describe(DiffusionConfig())};
  for (const auto& [name, value] : other.values())
    CHECK(
        keys.insert(diffusion.describe(diffusion.read(Params(diffusion.table(), {{name, value}}))))
            .second);

  const auto& sampler = config::sampler_settings();
  const SamplerConfig usual = sampler.read(Params(sampler.table(), {}));
  CHECK(usual.sampler == SamplerConfig().sampler);
  CHECK(usual.eta == SamplerConfig().eta);
  CHECK(usual.clip_denoised == SamplerConfig().clip_denoised);
  CHECK(usual.solver_steps == SamplerConfig().solver_steps);
  CHECK(usual.steps_offset == SamplerConfig().steps_offset);
  CHECK(usual.set_alpha_to_one == SamplerConfig().set_alpha_to_one);
}

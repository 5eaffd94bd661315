// Declared parameters: checks, defaults, canonical text. Expected values follow from the header.
#include "dkdm/params.hpp"
#include "config/number.hpp"
#include "dkdm/nearest.hpp"
#include "plugin/param_check.hpp"

#include <catch2/catch.hpp>

#include <cstdlib>
#include <limits>

using namespace dkdm;
using Catch::Matchers::Contains;

namespace {

ParamTable table() {
  return {integer("width", 32, "base channels").between(1, 1024),
          real("lr", 1e-4, "learning rate").at_least(0),
          text("decay", "none", "course of lr").one_of({"none", "cosine"}),
          flag("flip", true, "mirror images"),
          integers("multipliers", {1, 2}, "a level each").at_least(1),
          reals("betas", {0.9, 0.999}, "decays").between(0, 1),
          texts("names", {}, "any")};
}

Params given(const std::map<std::string, Value>& values) { return Params(table(), values, "here"); }

}  // namespace

TEST_CASE("params: what is not given has its default", "[unit][config]") {
  const Params params = given({{"width", std::int64_t{64}}});
  CHECK(params.integer("width") == 64);
  CHECK(params.real("lr") == 1e-4);
  CHECK(params.text("decay") == "none");
  CHECK(params.flag("flip"));
  CHECK(params.integers("multipliers") == std::vector<std::int64_t>{1, 2});
  CHECK(params.values().size() == table().size());
}

TEST_CASE("params: an integer passes for a real, not the other way round", "[unit][config]") {
  CHECK(given({{"lr", std::int64_t{1}}}).real("lr") == 1.0);
  CHECK(given({{"betas", std::vector<std::int64_t>{0, 1}}}).reals("betas") ==
        std::vector<double>{0, 1});
  CHECK(given({{"names", std::vector<std::int64_t>{}}}).texts("names").empty());
  CHECK_THROWS_WITH(given({{"width", 32.0}}), "here: width: expected integer, got real 32.0");
  CHECK_THROWS_WITH(given({{"names", std::vector<std::int64_t>{1}}}),
                    "here: names: expected list of texts, got list of integers [1]");
}

TEST_CASE("params: an impossible value is named with what is possible", "[unit][config]") {
  CHECK_THROWS_WITH(given({{"width", std::int64_t{0}}}),
                    "here: width: expected range 1…1024, got 0");
  CHECK_THROWS_WITH(given({{"lr", -0.5}}), "here: lr: expected range 0…1000000000000, got -0.5");
  CHECK_THROWS_WITH(given({{"lr", std::numeric_limits<double>::quiet_NaN()}}), Contains("nan"));
  CHECK_THROWS_WITH(given({{"decay", std::string("linear")}}),
                    "here: decay: expected one of none, cosine, got \"linear\"");
  CHECK_THROWS_WITH(given({{"multipliers", std::vector<std::int64_t>{2, 0}}}), Contains("[2, 0]"));
  CHECK_THROWS_AS(given({{"lr", -1.0}}), ConfigError);
}

TEST_CASE("params: a number without a declared bound has one of its type", "[unit][config]") {
  const ParamTable open{integer("n", 1, "…"), integers("list", {}, "…"), real("x", 0, "…")};
  const auto refused = [&](const std::string& name, const Value& value) {
    try {
      Params(open, {{name, value}}, "here");
    } catch (const ConfigError& error) {
      return std::string(error.what());
    }
    return std::string("taken");
  };
  CHECK(refused("n", std::int64_t{1'000'000'000}) == "taken");
  CHECK(refused("n", std::int64_t{1'000'000'001}) ==
        "here: n: expected range -1000000000…1000000000, got 1000000001");
  CHECK_THAT(refused("n", std::numeric_limits<std::int64_t>::min()), Contains("range"));
  CHECK_THAT(refused("list", std::vector<std::int64_t>{1, std::int64_t{1} << 62}),
             Contains("range"));
  CHECK_THAT(refused("list", std::vector<std::int64_t>(1001)), Contains("at most 1000 elements"));
  CHECK(refused("list", std::vector<std::int64_t>(1001)).size() < 200);  // the value is cut
  CHECK(refused("x", 1e12) == "taken");
  CHECK_THAT(refused("x", 1e13), Contains("range"));
  CHECK_THAT(refused("x", std::numeric_limits<double>::infinity()), Contains("range"));
  // Not as doubles, where both are 2^53.
  const Param exact = integer("seed", 0, "…").between(0, 9007199254740991);
  CHECK_NOTHROW(checked(exact, std::int64_t{9007199254740991}, ""));
  CHECK_THROWS_AS(checked(exact, std::int64_t{9007199254740992}, ""), ConfigError);
}

TEST_CASE("params: a flag may have words besides true and false", "[unit][config]") {
  const ParamTable table{flag("warmup", false, "…").one_of({"ldm"}), flag("plain", false, "…")};
  const auto of = [&](const Value& value) {
    return Params(table, {{"warmup", value}}, "here").values().at("warmup");
  };
  CHECK(of(true) == Value(true));
  CHECK(of(std::string("ldm")) == Value(std::string("ldm")));
  CHECK(range_text(table[0]) == "one of true, false, ldm");
  CHECK_THROWS_WITH(of(std::string("lmd")),
                    "here: warmup: expected one of true, false, ldm, got \"lmd\"");
  CHECK_THROWS_WITH(of(std::int64_t{1}), "here: warmup: expected boolean, got integer 1");
  CHECK_THROWS_WITH(Params(table, {{"plain", std::string("ldm")}}, "here"),
                    "here: plain: expected boolean, got text \"ldm\"");
}

TEST_CASE("params: one that was added is in no key while it is at its default", "[unit][config]") {
  const ParamTable table{integer("width", 8, "…"), text("draw", "numpy", "…").added()};
  const auto determining = [&](const std::map<std::string, Value>& given) {
    return Params(table, given).determining();
  };
  CHECK(determining({}) == std::map<std::string, Value>{{"width", std::int64_t{8}}});
  CHECK(determining({{"draw", std::string("numpy")}}) == determining({}));
  CHECK(determining({{"draw", std::string("python")}}).at("draw") == Value(std::string("python")));
  CHECK(Params(table, {}).text("draw") == "numpy");
}

TEST_CASE("params: an unknown name comes with the nearest known one", "[unit][config]") {
  CHECK_THROWS_WITH(given({{"widht", std::int64_t{1}}}),
                    "here: unknown parameter \"widht\", did you mean \"width\"?");
  CHECK_THROWS_WITH(given({{"quite_another_thing", true}}),
                    "here: unknown parameter \"quite_another_thing\"");
}

TEST_CASE("params: a required parameter must be given", "[unit][config]") {
  const ParamTable required{integer("steps", 0, "training steps").required()};
  CHECK_THROWS_WITH(Params(required, {}, "here"), "here: steps must be given: training steps");
  CHECK(Params(required, {{"steps", std::int64_t{5}}}).integer("steps") == 5);
}

TEST_CASE("params: asking for what the table does not have is our own bug", "[unit][config]") {
  CHECK_THROWS_AS(given({}).integer("nothing"), std::logic_error);
  CHECK_THROWS_AS(given({}).integer("lr"), std::logic_error);
}

TEST_CASE("params: values are written as TOML that reads back equal", "[unit][config]") {
  CHECK(to_text(true) == "true");
  CHECK(to_text(std::int64_t{-3}) == "-3");
  CHECK(to_text(1.0) == "1.0");
  CHECK(to_text(0.1) == "0.1");
  CHECK(to_text(0.001) == "0.001");
  CHECK(to_text(1e-8) == "1e-08");
  for (const double value : {1.0 / 3, 2.0 / 3 * 1e300, 5e-324, 123456789012345678.0}) {
    CHECK(std::strtod(to_text(value).c_str(), nullptr) == value);
  }
  CHECK(to_text(std::string("a \"b\"\\\n\x01")) == "\"a \\\"b\\\"\\\\\\n\\u0001\"");
  CHECK(to_text(std::vector<double>{1, 0.5}) == "[1.0, 0.5]");
  CHECK(to_text(std::vector<std::string>{}) == "[]");
}

TEST_CASE("params: canonical text is sorted and equal exactly when values are", "[unit][config]") {
  const ParamTable small{real("b", 1, "…"), integer("a", 2, "…")};
  CHECK(Params(small, {}).canonical() == "a = 2\nb = 1.0\n");
  CHECK(Params(small, {{"b", std::int64_t{1}}}).canonical() == Params(small, {}).canonical());
  CHECK(Params(small, {{"b", 1.0000000000000002}}).canonical() != Params(small, {}).canonical());
}

TEST_CASE("params: nearest_name sees swaps, case and dashes, and nothing far off",
          "[unit][config]") {
  const std::vector<std::string> names{"batch", "steps", "lr", "weight_decay", "adm-unet"};
  CHECK(nearest_name("btach", names) == "batch");
  CHECK(nearest_name("Weight-Decay", names) == "weight_decay");
  CHECK(nearest_name("adm_unet", names) == "adm-unet");
  CHECK(nearest_name("step", names) == "steps");
  CHECK(nearest_name("momentum", names) == "");
  CHECK(nearest_name("zz", names) == "");
}

TEST_CASE("params: range_text says what a person may write", "[unit][config]") {
  CHECK(range_text(real("rho", 0, "…").between(0, 1)) == "range 0…1");
  CHECK(range_text(integer("n", 1, "…").at_least(1)) == "range 1…1000000000");
  CHECK(range_text(real("x", 0, "…").at_most(0.5)) == "range -1000000000000…0.5");
  CHECK(range_text(integers("l", {}, "…").between(1, 64).at_most_elements(3)) ==
        "at most 3 elements, range 1…64");
  CHECK(range_text(text("s", "a", "…").one_of({"a", "b"})) == "one of a, b");
  CHECK(range_text(flag("f", true, "…")) == "");
}

TEST_CASE("numbers: a word is a number as a whole, within its range, or an error with both",
          "[unit][config]") {
  using config::real_number;
  using config::whole_number;
  CHECK(whole_number("64", "--count", 1, 100) == 64);
  CHECK(whole_number("-3", "--x", -5, 5) == -3);
  CHECK(whole_number("9223372036854775807", "--seed", 0, config::kLargestId) == config::kLargestId);
  CHECK(real_number("1e-3", "--eta", 0, 1) == 1e-3);
  CHECK(real_number("2", "--x", 0, 10) == 2);
  // One more than a 64-bit number holds, and far more.
  for (const std::string text : {"9223372036854775808", "99999999999999999999999"}) {
    CHECK_THROWS_WITH(whole_number(text, "run number", 1, config::kLargestId),
                      "run number: expected a whole number, 1 or more, got '" + text + "'");
  }
  for (const std::string text :
       {"", " 1", "1 ", "+1", "0x10", "1.0", "1e3", "ten", "0", "101", "--1"}) {
    CHECK_THROWS_WITH(whole_number(text, "--count", 1, 100),
                      "--count: expected a whole number from 1 to 100, got '" + text + "'");
  }
  for (const std::string text : {"", "nan", "inf", "1e999", "1,5", "0.5x", "1.5", "-0.1"}) {
    CHECK_THROWS_WITH(real_number(text, "--eta", 0, 1),
                      "--eta: expected a number from 0 to 1, got '" + text + "'");
  }
  // A line stays a line, however long the word.
  CHECK_THROWS_WITH(
      whole_number(std::string(1000, '9'), "--n", 1, 5),
      "--n: expected a whole number from 1 to 5, got '" + std::string(40, '9') + "…'");
}

// JSON's values as the types that are meant.
#include <catch2/catch.hpp>
#include <limits>

#include "dkdm/json.hpp"

namespace {

using dkdm::io::as;
using dkdm::io::holds;
using Json = nlohmann::json;

bool is_int64(const char* text) { return holds<std::int64_t>(Json::parse(text)); }

}  // namespace

TEST_CASE("json: an integer is what the type holds, and no real number", "[unit][json]") {
  CHECK(is_int64("0"));
  CHECK(is_int64("9223372036854775807"));
  CHECK(is_int64("-9223372036854775808"));
  for (const char* other :
       {"3.7", "1e3", "1e300", "9223372036854775808", "true", "\"3\"", "null", "[3]"}) {
    INFO(other);
    CHECK_FALSE(is_int64(other));
    CHECK_THROWS_AS(as<std::int64_t>(Json::parse(other)), Json::type_error);
  }
  CHECK_FALSE(holds<std::uint64_t>(Json(-1)));
  CHECK(as<std::uint64_t>(Json::parse("18446744073709551615")) ==
        std::numeric_limits<std::uint64_t>::max());
  CHECK_FALSE(holds<int>(Json(std::int64_t{1} << 31)));
}

TEST_CASE("json: the error says what the value is and what it should be", "[unit][json]") {
  CHECK_THROWS_WITH(as<std::int64_t>(Json(3.5)), Catch::Contains("3.5, expected an integer"));
  CHECK_THROWS_WITH(as<bool>(Json(1)), Catch::Contains("1, expected true or false"));
  CHECK_THROWS_WITH(as<std::string>(Json::array()), Catch::Contains("array, expected a string"));
  CHECK(as<double>(Json(2)) == 2);
}

TEST_CASE("json: an optional field may be missing or null, not another type", "[unit][json]") {
  std::optional<double> flops;
  dkdm::io::read_field(Json{{"flops", nullptr}}, "flops", flops);
  dkdm::io::read_field(Json::object(), "flops", flops);
  CHECK_FALSE(flops);
  CHECK_THROWS_AS(dkdm::io::read_field(Json{{"flops", "many"}}, "flops", flops), Json::type_error);
}

// What the program's database says, by its own `query` command.
#pragma once

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "e2e/program.hpp"

namespace e2e {

inline nlohmann::json query(const Program& program, const std::string& sql) {
  const auto output = program.run({"query", sql, "--format", "json"});
  INFO(output.err);
  REQUIRE(output.exit_code == 0);
  return nlohmann::json::parse(output.out);
}

// Large integers come as texts.
inline double number(const nlohmann::json& value) {
  return value.is_string() ? std::stod(value.get<std::string>()) : value.get<double>();
}

}  // namespace e2e

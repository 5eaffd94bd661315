// SQL from a person's hand, strictly read-only.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>

#include "results/text/table.hpp"

namespace dkdm::results {

// A query without end, or with an answer that no memory holds, is stopped.
struct QueryLimits {
  double seconds = 60;                           // 0 = no limit
  std::uint64_t bytes = std::uint64_t{2} << 30;  // of the answer in memory; of what SQLite sorts
  const std::atomic<bool>* stop = nullptr;       // set by somebody else: throws Interrupted
};

// Runs one SELECT (or EXPLAIN, or a PRAGMA that only describes tables) on the database. Anything
// that could change a file, this one or another, is refused. A real number is rounded where a
// person reads it (text, markdown) and whole in csv and json. Throws ConfigError for wrong SQL,
// with SQLite's message and the nearest table, view or column, or beyond a limit; StoreError when
// the file cannot be read.
Table query(const std::filesystem::path& file, const std::string& sql,
            const QueryLimits& limits = {});

}  // namespace dkdm::results

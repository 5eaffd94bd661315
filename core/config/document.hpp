// A TOML text as a tree in which every key and value knows where it was written.
#pragma once

#include <filesystem>
#include <string>
#include <variant>
#include <vector>

#include "dkdm/params.hpp"

namespace dkdm::config {

struct Entry;

struct DKDM_API Section {
  std::string where;  // "file:line:column", or "--set KEY"
  std::vector<Entry> entries;  // in the order of the file

  const Entry* find(const std::string& name) const;
  Entry* find(const std::string& name);
};

struct Entry {
  std::string name;
  std::string key_where, where;  // of the key, of the value
  std::string raw;               // an override's text as typed, "" for what the file says
  std::variant<Value, Section, std::vector<Section>> content;

  const Value* value() const { return std::get_if<Value>(&content); }
  const Section* section() const { return std::get_if<Section>(&content); }
  const std::vector<Section>* sections() const {
    return std::get_if<std::vector<Section>>(&content);
  }
};

// Throws DataError when there is no such file, ConfigError with file:line:column for what is not
// TOML or not a Value (dates, lists of mixed types).
Section read_document(const std::filesystem::path& file);

// Puts "dotted.key=value" into `root`, making sections on the way. The value is TOML, or text where
// that cannot be read as TOML. "row.dynamic.train.lr" goes to the [[row]] whose id is "dynamic".
// Throws ConfigError.
DKDM_API void apply_override(Section& root, const std::string& text);

// "~/x" is x in $HOME; anything else is itself.
DKDM_API std::filesystem::path expanded_home(const std::string& path);

// `base` with the entries of `over` in place of its own.
Section merged(const Section& base, const Section& over);

}  // namespace dkdm::config

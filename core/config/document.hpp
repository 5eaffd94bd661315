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
  std::string where;           // "file:line:column", or "--set KEY"
  std::vector<Entry> entries;  // in the order of the file

  const Entry* find(const std::string& name) const;
  Entry* find(const std::string& name);
};

struct Entry {
  std::string name;
  std::string key_where, where;  // of the key, of the value
  std::string raw;               // an override's text as typed, "" for what a file says
  std::filesystem::path
      folder;  // paths in the value are relative to it: the file's; "" = the working folder
  // A list that is no Value (of booleans, of lists, of mixed types) holds its elements, which have
  // no names.
  std::variant<Value, Section, std::vector<Section>, std::vector<Entry>> content;

  const Value* value() const { return std::get_if<Value>(&content); }
  const Section* section() const { return std::get_if<Section>(&content); }
  const std::vector<Section>* sections() const {
    return std::get_if<std::vector<Section>>(&content);
  }
  const std::vector<Entry>* elements() const { return std::get_if<std::vector<Entry>>(&content); }
};

// What its "id" says; "" where it is absent or no text.
std::string id_of(const Section& section);

// Throws DataError when there is no such file, ConfigError with file:line:column for what is not
// TOML and for dates.
Section read_document(const std::filesystem::path& file);

// `base` with what `over` says in place of its own, section by section. A section whose plugin is
// another takes the place of the base's whole; of lists of sections ([[row]]) those with the same
// id are laid over each other and the others follow. Throws ConfigError where one has a section and
// the other a value.
Section overlaid(Section base, const Section& over);

// Puts "dotted.key=value" into `root`, making sections on the way. The value is TOML, or text where
// that cannot be read as TOML. "row.dynamic.train.lr" goes to the [[row]] whose id is "dynamic".
// Throws ConfigError.
DKDM_API void apply_override(Section& root, const std::string& text);

// Section `path` of `root`, made where it is missing; its last name's entry is the caller's to set.
// Throws ConfigError(`where`) where a name on the way is a value.
Section& section_at(Section& root, const std::vector<std::string>& path, const std::string& where);

// How a message about a name that is none of `known` ends: ", expected one of …", and, where one is
// near,
// ", did you mean …?" instead.
std::string one_of(const std::vector<std::string>& known);
std::string hint(const std::string& wrong, const std::vector<std::string>& known);

// "~/x" is x in $HOME; anything else is itself.
DKDM_API std::filesystem::path expanded_home(const std::string& path);

}  // namespace dkdm::config

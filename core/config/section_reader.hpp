// Sections of experiment files as parameters: held against tables and plugins, the place of every
// value kept.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "config/document.hpp"
#include "plugin/registry.hpp"

namespace dkdm::config {

using Names = std::vector<std::string>;

// Where values come from: "experiment.seeds", "row.dynamic.train.lr" -> "file:line:column" or
// "--set KEY". A value that is not there is a default.
using Origins = std::map<std::string, std::string>;

// A section as a person finds it ("[train]", "row \"dynamic\" train") and as Origins has its
// values.
struct Place {
  std::string title, path;

  Place at(const std::string& name) const { return {title + ' ' + name, path + '.' + name}; }
};

// All below throw ConfigError with the place in the file.

Names names_of(const ParamTable& table, const Names& more = {});
void check_names(const Section& section, const std::string& title, const Names& known);
// [a-z0-9_-]+
void require_slug(const std::string& where, const std::string& name, const std::string& text);

// The sub-section, or nullptr where there is none.
const Section* find_section(const Section& parent, const std::string& name);
// nullptr where it is no text.
const std::string* text_of(const Entry& entry);
// As `param` takes it.
Value value_of(const Param& param, const Entry& entry);

class SectionReader {
 public:
  explicit SectionReader(const plugin::Registry& registry) : registry_(registry) {}

  // The values of `section` for `table`; entries named in `others` are read elsewhere.
  Params params(const ParamTable& table, const Section& section, const Place& place,
                const Names& others = {});
  // The plugin that `section` names, with the paths that it states leading where they should.
  plugin::PluginChoice plugin(const std::string& kind, const Section& section, const Place& place,
                              Names others = {});

  // What is noted of other values.
  void note(const std::string& path, const std::string& where) { origins_[path] = where; }
  const Origins& origins() const { return origins_; }

 private:
  const plugin::Registry& registry_;
  Origins origins_;
};

}  // namespace dkdm::config

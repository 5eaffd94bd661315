#include "config/section_reader.hpp"

#include <algorithm>

#include "config/paths.hpp"
#include "plugin/param_check.hpp"

namespace dkdm::config {
namespace {

const std::string& plugin_name(const Section& section, const std::string& title) {
  const Entry* entry = section.find("plugin");
  if (!entry) {
    throw ConfigError(section.where, title + ": plugin must be given: the plugin's name");
  }
  const std::string* name = text_of(*entry);
  if (!name) throw ConfigError(entry->where, title + ": plugin: expected text");
  return *name;
}

}  // namespace

Names names_of(const ParamTable& table, const Names& more) {
  Names names;
  for (const Param& param : table) names.push_back(param.name);
  names.insert(names.end(), more.begin(), more.end());
  return names;
}

void check_names(const Section& section, const std::string& title, const Names& known) {
  for (const Entry& entry : section.entries)
    if (std::find(known.begin(), known.end(), entry.name) == known.end())
      throw ConfigError(entry.key_where,
                        "unknown key \"" + entry.name + "\" in " + title + hint(entry.name, known));
}

const Section* find_section(const Section& parent, const std::string& name) {
  const Entry* entry = parent.find(name);
  if (!entry) return nullptr;
  if (!entry->section()) {
    throw ConfigError(entry->where, name + ": expected a section, as in " + name + " = { … }");
  }
  return entry->section();
}

const std::string* text_of(const Entry& entry) {
  return entry.value() ? std::get_if<std::string>(entry.value()) : nullptr;
}

void require_slug(const std::string& where, const std::string& name, const std::string& text) {
  constexpr const char* kAllowed = "abcdefghijklmnopqrstuvwxyz0123456789_-";
  if (!text.empty() && text.find_first_not_of(kAllowed) == std::string::npos) return;
  throw ConfigError(where, name + ": expected letters a-z, digits, _ and -, got \"" + text + '"');
}

Value value_of(const Param& param, const Entry& entry) {
  const Value* value = entry.value();
  if (!value)
    throw ConfigError(
        entry.where,
        param.name + ": expected " + type_name(param.default_value) + ", got " +
            (entry.elements() ? "a list of something else or of mixed types" : "a section"));
  // On a command line 50 may well be meant as the text "50".
  const bool as_typed = std::holds_alternative<std::string>(param.default_value) &&
                        !std::holds_alternative<std::string>(*value) && !entry.raw.empty();
  return checked(param, as_typed ? Value(entry.raw) : *value, entry.where);
}

Params SectionReader::params(const ParamTable& table, const Section& section, const Place& place,
                             const Names& others) {
  check_names(section, place.title, names_of(table, others));
  std::map<std::string, Value> given;
  for (const Param& param : table) {
    const Entry* entry = section.find(param.name);
    if (!entry) continue;
    given[param.name] = value_of(param, *entry);
    note(place.path + '.' + param.name, entry->where);
  }
  return Params(table, given, section.where + ": " + place.title);
}

plugin::PluginChoice SectionReader::plugin(const std::string& kind, const Section& section,
                                           const Place& place, Names others) {
  const std::string& name = plugin_name(section, place.title);
  const std::string& where = section.find("plugin")->where;
  const plugin::PluginInfo& info = registry_.find(kind, name, where);
  others.push_back("plugin");
  note(place.path + ".plugin", where);
  const Place named{place.title + " (" + name + ")", place.path};
  return {info.kind, info.name, info.version,
          with_paths(kind, info.params, section, params(info.params, section, named, others))};
}

}  // namespace dkdm::config

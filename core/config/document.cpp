// TOML texts and overrides as positioned trees (config/document.hpp).
#include "config/document.hpp"

#include <algorithm>
#include <boost/algorithm/string/join.hpp>
#include <cstdlib>
#include <optional>
#include <sstream>
#include <type_traits>

#include "config/toml.hpp"
#include "dkdm/documents.hpp"
#include "dkdm/nearest.hpp"

namespace dkdm::config {
namespace {

// Writes positions of one source: a file's by line and column, an override's by its key alone.
struct Source {
  std::string name;
  std::filesystem::path folder;
  bool positions = true;

  std::string where(const toml::source_region& region) const {
    if (!positions || region.begin.line == 0) return name;
    return name + ":" + std::to_string(region.begin.line) + ":" +
           std::to_string(region.begin.column);
  }
};

template <class T>
Value list(const toml::array& array) {
  std::vector<T> values;
  for (const toml::node& element : array) values.push_back(*element.value<T>());
  return values;
}

// Nothing where it is a list of anything else.
std::optional<Value> read_list(const toml::array& array) {
  const auto all = [&](auto&& is) { return std::all_of(array.begin(), array.end(), is); };
  // An empty list is of any type (params.cpp).
  if (all([](const toml::node& n) { return n.is_integer(); })) return list<std::int64_t>(array);
  if (all([](const toml::node& n) { return n.is_number(); })) return list<double>(array);
  if (all([](const toml::node& n) { return n.is_string(); })) return list<std::string>(array);
  return std::nullopt;
}

Section read_section(const toml::table& table, const Source& source);

Entry read_entry(std::string name, const toml::source_region& key, const toml::node& node,
                 const Source& source) {
  Entry entry;
  entry.name = std::move(name);
  entry.key_where = source.where(key);
  entry.where = source.where(node.source());
  entry.folder = source.folder;
  if (const toml::table* table = node.as_table()) {
    entry.content = read_section(*table, source);
  } else if (const toml::array* array = node.as_array()) {
    if (!array->empty() && array->is_homogeneous<toml::table>()) {
      std::vector<Section> sections;
      for (const toml::node& element : *array) {
        sections.push_back(read_section(*element.as_table(), source));
      }
      entry.content = std::move(sections);
    } else if (auto values = read_list(*array)) {
      entry.content = std::move(*values);
    } else {
      std::vector<Entry> elements;
      for (const toml::node& element : *array)
        elements.push_back(read_entry(entry.name, element.source(), element, source));
      entry.content = std::move(elements);
    }
  } else if (node.is_boolean()) {
    entry.content = Value(*node.value<bool>());
  } else if (node.is_integer()) {
    entry.content = Value(*node.value<std::int64_t>());
  } else if (node.is_floating_point()) {
    entry.content = Value(*node.value<double>());
  } else if (node.is_string()) {
    entry.content = Value(*node.value<std::string>());
  } else {
    throw ConfigError(entry.where, entry.name +
                                       ": expected a boolean, number, text or list, got a "
                                       "date or time; put it in quotes");
  }
  return entry;
}

Section read_section(const toml::table& table, const Source& source) {
  Section section;
  section.where = source.where(table.source());
  // toml++ keeps keys sorted; the file's order is that of their positions.
  std::vector<std::pair<toml::source_position, Entry>> entries;
  for (const auto& [key, node] : table) {
    entries.emplace_back(key.source().begin,
                         read_entry(std::string(key.str()), key.source(), node, source));
  }
  std::stable_sort(entries.begin(), entries.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  for (auto& [position, entry] : entries) section.entries.push_back(std::move(entry));
  return section;
}

// An override's value: TOML where it is, else the text as typed.
Entry read_value(const std::string& name, const std::string& text, const Source& source) {
  if (io::too_deep(text, io::Syntax::toml) != std::string::npos) {
    throw ConfigError(source.name, "nested too deeply");
  }
  try {
    const toml::table table = toml::parse("v = " + text + "\n");
    if (table.size() == 1) {
      Entry entry = read_entry(name, {}, *table.get("v"), source);
      entry.raw = text;
      return entry;
    }
  } catch (const toml::parse_error& e) {
    if (!text.empty() && std::string("[{\"'").find(text[0]) != std::string::npos) {
      throw ConfigError(source.name, std::string(e.description()) + ", got " + text);
    }
  }
  return {name, source.name, source.name, text, {}, Value(text)};
}

Section* section_with_id(std::vector<Section>& sections, const std::string& id) {
  const auto found = std::find_if(sections.begin(), sections.end(),
                                  [&](const Section& section) { return id_of(section) == id; });
  return id.empty() || found == sections.end() ? nullptr : &*found;
}

Section& section_with_id(std::vector<Section>& sections, const std::string& name,
                         const std::string& id, const std::string& where) {
  if (Section* section = section_with_id(sections, id)) return *section;
  std::vector<std::string> ids;
  for (const Section& section : sections)
    if (!id_of(section).empty()) ids.push_back(id_of(section));
  throw ConfigError(where, "no " + name + " has the id \"" + id + '"' + hint(id, ids));
}

void lay(Section& base, const Section& over);

const char* noun(const Entry& entry) {
  return entry.section() ? "a section" : entry.sections() ? "a list of sections" : "a value";
}

// Whether `over` chooses another plugin than `base`, whose parameters it then does not know.
bool chooses_another(const Section& base, const Section& over) {
  const Entry *mine = base.find("plugin"), *theirs = over.find("plugin");
  return mine && theirs && mine->value() && theirs->value() && *mine->value() != *theirs->value();
}

void lay(Entry& base, const Entry& over) {
  const bool both_values =
      !base.section() && !base.sections() && !over.section() && !over.sections();
  if (both_values) {
    base = over;
  } else if (base.content.index() != over.content.index()) {
    throw ConfigError(over.key_where, '"' + over.name + "\" is " + noun(over) + " here and " +
                                          noun(base) + " at " + base.key_where + "; expected " +
                                          noun(base));
  } else if (auto* sections = std::get_if<std::vector<Section>>(&base.content)) {
    for (const Section& section : *over.sections())
      if (Section* same = section_with_id(*sections, id_of(section))) lay(*same, section);
      else sections->push_back(section);
  } else {
    lay(std::get<Section>(base.content), *over.section());
    base.key_where = over.key_where;
    base.where = over.where;
  }
}

void lay(Section& base, const Section& over) {
  if (chooses_another(base, over)) {
    base = over;
    return;
  }
  base.where = over.where;
  for (const Entry& entry : over.entries)
    if (Entry* old = base.find(entry.name)) lay(*old, entry);
    else base.entries.push_back(entry);
}

}  // namespace

std::string id_of(const Section& section) {
  const Entry* entry = section.find("id");
  const Value* value = entry ? entry->value() : nullptr;
  const std::string* text = value ? std::get_if<std::string>(value) : nullptr;
  return text ? *text : "";
}

const Entry* Section::find(const std::string& name) const {
  const auto found = std::find_if(entries.begin(), entries.end(),
                                  [&](const Entry& entry) { return entry.name == name; });
  return found == entries.end() ? nullptr : &*found;
}

Entry* Section::find(const std::string& name) {
  return const_cast<Entry*>(std::as_const(*this).find(name));
}

Section read_document(const std::filesystem::path& file) {
  std::error_code error;
  if (!std::filesystem::exists(file, error)) {
    throw DataError(file.string(), "no such experiment file");
  }
  const std::string text = io::read_document(file, io::Syntax::toml);
  const Source source{file.string(), std::filesystem::absolute(file).parent_path()};
  try {
    return read_section(toml::parse(text), source);
  } catch (const toml::parse_error& e) {
    throw ConfigError(source.where(e.source()), std::string(e.description()));
  }
}

Section overlaid(Section base, const Section& over) {
  lay(base, over);
  return base;
}

Section& section_at(Section& root, const std::vector<std::string>& path, const std::string& where) {
  Section* at = &root;
  for (std::size_t i = 0; i < path.size(); ++i) {
    Entry* entry = at->find(path[i]);
    if (!entry) {
      at->entries.push_back({path[i], where, where, "", {}, Section{where, {}}});
      entry = &at->entries.back();
    }
    if (auto* section = std::get_if<Section>(&entry->content)) {
      at = section;
    } else if (auto* sections = std::get_if<std::vector<Section>>(&entry->content)) {
      if (i + 1 == path.size())
        throw ConfigError(where,
                          "names a whole " + path[i] + ", expected " + path[i] + ".ID.KEY=VALUE");
      at = &section_with_id(*sections, path[i], path[i + 1], where);
      ++i;
    } else {
      throw ConfigError(where, '"' + path[i] + "\" is a value, expected a section");
    }
  }
  return *at;
}

void apply_override(Section& root, const std::string& text) {
  const auto equals = text.find('=');
  const std::string key = text.substr(0, equals);
  const Source source{"--set " + key, {}, false};
  std::vector<std::string> parts;
  std::istringstream stream(key);
  for (std::string part; std::getline(stream, part, '.');) parts.push_back(part);
  if (equals == std::string::npos || parts.empty() || key.back() == '.' ||
      std::find(parts.begin(), parts.end(), "") != parts.end()) {
    throw ConfigError(source.name, "expected KEY=VALUE, as in train.steps=100");
  }
  const Entry entry = read_value(parts.back(), text.substr(equals + 1), source);
  parts.pop_back();
  Section& section = section_at(root, parts, source.name);
  // What is set takes the place of what was there, a section included.
  if (entry.section())
    std::erase_if(section.entries, [&](const Entry& old) { return old.name == entry.name; });
  lay(section, {section.where, {entry}});
}

std::string one_of(const std::vector<std::string>& known) {
  return ", expected one of " + boost::algorithm::join(known, ", ");
}

std::string hint(const std::string& wrong, const std::vector<std::string>& known) {
  const std::string near = nearest_name(wrong, known);
  return near.empty() ? one_of(known) : ", did you mean \"" + near + "\"?";
}

std::filesystem::path expanded_home(const std::string& path) {
  const char* home = std::getenv("HOME");
  const bool below = path == "~" || path.starts_with("~/");
  if (!below || !home || *home == 0) return path;
  return std::filesystem::path(home) / path.substr(path.size() > 1 ? 2 : 1);
}

}  // namespace dkdm::config

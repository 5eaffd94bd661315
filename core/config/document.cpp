// TOML texts and overrides as positioned trees (config/document.hpp).
#include "config/document.hpp"

#include <algorithm>
#include <cstdlib>
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

Value read_list(const toml::array& array, const std::string& where) {
  const auto all = [&](auto&& is) { return std::all_of(array.begin(), array.end(), is); };
  // An empty list is of any type (params.cpp).
  if (all([](const toml::node& n) { return n.is_integer(); })) return list<std::int64_t>(array);
  if (all([](const toml::node& n) { return n.is_number(); })) return list<double>(array);
  if (all([](const toml::node& n) { return n.is_string(); })) return list<std::string>(array);
  throw ConfigError(where, "expected a list of integers, of reals or of texts");
}

Section read_section(const toml::table& table, const Source& source);

Entry read_entry(std::string name, const toml::source_region& key, const toml::node& node,
                 const Source& source) {
  Entry entry;
  entry.name = std::move(name);
  entry.key_where = source.where(key);
  entry.where = source.where(node.source());
  if (const toml::table* table = node.as_table()) {
    entry.content = read_section(*table, source);
  } else if (const toml::array* array = node.as_array()) {
    if (!array->empty() && array->is_homogeneous<toml::table>()) {
      std::vector<Section> sections;
      for (const toml::node& element : *array) {
        sections.push_back(read_section(*element.as_table(), source));
      }
      entry.content = std::move(sections);
    } else {
      entry.content = read_list(*array, entry.where);
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
    throw ConfigError(entry.where, entry.name + ": expected a boolean, number, text or list, got a "
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
  Entry entry;
  entry.name = name;
  entry.key_where = entry.where = source.name;
  entry.raw = text;
  entry.content = Value(text);
  return entry;
}

Section& section_with_id(std::vector<Section>& sections, const std::string& name,
                         const std::string& id, const std::string& where) {
  std::vector<std::string> ids;
  for (Section& section : sections) {
    const Entry* entry = section.find("id");
    const Value* value = entry ? entry->value() : nullptr;
    const std::string* text = value ? std::get_if<std::string>(value) : nullptr;
    if (!text) continue;
    if (*text == id) return section;
    ids.push_back(*text);
  }
  std::string known;
  for (const std::string& other : ids) known += (known.empty() ? "" : ", ") + other;
  const std::string near = nearest_name(id, ids);
  throw ConfigError(where, "no " + name + " has the id \"" + id + '"' +
                               (near.empty() ? ", expected one of " + known
                                             : ", did you mean \"" + near + "\"?"));
}

}  // namespace

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
  const Source source{file.string()};
  try {
    return read_section(toml::parse(text), source);
  } catch (const toml::parse_error& e) {
    throw ConfigError(source.where(e.source()), std::string(e.description()));
  }
}

void apply_override(Section& root, const std::string& text) {
  const auto equals = text.find('=');
  const std::string key = text.substr(0, equals);
  const Source source{"--set " + key, false};
  std::vector<std::string> parts;
  std::istringstream stream(key);
  for (std::string part; std::getline(stream, part, '.');) parts.push_back(part);
  if (equals == std::string::npos || parts.empty() || key.back() == '.' ||
      std::find(parts.begin(), parts.end(), "") != parts.end()) {
    throw ConfigError(source.name, "expected KEY=VALUE, as in train.steps=100");
  }

  Section* at = &root;
  for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
    Entry* entry = at->find(parts[i]);
    if (!entry) {
      at->entries.push_back({parts[i], source.name, source.name, "", Section{source.name, {}}});
      entry = &at->entries.back();
    }
    if (auto* section = std::get_if<Section>(&entry->content)) {
      at = section;
    } else if (auto* sections = std::get_if<std::vector<Section>>(&entry->content)) {
      at = &section_with_id(*sections, parts[i], parts[i + 1], source.name);
      if (++i + 1 == parts.size()) {
        throw ConfigError(source.name, "names a whole " + parts[i - 1] + ", expected " +
                                           parts[i - 1] + "." + parts[i] + ".KEY=VALUE");
      }
    } else {
      throw ConfigError(source.name, '"' + parts[i] + "\" is a value, expected a section");
    }
  }
  Entry entry = read_value(parts.back(), text.substr(equals + 1), source);
  // Another plugin does not know the parameters of the one whose place it takes.
  const Entry* plugin = entry.name == "plugin" ? at->find("plugin") : nullptr;
  if (plugin && plugin->value() && entry.value() && *plugin->value() != *entry.value())
    std::erase_if(at->entries, [](const Entry& e) { return e.value() && e.name != "plugin"; });
  if (Entry* old = at->find(parts.back())) {
    *old = std::move(entry);
  } else {
    at->entries.push_back(std::move(entry));
  }
}

std::filesystem::path expanded_home(const std::string& path) {
  const char* home = std::getenv("HOME");
  const bool below = path == "~" || path.starts_with("~/");
  if (!below || !home || *home == 0) return path;
  return std::filesystem::path(home) / path.substr(path.size() > 1 ? 2 : 1);
}

Section merged(const Section& base, const Section& over) {
  Section result = base;
  result.where = over.where;
  for (const Entry& entry : over.entries) {
    if (Entry* old = result.find(entry.name)) {
      *old = entry;
    } else {
      result.entries.push_back(entry);
    }
  }
  return result;
}

}  // namespace dkdm::config

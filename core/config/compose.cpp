#include "config/compose.hpp"

#include <algorithm>
#include <boost/algorithm/string/join.hpp>
#include <boost/algorithm/string/split.hpp>

#include "plugin/param_check.hpp"

namespace dkdm::config {
namespace {

namespace fs = std::filesystem;

class Inheritance {
 public:
  Inheritance(const fs::path& shipped, Bases& bases) : shipped_(shipped), bases_(bases) {}

  Section read(const fs::path& file) {
    Section own = read_document(file);
    open_.push_back(file);
    Section below{own.where, {}};
    if (const Entry* entry = own.find("base")) {
      for (const std::string& path : paths_of(*entry))
        below = overlaid(std::move(below), base(path, *entry));
      std::erase_if(own.entries, [](const Entry& e) { return e.name == "base"; });
    }
    open_.pop_back();
    return overlaid(std::move(below), own);
  }

 private:
  static std::vector<std::string> paths_of(const Entry& entry) {
    if (const Value* value = entry.value()) {
      if (const auto* path = std::get_if<std::string>(value)) return {*path};
      if (const auto* paths = std::get_if<std::vector<std::string>>(value)) return *paths;
    }
    throw ConfigError(entry.where,
                      "base: expected the path of an experiment file, or a list of paths");
  }

  Section base(const std::string& path, const Entry& entry) {
    const fs::path file = find(path, entry);
    const auto same = [&](const fs::path& other) {
      std::error_code error;
      return fs::equivalent(file, other, error);
    };
    if (const auto again = std::find_if(open_.begin(), open_.end(), same); again != open_.end()) {
      std::string chain;
      for (auto at = again; at != open_.end(); ++at) chain += at->string() + " -> ";
      throw ConfigError(entry.where,
                        "base \"" + path + "\" leads back to itself: " + chain + file.string());
    }
    bases_.emplace_back(file.string(), "the base of " + entry.where);
    return read(file);
  }

  fs::path find(const std::string& path, const Entry& entry) const {
    const fs::path named = expanded_home(path);
    std::vector<fs::path> places{(open_.back().parent_path() / named).lexically_normal()};
    if (named.is_relative() && !shipped_.empty())
      places.push_back((shipped_ / named).lexically_normal());
    std::vector<std::string> looked;
    std::error_code error;
    for (const fs::path& place : places) {
      if (fs::is_regular_file(place, error)) return place;
      looked.push_back(fs::absolute(place).string());
    }
    throw ConfigError(entry.where, "base: no such file \"" + path + "\"; looked for " +
                                       boost::algorithm::join(looked, " and "));
  }

  const fs::path shipped_;
  Bases& bases_;
  std::vector<fs::path> open_;  // files that are being read, each named by the one before
};

// One list of a sweep.
struct Axis {
  std::vector<std::string> path;  // in the row
  std::vector<Entry> values;
};

std::string dotted(const std::vector<std::string>& path) {
  return boost::algorithm::join(path, ".");
}

template <class T>
std::vector<Entry> entries_of(const Entry& list, const std::vector<T>& values) {
  std::vector<Entry> entries;
  for (const T& value : values) {
    entries.push_back(list);
    entries.back().content = Value(value);
  }
  return entries;
}

std::string type_of(const Entry& entry) {
  return entry.value() ? type_name(*entry.value()) : entry.section() ? "section" : "list of lists";
}

// The elements of `list`, each as the entry that it makes.
std::vector<Entry> values_of(const Entry& list, const std::string& key) {
  std::vector<Entry> entries;
  if (const auto* value = list.value()) {
    if (const auto* integers = std::get_if<std::vector<std::int64_t>>(value))
      entries = entries_of(list, *integers);
    else if (const auto* reals = std::get_if<std::vector<double>>(value))
      entries = entries_of(list, *reals);
    else if (const auto* texts = std::get_if<std::vector<std::string>>(value))
      entries = entries_of(list, *texts);
    else
      throw ConfigError(list.where,
                        "sweep of " + key + ": expected a list, got " + to_text(*value));
  } else if (const auto* sections = list.sections()) {
    for (const Section& section : *sections) {
      entries.push_back(list);
      entries.back().content = section;
      entries.back().where = section.where;
    }
  } else {
    entries = *list.elements();
    const auto kind = [](const Entry& entry) {
      return std::pair(entry.content.index(), entry.value() ? entry.value()->index() : 0);
    };
    for (const Entry& entry : entries)
      if (kind(entry) != kind(entries.front()))
        throw ConfigError(entry.where, "sweep of " + key + ": expected values of one type, got " +
                                           type_of(entry) + " after " + type_of(entries.front()));
  }
  if (entries.empty()) throw ConfigError(list.where, "sweep of " + key + ": the list is empty");
  return entries;
}

void collect(const Section& sweep, std::vector<std::string> path, std::vector<Axis>& axes) {
  for (const Entry& entry : sweep.entries) {
    path.push_back(entry.name);
    if (const Section* inner = entry.section()) collect(*inner, path, axes);
    else axes.push_back({path, values_of(entry, dotted(path))});
    path.pop_back();
  }
}

// As names have it: texts without quotes, of a section its plugin or, where it says none, all that
// it says.
std::string name_of(const Entry& entry) {
  if (const Value* value = entry.value()) {
    const auto* text = std::get_if<std::string>(value);
    return text ? *text : to_text(*value);
  }
  if (!entry.section()) return "";
  if (const Entry* plugin = entry.section()->find("plugin")) return name_of(*plugin);
  std::vector<std::string> names;
  for (const Entry& inner : entry.section()->entries) names.push_back(name_of(inner));
  return boost::algorithm::join(names, " ");
}

// As a row's id has it: "0.05" is "0_05".
std::string slug(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    else if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-')) c = '_';
  }
  return text;
}

class Expansion {
 public:
  explicit Expansion(const Section& row) : row_(row), sweep_(*row.find("sweep")) {
    if (!sweep_.section())
      throw ConfigError(
          sweep_.where,
          "sweep: expected a section of lists, as in sweep = { method.rho = [0.1, 0.2] }");
    collect(*sweep_.section(), {}, axes_);
    if (axes_.empty()) throw ConfigError(sweep_.where, "sweep: expected at least one list");
    for (const Axis& axis : axes_) {
      for (const char* name : kNames)
        if (axis.path.front() == name)
          throw ConfigError(axis.values.front().key_where,
                            std::string(name) + " is swept by no list: give " + name +
                                " = [\"…\", \"…\"] beside "
                                "the sweep, one for each row that it makes");
      rows_ *= axis.values.size();
      if (rows_ > kMost)
        throw ConfigError(sweep_.where,
                          "sweep: makes more than " + std::to_string(kMost) + " rows");
    }
  }

  std::vector<Section> rows() const {
    std::vector<Section> rows;
    for (std::size_t i = 0; i < rows_; ++i) rows.push_back(row(i));
    return rows;
  }

 private:
  static constexpr const char* kNames[] = {"id", "label", "published"};
  static constexpr std::size_t kMost = 1000;

  Section row(std::size_t number) const {
    Section row = row_;
    std::erase_if(row.entries, [](const Entry& entry) { return entry.name == "sweep"; });
    std::vector<std::pair<std::string, std::string>> values;  // key and value, as names have them
    std::size_t rest = rows_, left = number;
    for (const Axis& axis : axes_) {
      rest /= axis.values.size();
      const Entry& entry = axis.values[left / rest];
      left %= rest;
      Section over{row.where, {}};
      std::vector<std::string> above(axis.path.begin(), axis.path.end() - 1);
      section_at(over, above, entry.key_where).entries.push_back(entry);
      row = overlaid(std::move(row), over);
      values.emplace_back(dotted(axis.path), name_of(entry));
    }
    for (const char* name : kNames)
      if (Entry* entry = row.find(name)) name_row(*entry, number, values, row);
    return row;
  }

  // A list has one name a row; a text may hold "{method.rho}", and an id or label that holds none
  // says it all.
  void name_row(Entry& entry, std::size_t number,
                const std::vector<std::pair<std::string, std::string>>& values,
                const Section& row) const {
    const Value* value = entry.value();
    if (const auto* list = value ? std::get_if<std::vector<std::string>>(value) : nullptr) {
      if (list->size() != rows_)
        throw ConfigError(entry.where, entry.name + ": expected one for each of the " +
                                           std::to_string(rows_) + " rows of the sweep, got " +
                                           std::to_string(list->size()));
      const std::string own = (*list)[number];
      entry.content = Value(own);
      return;
    }
    const auto* text = value ? std::get_if<std::string>(value) : nullptr;
    if (!text) return;  // refused where rows are read
    const bool is_id = entry.name == "id";
    std::string filled =
        text->find('{') == std::string::npos ? *text : filled_in(*text, entry, row);
    if (filled == *text && entry.name != "published")
      for (const auto& [key, of] : values)
        filled += is_id ? "-" + slug(of) : ", " + key.substr(key.rfind('.') + 1) + " = " + of;
    entry.content = Value(filled);
  }

  std::string filled_in(const std::string& text, const Entry& entry, const Section& row) const {
    std::string filled;
    for (std::size_t at = 0; at < text.size();) {
      const auto open = text.find('{', at), close = text.find('}', at);
      if (open == std::string::npos) return filled + text.substr(at);
      if (close == std::string::npos || close < open)
        throw ConfigError(entry.where, entry.name + ": expected {KEY}, got \"" + text + '"');
      const std::string key = text.substr(open + 1, close - open - 1), own = value_at(row, key);
      if (own.empty())
        throw ConfigError(entry.where, entry.name + ": the row has no value \"" + key +
                                           "\"; its sweep is of " + swept());
      filled += text.substr(at, open - at) + (entry.name == "id" ? slug(own) : own);
      at = close + 1;
    }
    return filled;
  }

  static std::string value_at(const Section& row, const std::string& key) {
    std::vector<std::string> path;
    boost::algorithm::split(path, key, [](char c) { return c == '.'; });
    const Section* at = &row;
    const Entry* entry = nullptr;
    for (const std::string& name : path) {
      entry = at ? at->find(name) : nullptr;
      at = entry ? entry->section() : nullptr;
    }
    return entry ? name_of(*entry) : "";
  }

  std::string swept() const {
    std::vector<std::string> keys;
    for (const Axis& axis : axes_) keys.push_back(dotted(axis.path));
    return boost::algorithm::join(keys, ", ");
  }

  const Section& row_;
  const Entry& sweep_;
  std::vector<Axis> axes_;
  std::size_t rows_ = 1;
};

void expand_sweeps(Section& root) {
  Entry* entry = root.find("row");
  auto* rows = entry ? std::get_if<std::vector<Section>>(&entry->content) : nullptr;
  if (!rows) return;
  std::vector<Section> expanded;
  for (const Section& row : *rows) {
    if (!row.find("sweep")) {
      expanded.push_back(row);
      continue;
    }
    for (Section& one : Expansion(row).rows()) expanded.push_back(std::move(one));
  }
  *rows = std::move(expanded);
}

}  // namespace

Section composed(const fs::path& file, const fs::path& shipped, Bases& bases) {
  Section root = Inheritance(shipped, bases).read(file);
  expand_sweeps(root);
  return root;
}

}  // namespace dkdm::config

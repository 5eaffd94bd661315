// Experiment files: sections and rows, checked against the tables and the plugins' parameters.
#include "config/experiment.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "config/document.hpp"
#include "config/number.hpp"
#include "config/resolved.hpp"
#include "config/settings.hpp"
#include "dkdm/diffusion.hpp"
#include "dkdm/nearest.hpp"
#include "log/log.hpp"
#include "plugin/param_check.hpp"

namespace dkdm::config {
namespace {

using Names = std::vector<std::string>;

const ParamTable& row_table() {
  static const ParamTable table{
      text("id", "", "short name of the row, [a-z0-9_-]+").required(),
      text("label", "", "name in the report, empty = the id"),
      text("published", "", "row of the published values, empty = the id"),
      flag("teacher", false, "the row is the teacher itself: sampled and evaluated, not trained"),
      flag("isolate", false, "the row runs in a process of its own, as with [experiment] isolate"),
  };
  return table;
}

Names names_of(const ParamTable& table, const Names& more = {}) {
  Names names;
  for (const Param& param : table) names.push_back(param.name);
  names.insert(names.end(), more.begin(), more.end());
  return names;
}

void check_names(const Section& section, const std::string& title, const Names& known) {
  for (const Entry& entry : section.entries) {
    if (std::find(known.begin(), known.end(), entry.name) != known.end()) continue;
    const std::string near = nearest_name(entry.name, known);
    std::string hint = ", did you mean \"" + near + "\"?";
    if (near.empty()) {
      hint = ", expected one of ";
      for (const std::string& name : known) hint += (&name == &known[0] ? "" : ", ") + name;
    }
    throw ConfigError(entry.key_where, "unknown key \"" + entry.name + "\" in " + title + hint);
  }
}

// Whether a parameter of these plugins, whose fingerprints say what they read, names a file or folder.
bool is_path(const std::string& kind, const Param& param) {
  static const std::set<std::string> names{"path", "root", "file", "folder", "weights"};
  return (kind == "dataset" || kind == "teacher" || kind == "evaluator") && names.contains(param.name) &&
         std::holds_alternative<std::string>(param.default_value) && param.choices.empty();
}

// A weight file's parameter may hold a bare name instead, which its plugin knows ("fashion-mnist-16",
// "train"): what has no folder in it and is no file.
bool is_name(const Param& param, const std::string& text, const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  std::error_code error;
  return param.name == "weights" && text.find('/') == std::string::npos && !text.starts_with('~') &&
         !fs::is_regular_file(folder / text, error) && !fs::is_regular_file(text, error);
}

// Where a path leads: one of the file is relative to the file's folder, one of an override to the working
// folder. A file whose path only fits the working folder keeps working, and the log says so.
std::string resolved_path(const std::string& text, const Entry& entry,
                          const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  const fs::path path = expanded_home(text);
  if (text.empty() || path.is_absolute()) return path.string();
  const fs::path working = fs::current_path();
  if (!entry.raw.empty()) return (working / path).lexically_normal().string();
  const fs::path beside = (folder / path).lexically_normal();
  std::error_code error;
  if (!fs::exists(beside, error) && fs::exists(working / path, error)) {
    const fs::path found = (working / path).lexically_normal();
    log::warn("config", entry.where + ": " + entry.name + " is taken from the working folder (" +
                            found.string() + "), since there is no " + beside.string());
    return found.string();
  }
  return beside.string();
}

// The values of `section` for `table`; entries named in `others` are read elsewhere.
Params read_params(const ParamTable& table, const Section& section, const std::string& title,
                   const Names& others = {}) {
  check_names(section, title, names_of(table, others));
  std::map<std::string, Value> given;
  for (const Param& param : table) {
    const Entry* entry = section.find(param.name);
    if (!entry) continue;
    const Value* value = entry->value();
    if (!value) {
      throw ConfigError(entry->where, param.name + ": expected " + type_name(param.default_value) +
                                          ", got a section");
    }
    // On a command line 50 may well be meant as the text "50".
    const bool as_typed = std::holds_alternative<std::string>(param.default_value) &&
                          !std::holds_alternative<std::string>(*value) && !entry->raw.empty();
    given[param.name] = checked(param, as_typed ? Value(entry->raw) : *value, entry->where);
  }
  return Params(table, given, section.where + ": " + title);
}

// The sub-section, or nullptr where there is none.
const Section* find_section(const Section& parent, const std::string& name) {
  const Entry* entry = parent.find(name);
  if (!entry) return nullptr;
  if (!entry->section()) {
    throw ConfigError(entry->where, name + ": expected a section, as in " + name + " = { … }");
  }
  return entry->section();
}

const std::string& plugin_name(const Section& section, const std::string& title) {
  const Entry* entry = section.find("plugin");
  if (!entry) {
    throw ConfigError(section.where, title + ": plugin must be given: the plugin's name");
  }
  const Value* value = entry->value();
  const std::string* name = value ? std::get_if<std::string>(value) : nullptr;
  if (!name) throw ConfigError(entry->where, title + ": plugin: expected text");
  return *name;
}

void require_slug(const Section& section, const std::string& name, const std::string& text) {
  constexpr const char* kAllowed = "abcdefghijklmnopqrstuvwxyz0123456789_-";
  if (!text.empty() && text.find_first_not_of(kAllowed) == std::string::npos) return;
  throw ConfigError(section.find(name)->where,
                    name + ": expected letters a-z, digits, _ and -, got \"" + text + '"');
}

// A row's student or the default one: another plugin replaces it whole, anything else adds to it.
Section chosen_student(const Section* base, const Section* own, const std::string& where) {
  if (!base && !own) throw ConfigError(where, "no student: add [student] or the row's own");
  if (!base || !own) return base ? *base : *own;
  const bool other = own->find("plugin") && base->find("plugin") &&
                     plugin_name(*own, "student") != plugin_name(*base, "[student]");
  return other ? *own : merged(*base, *own);
}

// `plugins` of [experiment].
std::vector<NamedPlugin> plugins_of(const Section& root, const std::filesystem::path& file) {
  const Section* head = find_section(root, "experiment");
  const Entry* entry = head ? head->find("plugins") : nullptr;
  if (!entry) return {};
  const Params params = read_params({texts("plugins", {}, "")}, {head->where, {*entry}}, "[experiment]");
  const auto folder = entry->raw.empty() ? std::filesystem::absolute(file).parent_path()
                                         : std::filesystem::current_path();
  std::vector<NamedPlugin> named;
  for (const std::string& path : params.texts("plugins"))
    named.push_back({(folder / expanded_home(path)).lexically_normal(), entry->where});
  return named;
}

class Reader {
 public:
  Reader(const std::filesystem::path& file, Section root, const plugin::Registry& registry)
      : file_(file.string()), folder_(std::filesystem::absolute(file).parent_path()),
        root_(std::move(root)), registry_(registry) {
    check_names(root_, "the file",
                {"experiment", "dataset", "diffusion", "teacher", "student", "train", "sample",
                 "synthetic", "evaluator", "evaluate", "row"});
  }

  Experiment read() {
    Experiment out;
    out.file = file_;
    const Section& head = required("experiment");
    const Params params = read_params(experiment_table(), head, "[experiment]");
    out.name = params.text("name");
    require_slug(head, "name", out.name);
    out.title = params.text("title").empty() ? out.name : params.text("title");
    out.scale = params.text("scale");
    out.table = params.text("table");
    out.published = params.text("published");
    out.seeds = params.integers("seeds");
    auto seeds = out.seeds;
    std::sort(seeds.begin(), seeds.end());
    if (seeds.empty() || std::adjacent_find(seeds.begin(), seeds.end()) != seeds.end()) {
      throw ConfigError(head.find("seeds")->where,
                        "seeds: expected at least one and none twice, got " + to_text(out.seeds));
    }
    out.samples = params.integer("samples");
    for (const NamedPlugin& plugin : plugins_of(root_, file_))
      out.plugins.push_back(plugin.path.string());
    out.expected_minutes = params.real("expected_minutes");
    isolate_ = params.flag("isolate");

    out.diffusion = diffusion_settings().read(
        read_params(diffusion_settings().table(), optional("diffusion"), "[diffusion]"));
    steps_ = out.diffusion.steps;
    out.dataset = choose("dataset", required("dataset"), "[dataset]");
    out.evaluator = choose("evaluator", required("evaluator"), "[evaluator]");
    out.evaluate = read_params(evaluate_table(), optional("evaluate"), "[evaluate]");
    out.synthetic = sampling(synthetic_table(), optional("synthetic"), "[synthetic]");
    // Rows complete these; a wrong name is reported even where no row trains.
    check_names(optional("train"), "[train]", names_of(train_table()));
    read_teacher(out);
    read_rows(out);
    out.resolved = resolved_text(out);
    return out;
  }

 private:
  Section optional(const std::string& name) const {
    const Section* section = find_section(root_, name);
    return section ? *section : Section{file_, {}};
  }
  const Section& required(const std::string& name) const {
    if (const Section* section = find_section(root_, name)) return *section;
    throw ConfigError(file_, "[" + name + "] is missing");
  }

  PluginChoice choose(const std::string& kind, const Section& section, const std::string& title,
                      Names others = {}) const {
    const std::string& name = plugin_name(section, title);
    const plugin::PluginInfo& info = registry_.find(kind, name, section.find("plugin")->where);
    others.push_back("plugin");
    return {info.kind, info.name, info.version,
            with_paths(kind, info.params, section,
                       read_params(info.params, section, title + " (" + name + ")", others))};
  }

  // `read`, with the paths that `section` states leading where they should.
  Params with_paths(const std::string& kind, const ParamTable& table, const Section& section,
                    const Params& read) const {
    auto values = read.values();
    for (const Param& param : table) {
      const Entry* entry = section.find(param.name);
      if (!entry || !is_path(kind, param)) continue;
      const std::string& text = read.text(param.name);
      if (!is_name(param, text, folder_)) values[param.name] = resolved_path(text, *entry, folder_);
    }
    return Params(table, values);
  }

  Params sampling(const ParamTable& table, const Section& section, const std::string& title) const {
    const Params params = read_params(table, section, title);
    try {
      respaced_steps(steps_, params.text("respacing"));
    } catch (const ConfigError& e) {
      const Entry* entry = section.find("respacing");
      throw ConfigError(entry ? entry->where : section.where, title + ": " + e.what());
    }
    return params;
  }

  // `section` holds method and perhaps train; `student` is complete.
  Training training(const Section& section, const Section& student,
                    const std::string& title) const {
    const Section* method = find_section(section, "method");
    const Section* train = find_section(section, "train");
    if (!method) throw ConfigError(section.where, title + ": method is missing");
    const Section defaults = optional("train");
    Training out;
    out.student = choose("student", student, title + " student");
    out.method = choose("method", *method, title + " method");
    out.train = read_params(train_table(), train ? merged(defaults, *train) : defaults,
                            title + " train");
    return out;
  }

  void read_teacher(Experiment& out) const {
    const Section& teacher = required("teacher");
    out.teacher = choose("teacher", teacher, "[teacher]", {"student", "method", "train"});
    const Section* student = find_section(teacher, "student");
    if (student || find_section(teacher, "method") || find_section(teacher, "train")) {
      if (!student) throw ConfigError(teacher.where, "[teacher.student] is missing");
      out.teacher_training = training(teacher, *student, "[teacher]");
    }
  }

  void read_rows(Experiment& out) const {
    const Entry* rows = root_.find("row");
    if (!rows) throw ConfigError(file_, "no rows, expected at least one [[row]]");
    if (!rows->sections()) throw ConfigError(rows->where, "row: expected [[row]] sections");
    std::map<std::string, std::string> seen;
    for (const Section& section : *rows->sections()) {
      Row row = read_row(section);
      const std::string& where = section.find("id")->where;
      const auto [first, fresh] = seen.emplace(row.id, where);
      if (!fresh) {
        throw ConfigError(where, "row id \"" + row.id + "\" is used twice, first at " +
                                     first->second);
      }
      if (const auto count = row.sample.integer("count");
          out.scale == "paper" && count < out.samples) {
        throw ConfigError(where, "row \"" + row.id + "\": sample.count = " + std::to_string(count) +
                                     ", but the published values are of " +
                                     std::to_string(out.samples) +
                                     " images (experiment.samples): fewer do not compare; "
                                     "scale = \"desk\" allows them");
      }
      out.rows.push_back(std::move(row));
    }
  }

  Row read_row(const Section& section) const {
    const Params params =
        read_params(row_table(), section, "[[row]]", {"student", "method", "train", "sample"});
    Row row;
    row.id = params.text("id");
    require_slug(section, "id", row.id);
    row.label = params.text("label").empty() ? row.id : params.text("label");
    row.isolate = isolate_ || params.flag("isolate");
    row.published = params.text("published").empty() ? row.id : params.text("published");
    const std::string title = "row \"" + row.id + '"';
    const Section* own = find_section(section, "sample");
    const Section defaults = optional("sample");
    row.sample = sampling(sample_table(), own ? merged(defaults, *own) : defaults,
                          title + " sample");
    if (params.flag("teacher")) {
      for (const char* name : {"method", "student", "train"}) {
        if (const Entry* entry = section.find(name)) {
          throw ConfigError(entry->key_where, title + ": teacher = true and " + name +
                                                  " exclude each other; remove one");
        }
      }
      return row;
    }
    if (!section.find("method")) {
      throw ConfigError(section.where,
                        title + ": expected method = { plugin = \"…\" } or teacher = true");
    }
    const Section student = chosen_student(find_section(root_, "student"),
                                           find_section(section, "student"), section.where);
    row.training = training(section, student, title);
    return row;
  }

  std::string file_;
  std::filesystem::path folder_;
  Section root_;
  const plugin::Registry& registry_;
  std::int64_t steps_ = 0;
  bool isolate_ = false;
};

Section overridden(const std::filesystem::path& file, const std::vector<std::string>& overrides) {
  Section root = read_document(file);
  for (const std::string& text : overrides) apply_override(root, text);
  return root;
}

}  // namespace

std::vector<NamedPlugin> named_plugins(const std::filesystem::path& file,
                                       const std::vector<std::string>& overrides) {
  return plugins_of(overridden(file, overrides), file);
}

Experiment load_experiment(const std::filesystem::path& file,
                           const std::vector<std::string>& overrides,
                           const plugin::Registry& registry) {
  return Reader(file, overridden(file, overrides), registry).read();
}

std::vector<std::int64_t> parse_seeds(const std::string& text) {
  constexpr std::int64_t kLargest = (std::int64_t{1} << 53) - 1, kMost = 10'000;  // as in a file
  const auto refuse = [&](const std::string& why) {
    throw ConfigError("--seeds",
                      "expected \"0\", \"0-2\" or \"1,4,7\", got \"" + text + "\": " + why);
  };
  const auto number = [&](const std::string& part) {
    if (part.empty()) refuse("a number is missing");
    return whole_number(part, "--seeds \"" + text + '"', 0, kLargest);
  };
  std::vector<std::int64_t> seeds;
  for (std::size_t start = 0; start <= text.size();) {
    const auto end = std::min(text.find(',', start), text.size());
    const std::string part = text.substr(start, end - start);
    const auto dash = part.find('-');
    const std::int64_t first = number(part.substr(0, dash));
    const std::int64_t last = dash == std::string::npos ? first : number(part.substr(dash + 1));
    if (last < first) refuse("a range goes up");
    if (last - first >= kMost) refuse("at most " + std::to_string(kMost) + " at a time");
    for (std::int64_t seed = first; seed <= last; ++seed) {
      if (std::find(seeds.begin(), seeds.end(), seed) != seeds.end())
        refuse(std::to_string(seed) + " is there twice");
      seeds.push_back(seed);
      if (static_cast<std::int64_t>(seeds.size()) > kMost)
        refuse("at most " + std::to_string(kMost) + " seeds");
    }
    start = end + 1;
  }
  return seeds;
}

}  // namespace dkdm::config

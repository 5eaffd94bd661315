// Experiment files: sections and rows, checked against the tables and the plugins' parameters.
#include "config/experiment.hpp"

#include <algorithm>
#include <map>

#include "config/compose.hpp"
#include "config/paths.hpp"
#include "config/resolved.hpp"
#include "config/section_reader.hpp"
#include "config/settings.hpp"
#include "diffusion/sampler_kind.hpp"
#include "dkdm/diffusion.hpp"

namespace dkdm::config {
namespace {

const ParamTable& row_table() {
  static const ParamTable table{
      text("id", "", "short name of the row, [a-z0-9_-]+").required(),
      text("label", "", "name in the report, empty = the id"),
      text("published", "", "row of the published values, empty = the id"),
      flag("isolate", false, "the row runs in a process of its own, as with [experiment] isolate"),
  };
  return table;
}

// What a row may say of its own besides, laid over the file's sections of the same names.
const Names kRowSections{"dataset", "diffusion", "teacher",   "student",   "method",  "train",
                         "sample",  "synthetic", "reference", "evaluator", "evaluate"};

class Reader {
 public:
  Reader(const std::filesystem::path& file, Section root, const plugin::Registry& registry)
      : file_(file.string()), root_(std::move(root)), sections_(registry) {
    Names known{"experiment", "row"};
    for (const std::string& name : kRowSections)
      if (name != "method") known.push_back(name);
    check_names(root_, "the file", known);
  }

  Experiment read() {
    Experiment out;
    out.file = file_;
    read_head(out);
    // Rows complete it; a wrong name is reported even where no row trains.
    check_names(shared("train"), "[train]", names_of(train_table()));
    read_teachers();
    read_rows(out);
    out.resolved = resolved_text(out);
    out.annotated = resolved_text(out, sections_.origins());
    return out;
  }

  // `plugins` of [experiment].
  static std::vector<NamedPlugin> plugins_of(const Section& root) {
    const Section* head = find_section(root, "experiment");
    const Entry* entry = head ? head->find("plugins") : nullptr;
    if (!entry) return {};
    const auto folder = entry->folder.empty() ? std::filesystem::current_path() : entry->folder;
    const Value paths = value_of(texts("plugins", {}, ""), *entry);
    std::vector<NamedPlugin> named;
    for (const std::string& path : std::get<std::vector<std::string>>(paths))
      named.push_back({(folder / expanded_home(path)).lexically_normal(), entry->where});
    return named;
  }

 private:
  void read_head(Experiment& out) {
    const Section* head = find_section(root_, "experiment");
    if (!head) throw ConfigError(file_, "[experiment] is missing");
    const Params params =
        sections_.params(experiment_table(), *head, {"[experiment]", "experiment"});
    out.name = params.text("name");
    require_slug(head->find("name")->where, "name", out.name);
    out.title = params.text("title").empty() ? out.name : params.text("title");
    out.scale = params.text("scale");
    out.table = params.text("table");
    out.published = params.text("published");
    out.seeds = params.integers("seeds");
    auto seeds = out.seeds;
    std::sort(seeds.begin(), seeds.end());
    if (seeds.empty() || std::adjacent_find(seeds.begin(), seeds.end()) != seeds.end()) {
      throw ConfigError(head->find("seeds")->where,
                        "seeds: expected at least one and none twice, got " + to_text(out.seeds));
    }
    out.samples = params.integer("samples");
    for (const NamedPlugin& plugin : plugins_of(root_)) out.plugins.push_back(plugin.path.string());
    out.expected_minutes = params.real("expected_minutes");
    const Entry* device = head->find("device");
    out.device = {params.text("device"), (device ? device->where : head->where) + ": device"};
    device::check_word(out.device);
    isolate_ = params.flag("isolate");
    wanted_ = params.texts("rows");
  }

  // The file's section, empty where it has none.
  Section shared(const std::string& name) const {
    const Section* section = find_section(root_, name);
    return section ? *section : Section{file_, {}};
  }

  Params sampling(const ParamTable& table, const Section& section, const Place& place,
                  std::int64_t steps) {
    const Params params = sections_.params(table, section, place);
    try {
      respaced_steps(steps, params.text("respacing"));
      if (diffusion::sampler_kind(params.text("sampler")).uses_offset)
        diffusion::check_offset(steps, params.text("respacing"), params.integer("steps_offset"));
    } catch (const ConfigError& e) {
      const Entry* entry = section.find("respacing");
      throw ConfigError(entry ? entry->where : section.where, place.title + ": " + e.what());
    }
    return params;
  }

  enum class Trained { row, teacher };

  // `section` holds method and perhaps train, which completes [train]; `student` is complete.
  Training training(const Section& section, const Section& student, const Place& place,
                    Trained trained) {
    const Section* method = find_section(section, "method");
    const Section* train = find_section(section, "train");
    if (!method) throw ConfigError(section.where, place.title + ": method is missing");
    Section defaults = shared("train");
    if (trained == Trained::teacher) {
      // Nothing is evaluated while a teacher trains: its last weights teach.
      std::erase_if(defaults.entries, [](const Entry& entry) { return entry.name == "select"; });
      const Entry* select = train ? train->find("select") : nullptr;
      if (select && !(select->value() && *select->value() == Value(std::string("last"))))
        throw ConfigError(select->key_where, place.title +
                                                 " train: select is of rows; a teacher that is "
                                                 "trained here teaches with its last weights");
    }
    Training out;
    out.student = sections_.plugin("student", student, place.at("student"));
    out.method = sections_.plugin("method", *method, place.at("method"));
    out.train = sections_.params(train_table(), train ? overlaid(defaults, *train) : defaults,
                                 place.at("train"));
    check_select(out.train, section, place);
    return out;
  }

  // The place of a value, or of the section that could hold it.
  std::string origin(const std::string& path, const Section& section) const {
    const auto found = sections_.origins().find(path);
    return found == sections_.origins().end() ? section.where : found->second;
  }

  void check_select(const Params& train, const Section& section, const Place& place) const {
    const std::string& rule = train.text("select");
    const std::string metric = selecting_metric(train);
    const bool named = std::all_of(metric.begin(), metric.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
    });
    if (rule == "last" || (!metric.empty() && named)) return;
    throw ConfigError(origin(place.path + ".train.select", section),
                      place.title + " train: select = \"" + rule +
                          "\", expected last, or best: and a metric of the evaluator, such as "
                          "best:fid");
  }

  // A rule that chooses among evaluations needs some.
  void check_selection(const Row& row, const Section& section, const Place& place) const {
    const std::string& rule = row.training->train.text("select");
    const auto every = row.evaluate.integer("every");
    const auto steps = row.training->train.integer("steps");
    if (rule == "last") {
      if (row.evaluate.text("samples") == "other" && every == 0)
        throw ConfigError(origin(place.path + ".evaluate.samples", section),
                          place.title +
                              " evaluate: samples = \"other\" and nothing is evaluated "
                              "on the way; expected every");
      return;
    }
    if (every > 0 && every < steps) return;
    throw ConfigError(origin(place.path + ".train.select", section),
                      place.title + " train: select = \"" + rule +
                          "\" chooses among evaluated steps, and there is only the last: "
                          "evaluate.every = " +
                          std::to_string(every) + " of train.steps = " + std::to_string(steps) +
                          "; expected [evaluate] every = 1 to " + std::to_string(steps - 1));
  }

  // [teacher], or [teacher.NAME] for each of several.
  void read_teachers() {
    const Section* sections = find_section(root_, "teacher");
    if (!sections) return;
    const Names own{"student", "method", "train"};
    const auto is_own = [&](const Entry& entry) {
      return std::find(own.begin(), own.end(), entry.name) != own.end();
    };
    const auto is_named = [&](const Entry& entry) { return entry.section() && !is_own(entry); };
    const auto& entries = sections->entries;
    if (sections->find("plugin") || std::none_of(entries.begin(), entries.end(), is_named)) {
      teachers_[""] = *sections;
      read_teacher(*sections, "", {"[teacher]", "teacher"});
      return;
    }
    for (const Entry& entry : entries) {
      if (!is_named(entry))
        throw ConfigError(entry.key_where,
                          "[teacher] has named teachers and \"" + entry.name +
                              "\" beside them; expected [teacher.NAME] sections, or one teacher "
                              "with its plugin");
      require_slug(entry.key_where, "a teacher's name", entry.name);
      teachers_[entry.name] = *entry.section();
      read_teacher(*entry.section(), entry.name,
                   {"[teacher." + entry.name + "]", "teacher." + entry.name});
    }
  }

  Teacher read_teacher(const Section& section, const std::string& name, const Place& place) {
    Teacher out;
    out.name = name;
    if (!name.empty()) sections_.note(place.path + ".name", section.where);
    if (const Entry* entry = section.find("name")) {
      out.name = std::get<std::string>(value_of(text("name", "", ""), *entry));
      require_slug(entry->where, "name", out.name);
    }
    out.plugin =
        sections_.plugin("teacher", section, place, {"name", "student", "method", "train"});
    const Section* student = find_section(section, "student");
    if (student || find_section(section, "method") || find_section(section, "train")) {
      if (!student) throw ConfigError(section.where, place.title + ": student is missing");
      out.training = training(section, *student, place, Trained::teacher);
    }
    return out;
  }

  // The teacher that a row names, changes or, where there is one alone, has without a word.
  std::optional<Teacher> teacher_of(const Section& row, const Place& place) {
    const Entry* entry = row.find("teacher");
    if (entry && entry->section()) return own_teacher(*entry, place);
    if (!entry && teachers_.size() != 1) return std::nullopt;
    const std::string name = entry ? teacher_name(*entry, place) : teachers_.begin()->first;
    if (entry) sections_.note(place.path + ".teacher", entry->where);
    return read_teacher(teachers_.at(name), name, place.at("teacher"));
  }

  Names teacher_names() const {
    Names names;
    for (const auto& [name, _] : teachers_) names.push_back(name);
    return names;
  }

  Teacher own_teacher(const Entry& entry, const Place& place) {
    const auto unnamed = teachers_.find("");
    if (unnamed != teachers_.end())
      return read_teacher(overlaid(unnamed->second, *entry.section()), "", place.at("teacher"));
    if (!teachers_.empty() && !entry.section()->find("plugin"))
      throw ConfigError(entry.where, place.title + " teacher: expected the name of a teacher" +
                                         one_of(teacher_names()) + ", or a section with a plugin");
    return read_teacher(*entry.section(), "", place.at("teacher"));
  }

  // What `teacher = true` or `teacher = "NAME"` means.
  std::string teacher_name(const Entry& entry, const Place& place) const {
    const std::string* text = text_of(entry);
    const auto refuse = [&](const std::string& why) {
      throw ConfigError(entry.where,
                        place.title + ": teacher" + (text ? " \"" + *text + '"' : " = true") + why);
    };
    if (!text && !(entry.value() && *entry.value() == Value(true)))
      throw ConfigError(
          entry.where,
          place.title + ": teacher: expected true, the name of a teacher, or a section");
    if (teachers_.empty()) refuse(": there is no [teacher]");
    if (text && teachers_.contains("")) refuse(": the one [teacher] has no name; expected true");
    if (text && !teachers_.contains(*text)) refuse(" is not there" + hint(*text, teacher_names()));
    if (!text && teachers_.size() > 1) refuse(": there are several" + one_of(teacher_names()));
    return text ? *text : teachers_.begin()->first;
  }

  // Those of [experiment] rows in that order, else all.
  std::vector<const Section*> wanted(const std::vector<Section>& sections) const {
    std::vector<const Section*> rows;
    Names ids;
    for (const Section& section : sections) {
      rows.push_back(&section);
      ids.push_back(id_of(section));
    }
    if (wanted_.empty()) return rows;
    std::vector<const Section*> chosen;
    for (const std::string& id : wanted_) {
      const auto found = std::find(ids.begin(), ids.end(), id);
      if (found == ids.end())
        throw ConfigError(find_section(root_, "experiment")->find("rows")->where,
                          "rows: no row has the id \"" + id + '"' + hint(id, ids));
      chosen.push_back(rows[std::size_t(found - ids.begin())]);
    }
    return chosen;
  }

  void read_rows(Experiment& out) {
    const Entry* rows = root_.find("row");
    if (!rows) throw ConfigError(file_, "no rows, expected at least one [[row]]");
    if (!rows->sections()) throw ConfigError(rows->where, "row: expected [[row]] sections");
    std::map<std::string, std::string> seen;
    for (const Section* section : wanted(*rows->sections())) {
      Row row = read_row(*section);
      const std::string& where = section->find("id")->where;
      const auto [first, fresh] = seen.emplace(row.id, where);
      if (!fresh) {
        throw ConfigError(where,
                          "row id \"" + row.id + "\" is used twice, first at " + first->second);
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

  // What a row has of a section: the file's, with its own laid over it.
  struct Completed {
    Section section;
    Place place;
  };
  Completed completed(const Section& row, const Place& place, const std::string& name) const {
    const Section* own = find_section(row, name);
    return {own ? overlaid(shared(name), *own) : shared(name),
            {own ? place.title + ' ' + name : '[' + name + ']', place.path + '.' + name}};
  }

  PluginChoice choose_for(const Section& row, const Place& place, const std::string& kind) {
    const auto [section, of] = completed(row, place, kind);
    if (section.entries.empty()) throw ConfigError(file_, '[' + kind + "] is missing");
    return sections_.plugin(kind, section, of);
  }

  std::filesystem::path statistics_of(const Section& row, const Place& place) {
    const auto [section, of] = completed(row, place, "reference");
    const std::string text = sections_.params(reference_table(), section, of).text("statistics");
    return text.empty() ? "" : resolved_path(text, *section.find("statistics"));
  }

  Row read_row(const Section& section) {
    Row row;
    const Place place{"row \"" + id_of(section) + '"', "row." + id_of(section)};
    const Params params =
        sections_.params(row_table(), section, {"[[row]]", place.path}, kRowSections);
    row.where = section.where;
    row.id = params.text("id");
    require_slug(section.find("id")->where, "id", row.id);
    row.label = params.text("label").empty() ? row.id : params.text("label");
    row.isolate = isolate_ || params.flag("isolate");
    row.published = params.text("published").empty() ? row.id : params.text("published");
    const auto read = [&](const ParamTable& table, const std::string& name) {
      const auto [own, of] = completed(section, place, name);
      return sections_.params(table, own, of);
    };
    const auto sample = [&](const ParamTable& table, const std::string& name) {
      const auto [own, of] = completed(section, place, name);
      return sampling(table, own, of, row.diffusion.steps);
    };
    row.diffusion = diffusion_settings().read(read(diffusion_settings().table(), "diffusion"));
    row.statistics = statistics_of(section, place);
    const auto [dataset, in] = completed(section, place, "dataset");
    if (!dataset.entries.empty()) row.dataset = sections_.plugin("dataset", dataset, in);
    else if (row.statistics.empty())
      throw ConfigError(file_,
                        "[dataset] is missing, or [reference] statistics = \"FILE.npz\" for rows "
                        "that need no images");
    row.evaluator = choose_for(section, place, "evaluator");
    row.evaluate = read(evaluate_table(), "evaluate");
    row.synthetic = sample(synthetic_table(), "synthetic");
    row.sample = sample(sample_table(), "sample");
    row.teacher = teacher_of(section, place);
    if (section.find("method")) {
      const Entry* teacher = section.find("teacher");
      if (teacher && teacher->value() && std::holds_alternative<bool>(*teacher->value()))
        throw ConfigError(
            section.find("method")->key_where,
            place.title + ": teacher = true and method exclude each other; remove one");
      const auto [student, of] = completed(section, place, "student");
      if (student.entries.empty())
        throw ConfigError(section.where, "no student: add [student] or the row's own");
      row.training = training(section, student, place, Trained::row);
      check_selection(row, section, place);
      return row;
    }
    if (!section.find("teacher"))
      throw ConfigError(section.where,
                        place.title + ": expected method = { plugin = \"…\" } or teacher = true");
    for (const char* name : {"student", "train"})
      if (const Entry* entry = section.find(name))
        throw ConfigError(entry->key_where,
                          place.title + ": has a " + name +
                              " and no method; a row that is the teacher itself has neither");
    return row;
  }

  std::string file_;
  Section root_;
  SectionReader sections_;
  std::map<std::string, Section> teachers_;  // by name, "" = [teacher]
  Names wanted_;
  bool isolate_ = false;
};

// The experiment's tree, and what `read` makes of it. An error in a base says how one came to that
// file.
template <class Read>
auto with_root(const ExperimentSource& source, const Read& read) {
  Bases bases;
  try {
    Section root = composed(source.file, source.shipped, bases);
    for (const std::string& text : source.overrides) apply_override(root, text);
    return read(std::move(root));
  } catch (const ConfigError& error) {
    const std::string message = error.what();
    for (const auto& [file, role] : bases)
      if (message.starts_with(file + ':'))
        throw ConfigError(message + " (this file is " + role + ")");
    throw;
  }
}

}  // namespace

std::string selecting_metric(const Params& train) {
  constexpr std::string_view kBest = "best:";
  const std::string& rule = train.text("select");
  return rule.starts_with(kBest) ? rule.substr(kBest.size()) : "";
}

std::string teacher_precision(const Params& train) {
  const std::string& own = train.text("teacher_precision");
  return own.empty() ? train.text("precision") : own;
}

std::vector<NamedPlugin> named_plugins(const ExperimentSource& source) {
  return with_root(source, [](const Section& root) { return Reader::plugins_of(root); });
}

Experiment load_experiment(const ExperimentSource& source, const plugin::Registry& registry) {
  return with_root(
      source, [&](Section root) { return Reader(source.file, std::move(root), registry).read(); });
}

}  // namespace dkdm::config

#include "config/checks.hpp"

#include <algorithm>

#include "config/paths.hpp"
#include "config/section_reader.hpp"

namespace dkdm::config {
namespace {

namespace fs = std::filesystem;

constexpr double kLargestValue = 1e12;

const ParamTable& check_table() {
  static const ParamTable table{
      text("id", "", "short name of the check, [a-z0-9_-]+").required(),
      text("label", "", "what it checks, empty = the id"),
      text("experiment", "", "file, beside this one or among the shipped experiments").required(),
      text("row", "", "row of the experiment").required(),
      text("teacher", "", "of the files under [teacher], what the row's teacher reads"),
      text("source", "", "who published the values, empty = the paper"),
      real("flops", 0, "floating-point operations that it takes, 0 = not stated").between(0, 1e24),
  };
  return table;
}

const ParamTable& teacher_table() {
  static const ParamTable table{
      text("file", "", "name that the file is published under").required(),
      text("from", "", "where a person gets it").required(),
  };
  return table;
}

// Metrics by name, in the order of the file.
NamedValues numbers(const Section& section, double low, double high) {
  NamedValues values;
  for (const Entry& entry : section.entries)
    values.emplace_back(
        entry.name, std::get<double>(value_of(real(entry.name, 0, "").between(low, high), entry)));
  return values;
}

class Reader {
 public:
  Reader(const fs::path& file, const fs::path& shipped, const plugin::Registry& registry)
      : file_(file), shipped_(shipped), sections_(registry) {}

  Checks read() {
    const Section root = read_document(file_);
    check_names(root, "a file of checks", {"title", "tolerance", "teacher", "check"});
    if (const Section* own = find_section(root, "tolerance")) tolerance_ = tolerances(*own, {});
    if (const Section* files = find_section(root, "teacher")) read_teachers(*files);
    Checks out{file_, fs::path(file_).stem().string(), {}};
    if (const Entry* title = root.find("title"))
      out.title = std::get<std::string>(value_of(text("title", "", ""), *title));
    const Entry* checks = root.find("check");
    if (!checks || !checks->sections())
      throw ConfigError(checks ? checks->where : file_.string(),
                        "expected a list of checks, each under [[check]]");
    for (const Section& section : *checks->sections()) {
      out.checks.push_back(read_check(section));
      require_own_id(out.checks);
    }
    return out;
  }

 private:
  static std::map<std::string, double> tolerances(const Section& section,
                                                  std::map<std::string, double> over) {
    for (const auto& [metric, value] : numbers(section, 0, kLargestValue)) over[metric] = value;
    return over;
  }

  void read_teachers(const Section& files) {
    for (const Entry& entry : files.entries) {
      const Section* section = find_section(files, entry.name);
      const std::string title = "[teacher." + entry.name + "]";
      const auto params =
          sections_.params(teacher_table(), *section, {title, "teacher." + entry.name});
      const auto& name = params.text("file");
      if (name.empty() || name.find('/') != std::string::npos)
        throw ConfigError(section->find("file")->where,
                          title + ": file: expected a name without a folder, got \"" + name + '"');
      teachers_[entry.name] = {name, params.text("from")};
    }
  }

  Check read_check(const Section& section) {
    const Place place{"[[check]]", "check"};
    const auto params =
        sections_.params(check_table(), section, place, {"images", "expected", "tolerance"});
    Check check;
    check.where = section.where;
    check.id = params.text("id");
    require_slug(section.find("id")->where, "id", check.id);
    check.label = params.text("label").empty() ? check.id : params.text("label");
    check.experiment = experiment_of(*section.find("experiment"), params.text("experiment"));
    check.row = params.text("row");
    check.source = params.text("source");
    check.flops = params.real("flops");
    if (const Section* images = find_section(section, "images")) check.images = *images;
    if (const Section* expected = find_section(section, "expected")) {
      check.values = numbers(*expected, -kLargestValue, kLargestValue);
      if (check.values.empty())
        throw ConfigError(section.find("expected")->where,
                          "expected: names no metric; without it the published values hold");
    }
    check.tolerance = tolerance_;
    if (const Section* own = find_section(section, "tolerance"))
      check.tolerance = tolerances(*own, tolerance_);
    if (const auto& teacher = params.text("teacher"); !teacher.empty()) {
      const auto found = teachers_.find(teacher);
      Names known;
      for (const auto& [name, _] : teachers_) known.push_back(name);
      if (found == teachers_.end())
        throw ConfigError(section.find("teacher")->where,
                          "there is no [teacher." + teacher + "]" + hint(teacher, known));
      check.teacher = found->second;
    }
    return check;
  }

  // As a base is looked for.
  fs::path experiment_of(const Entry& entry, const std::string& name) const {
    const fs::path path = expanded_home(name);
    std::error_code error;
    for (const fs::path& folder : {entry.folder, shipped_}) {
      const auto file = (folder / path).lexically_normal();
      if (!folder.empty() && fs::is_regular_file(file, error)) return file;
    }
    throw ConfigError(entry.where, "experiment: there is no " + name + " beside " + file_.string() +
                                       (shipped_.empty() ? "" : ", nor in " + shipped_.string()));
  }

  // Of the last check: --set tells checks and sections apart by the first name alone.
  static void require_own_id(const std::vector<Check>& checks) {
    const auto& [id, where] = std::pair(checks.back().id, checks.back().where);
    for (const char* section :
         {"base", "dataset", "diffusion", "evaluate", "evaluator", "experiment", "method",
          "reference", "row", "sample", "student", "synthetic", "teacher", "train"})
      if (means(section, id))
        throw ConfigError(where, "id \"" + id + "\": begins like the section [" + section +
                                     "] of an experiment; expected another name");
    for (std::size_t i = 0; i + 1 < checks.size(); ++i)
      if (checks[i].id == id)
        throw ConfigError(where, "id \"" + id + "\" is taken by the check at " + checks[i].where);
  }

  const fs::path file_, shipped_;
  SectionReader sections_;
  std::map<std::string, double> tolerance_;
  std::map<std::string, PublishedFile> teachers_;
};

}  // namespace

Checks load_checks(const fs::path& file, const fs::path& shipped,
                   const plugin::Registry& registry) {
  return Reader(file, shipped, registry).read();
}

std::vector<ExpectedValue> expected_values(const Check& check, const NamedValues& published) {
  const auto& values = check.values.empty() ? published : check.values;
  if (values.empty())
    throw ConfigError(check.where, "check \"" + check.id +
                                       "\": there are no published values of its row; expected "
                                       "values of its own, as in expected = { fid = 3.1 }");
  std::vector<ExpectedValue> expected;
  for (const auto& [metric, value] : values) {
    const auto tolerance = check.tolerance.find(metric);
    if (tolerance == check.tolerance.end())
      throw ConfigError(check.where, "check \"" + check.id + "\": " + metric +
                                         " has no tolerance; expected one, as in tolerance = { " +
                                         metric + " = 0.1 }, of the check or of the file");
    expected.push_back({metric, value, tolerance->second});
  }
  return expected;
}

plugin::PluginChoice other_images(const Check& check, const plugin::PluginChoice& dataset,
                                  const plugin::Registry& registry) {
  const auto& table = registry.find("dataset", dataset.name).params;
  const Section& section = check.images.value();
  check_names(section, "images of dataset " + dataset.name, names_of(table));
  auto values = dataset.params.values();
  for (const Entry& entry : section.entries) {
    const auto param = std::find_if(table.begin(), table.end(),
                                    [&](const Param& p) { return p.name == entry.name; });
    values[entry.name] = value_of(*param, entry);
  }
  auto other = dataset;
  other.params = with_paths("dataset", table, section, Params(table, values));
  return other;
}

bool means(const std::string& name, const std::string& id) {
  return id == name || (!name.empty() && id.starts_with(name + '-'));
}

std::vector<std::string> overrides_for(const Check& check, const std::vector<Check>& all,
                                       const std::vector<std::string>& overrides) {
  std::vector<std::string> own;
  for (const auto& text : overrides) {
    const auto end = text.find_first_of(".=");
    const auto name = text.substr(0, end);
    const bool scoped = end != std::string::npos && text[end] == '.' &&
                        std::any_of(all.begin(), all.end(),
                                    [&](const Check& other) { return means(name, other.id); });
    if (!scoped) own.push_back(text);
    else if (means(name, check.id)) own.push_back(text.substr(end + 1));
  }
  return own;
}

}  // namespace dkdm::config

// Two runs compared; and which of their differences are differences of what was computed.
#include <map>
#include <optional>
#include <set>
#include <sstream>

#include "results/query/runs.hpp"
#include "results/store/run_tables.hpp"

namespace dkdm::results {
namespace {

// Stage -> part of its key -> value (core/stages names them, core/run/stage_list.cpp hashes them).
using Determinants = std::map<std::string, std::map<std::string, std::string>>;

struct Side {
  std::map<std::string, std::string> facts;  // "1 run seed" -> value; the number orders them
  std::map<std::string, std::string> keys;   // stage -> key
  Determinants parts;
};

// Not as a person reads it: two numbers may differ in what rounding hides.
std::string exact(const Cell& cell, const std::string& nothing) {
  return cell.raw ? *cell.raw : cell.text.value_or(nothing);
}

Side load(SQLite::Database& db, const std::filesystem::path& file, std::int64_t run) {
  config_of(db, file, run);  // refuses a run that is not there
  Side side;
  const auto add = [&](const std::string& prefix, const Table& table) {
    for (std::size_t c = 0; c < table.columns.size() && !table.rows.empty(); ++c) {
      side.facts[prefix + table.columns[c].title] = table.rows[0][c].text.value_or("");
    }
  };
  const auto pairs = [&](const std::string& sql) { return select(db, "", sql, run).rows; };
  add("1 run ", select(db, "", kRunSql, run));
  side.facts.erase("1 run id");
  for (const auto& row : pairs(
           "SELECT name || '@' || sample_count || ' ' || weights || ' (' || protocol || ')', value "
           "FROM latest_metrics WHERE run = ?")) {
    side.facts["2 metric " + *row[0].text] = exact(row[1], "not a number");
  }
  for (const auto& row : pairs("SELECT key, value FROM settings WHERE run = ?")) {
    side.facts["3 setting " + *row[0].text] = exact(row[1], "");
  }
  add("4 environment ", select(db, "", kEnvironmentSql, run));
  for (const auto& row :
       pairs("SELECT name, key, elapsed_s AS elapsed FROM stages WHERE run = ?")) {
    side.keys[*row[0].text] = *row[1].text;
    side.facts["5 stage " + *row[0].text + " key"] = row[1].text->substr(0, 12);
    side.facts["5 stage " + *row[0].text + " elapsed"] = row[2].text.value_or("");
  }
  for (const auto& row :
       pairs("SELECT s.name, d.part, d.value FROM stages s JOIN determinants d ON "
             "d.stage_key = s.key WHERE s.run = ?")) {
    side.parts[*row[0].text][*row[1].text] = *row[2].text;
  }
  return side;
}

// Where a setting enters keys: in which part, of which stages.
struct Place {
  bool teacher = false;  // the teacher's training, as opposed to the row's own
  std::string part, name;
};

Place place_of(const std::string& setting) {
  const auto dot = setting.rfind('.');
  std::string section = setting.substr(0, dot == std::string::npos ? 0 : dot);
  Place place{section.starts_with("teacher."), section, setting.substr(dot + 1)};
  if (place.teacher) place.part = section.substr(8);
  if (section == "sample" || section == "synthetic") place.part = "sampling";
  if (section == "sample" && place.name == "weights") place.part = "weights";
  if (section == "evaluate") place.part = place.name == "every" ? "kept" : "sampling";
  if (setting == "evaluate.samples") place.name = "seed";  // other images are those of another seed
  if (setting == "train.select") place.part = "rule";
  return place;
}

bool may_enter(const Place& place, const std::string& section, const std::string& stage) {
  if (place.teacher) return stage == "teacher";
  if (place.part == "rule") return stage == "select";
  if (section == "synthetic") return stage == section;
  if (section == "sample") return stage == "sample" || stage == "snapshots";
  if (section == "evaluate") return stage == (place.part == "kept" ? "train" : "snapshots");
  if (section == "student" || section == "method" || section == "train") return stage != "teacher";
  return true;
}

// "25" of "… respacing 25 …" or of a line "respacing = 25"; nothing where the name does not stand.
std::optional<std::string> value_in(const std::string& part, const std::string& name) {
  std::istringstream lines(part);
  std::string first;
  for (std::string line; std::getline(lines, line);) {
    if (first.empty()) first = line;
    if (line.starts_with(name + " = ")) return line.substr(name.size() + 3);
  }
  if (name == "plugin") return first;  // name and version
  std::istringstream words(part);
  const std::string short_name = name == "clip_denoised" ? "clip" : name;
  std::string word;
  words >> word;
  if (name == "sampler") return word;
  for (std::string value; words >> value; word = value) {
    if (word == short_name) return value;
  }
  return std::nullopt;
}

bool part_differs(const std::string& a, const std::string& b, const Place& place) {
  if (a == b) return false;
  const auto in_a = value_in(a, place.name), in_b = value_in(b, place.name);
  if (in_a || in_b) return in_a != in_b;
  // A text that names no parameters ("cosine 1000", a dataset's fingerprint) is one with its
  // section; one that does, and not this one, does not depend on it.
  return a.find(" = ") == std::string::npos && place.part != "sampling";
}

std::string list(const std::set<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

// The stages, by name, that both runs have under different keys; and whether all of them are
// explained.
struct Changed {
  std::set<std::string> stages;
  bool explained = true;
};

Changed changed_stages(const Side& a, const Side& b) {
  Changed changed;
  for (const auto& [stage, key] : a.keys) {
    const auto other = b.keys.find(stage);
    if (other == b.keys.end() || other->second == key) continue;
    changed.stages.insert(stage);
    changed.explained = changed.explained && a.parts.count(stage) > 0 && b.parts.count(stage) > 0;
  }
  return changed;
}

std::string effect_of_setting(const std::string& setting, const Side& a, const Side& b,
                              const Changed& changed) {
  const auto place = place_of(setting);
  const auto section = setting.substr(0, setting.rfind('.'));
  std::set<std::string> stages;
  for (const auto& stage : changed.stages) {
    if (!may_enter(place, section, stage)) continue;
    const auto in_a = a.parts.find(stage), in_b = b.parts.find(stage);
    if (in_a == a.parts.end() || in_b == b.parts.end()) continue;
    const auto part_a = in_a->second.find(place.part), part_b = in_b->second.find(place.part);
    const bool has_a = part_a != in_a->second.end(), has_b = part_b != in_b->second.end();
    if (has_a != has_b && place.part == "kept") stages.insert(stage);  // where nothing is kept
    if (!has_a || !has_b) continue;
    if (part_differs(part_a->second, part_b->second, place)) stages.insert(stage);
  }
  // Where the last step counts nothing is chosen.
  if (place.part == "rule" && a.keys.contains("select") != b.keys.contains("select"))
    stages.insert("select");
  if (!stages.empty()) return list(stages);
  return changed.explained ? "no" : "unknown";
}

// Parts of a stage's key that differ, one that only one of them has included.
std::string differing_parts(const std::string& stage, const Side& a, const Side& b) {
  std::set<std::string> parts;
  const auto in_a = a.parts.find(stage), in_b = b.parts.find(stage);
  if (in_a == a.parts.end() || in_b == b.parts.end()) return "unknown";
  for (const auto& [one, other] : {std::pair(in_a, in_b), std::pair(in_b, in_a)}) {
    for (const auto& [part, value] : one->second) {
      const auto found = other->second.find(part);
      if (found == other->second.end() || found->second != value) parts.insert(part);
    }
  }
  return list(parts);
}

std::string effect_of(const std::string& fact, const Side& a, const Side& b,
                      const Changed& changed) {
  if (fact.starts_with("3 setting ")) return effect_of_setting(fact.substr(10), a, b, changed);
  if (fact.starts_with("4 environment ")) return "no";
  if (fact.starts_with("5 stage ") && fact.ends_with(" key")) {
    return "differs in " + differing_parts(fact.substr(8, fact.size() - 12), a, b);
  }
  if (fact == "1 run seed") {
    std::set<std::string> stages;
    for (const auto& stage : changed.stages) {
      const auto parts = differing_parts(stage, a, b);
      for (const char* part : {"seed", "sampling"}) {
        if (parts.find(part) != std::string::npos) stages.insert(stage);
      }
    }
    return stages.empty() ? (changed.explained ? "no" : "unknown") : list(stages);
  }
  return "";
}

Cell fact_of(const Side& side, const std::string& name) {
  Cell cell;
  if (const auto found = side.facts.find(name); found != side.facts.end())
    cell.text = found->second;
  return cell;
}

}  // namespace

Table runs_diff(const std::filesystem::path& file, std::int64_t run_a, std::int64_t run_b) {
  Database database(file, OpenMode::read);
  return database.read([&](SQLite::Database& db) {
    const auto a = load(db, file, run_a), b = load(db, file, run_b);
    const auto changed = changed_stages(a, b);
    Table table{"",
                {{"what"},
                 {"run " + std::to_string(run_a)},
                 {"run " + std::to_string(run_b)},
                 {"changes the key of"}},
                {}};
    std::set<std::string> names;
    for (const auto& [name, value] : a.facts) names.insert(name);
    for (const auto& [name, value] : b.facts) names.insert(name);
    for (const auto& name : names) {
      auto& row = table.rows.emplace_back();
      row.emplace_back(name.substr(2));
      row.push_back(fact_of(a, name));
      row.push_back(fact_of(b, name));
      if (row[1].text == row[2].text) {
        table.rows.pop_back();
      } else {
        row.emplace_back(effect_of(name, a, b, changed));
      }
    }
    return table;
  });
}

}  // namespace dkdm::results

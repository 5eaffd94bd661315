// Reading runs back.
#include "results/runs.hpp"

#include <toml++/toml.h>

#include <cctype>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "results/database.hpp"

namespace dkdm::results {
namespace {

using Show = std::function<std::string(double)>;

// Result column -> how its number is shown; columns without an entry are shown as SQLite has them.
using Shows = std::map<std::string, Show>;

const Shows& shows() {
  static const Shows kShows = {{"started", time_text},      {"ended", time_text},
                               {"seconds", duration_text},  {"elapsed", duration_text},
                               {"memory", [](double bytes) { return count_text(bytes) + "B"; }},
                               {"peak", [](double bytes) { return count_text(bytes) + "B"; }}};
  return kShows;
}

// The result of a fixed statement as a table.
template <class... Values>
Table select(SQLite::Database& db, const std::string& title, const std::string& sql,
             const Values&... values) {
  SQLite::Statement statement(db, sql);
  bind_all(statement, values...);
  Table table{title, {}, {}};
  for (int c = 0; c < statement.getColumnCount(); ++c) {
    table.columns.push_back({statement.getColumnName(c), Align::right, true});
  }
  while (statement.executeStep()) {
    auto& row = table.rows.emplace_back();
    for (int c = 0; c < statement.getColumnCount(); ++c) {
      const auto value = statement.getColumn(c);
      const auto show = shows().find(table.columns[c].title);
      if (value.isNull()) {
        row.emplace_back();
      } else if (show != shows().end()) {
        row.emplace_back(show->second(value.getDouble())).raw = shortest(value.getDouble());
      } else if (value.isFloat()) {
        row.emplace_back(shortest(value.getDouble()));
      } else {
        row.emplace_back(value.getString());
        if (value.isText()) table.columns[c] = {table.columns[c].title};
      }
    }
  }
  return table;
}

// A one-row table turned on its side: field, value.
Table upright(const Table& wide) {
  Table tall{wide.title, {{"field"}, {"value"}}, {}};
  if (wide.rows.empty()) return tall;
  for (std::size_t c = 0; c < wide.columns.size(); ++c) {
    tall.rows.push_back({wide.columns[c].title, wide.rows[0][c]});
  }
  return tall;
}

std::string config_of(SQLite::Database& db, const std::filesystem::path& file, std::int64_t run) {
  SQLite::Statement find(db, "SELECT config FROM runs WHERE id = ?");
  find.bind(1, run);
  if (!find.executeStep()) {
    throw StoreError(file.string() + ": there is no run " + std::to_string(run) +
                     "; `dkdm runs` lists them");
  }
  return find.getColumn(0).getString();
}

constexpr const char* kRunSql =
    "SELECT r.id, e.name AS experiment, e.title, e.scale, e.file, r.row, r.label, r.seed, s.status, "
    "s.stage AS \"stopped in\", s.message, s.started, s.seconds, r.method, r.student, r.teacher, "
    "r.dataset, r.evaluator, r.parameters, "
    "e.published_section || ' ' || r.published_row AS published, r.key "
    "FROM runs r JOIN experiments e ON e.id = r.experiment JOIN run_status s ON s.run = r.id "
    "WHERE r.id = ?";
constexpr const char* kEnvironmentSql =
    "SELECT host, os, cpu, cpu_features, gpu, libtorch, compiler, dkdm_version, git_revision, "
    "git_dirty, cores, threads, memory_bytes AS memory FROM environments "
    "WHERE id = (SELECT environment FROM attempts WHERE run = ? ORDER BY id DESC LIMIT 1)";

std::vector<Table> detail_tables(SQLite::Database& db, std::int64_t run) {
  return {
      upright(select(db, "Run", kRunSql, run)),
      select(db, "Attempts",
             "SELECT started, ended, ended - started AS seconds, status, stage, host, pid, message "
             "FROM attempts WHERE run = ? ORDER BY id",
             run),
      upright(select(db, "Environment", kEnvironmentSql, run)),
      select(db, "Plugins",
             "SELECT DISTINCT p.kind, p.name, p.version, p.file FROM plugins p "
             "JOIN attempt_plugins u ON u.plugin = p.id JOIN attempts a ON a.id = u.attempt "
             "WHERE a.run = ? ORDER BY p.kind, p.name",
             run),
      select(db, "Stages",
             "SELECT name, plugin, status, elapsed_s AS elapsed, steps, teacher_evaluations, "
             "peak_bytes AS peak, bytes, artifact, error, key FROM stages WHERE run = ? "
             "ORDER BY started",
             run),
      select(db, "Metrics",
             "SELECT name, value, unit, CASE WHEN higher_is_better THEN 'higher' ELSE 'lower' END "
             "AS better, sample_count, step, weights, protocol, reference FROM metrics "
             "WHERE run = ? ORDER BY id",
             run),
      select(db, "Artifacts",
             "SELECT DISTINCT a.kind, a.path, a.bytes, a.sha256 FROM artifacts a "
             "JOIN stages s ON s.key = a.key WHERE s.run = ? ORDER BY a.id",
             run),
  };
}

// Dotted keys and values of a TOML text, for comparison key by key; its lines when it is not TOML.
void flatten(const toml::node& node, const std::string& path,
             std::map<std::string, std::string>& out) {
  const auto* array = node.as_array();
  if (const auto* table = node.as_table()) {
    for (const auto& [key, inner] : *table) {
      flatten(inner, path.empty() ? std::string(key.str()) : path + "." + std::string(key.str()),
              out);
    }
  } else if (array != nullptr && array->is_array_of_tables()) {
    for (std::size_t i = 0; i < array->size(); ++i) {
      const auto* id = (*array)[i].as_table()->get("id");
      const auto name = id != nullptr ? id->value<std::string>() : std::nullopt;
      flatten((*array)[i], path + "." + name.value_or(std::to_string(i)), out);
    }
  } else {
    std::ostringstream text;
    node.visit([&](const auto& concrete) { text << concrete; });
    out[path] = text.str();
  }
}

std::map<std::string, std::string> settings_of(const std::string& config) {
  std::map<std::string, std::string> settings;
  try {
    flatten(toml::parse(config), "", settings);
  } catch (const toml::parse_error&) {
    std::istringstream lines(config);
    int number = 0;
    for (std::string line; std::getline(lines, line);) {
      settings["line " + std::to_string(++number)] = line;
    }
  }
  return settings;
}

// Every comparable thing of a run, named.
std::map<std::string, std::string> facts_of(SQLite::Database& db,
                                            const std::filesystem::path& file, std::int64_t run) {
  std::map<std::string, std::string> facts;
  for (const auto& [key, value] : settings_of(config_of(db, file, run))) {
    facts["3 setting " + key] = value;
  }
  const auto add = [&](const std::string& prefix, const Table& table) {
    for (std::size_t c = 0; c < table.columns.size() && !table.rows.empty(); ++c) {
      facts[prefix + table.columns[c].title] = table.rows[0][c].text.value_or("");
    }
  };
  add("1 run ", select(db, "", kRunSql, run));
  facts.erase("1 run id");
  add("4 environment ", select(db, "", kEnvironmentSql, run));
  const auto stages =
      select(db, "", "SELECT name, key, elapsed_s AS elapsed FROM stages WHERE run = ?", run);
  for (const auto& row : stages.rows) {
    facts["5 stage " + *row[0].text + " key"] = row[1].text->substr(0, 12);
    facts["5 stage " + *row[0].text + " elapsed"] = row[2].text.value_or("");
  }
  const auto metrics = select(db, "",
                              "SELECT name || '@' || sample_count || ' ' || weights || ' (' || "
                              "protocol || ')', value FROM latest_metrics WHERE run = ?",
                              run);
  for (const auto& row : metrics.rows) {
    facts["2 metric " + *row[0].text] = row[1].text.value_or("not a number");
  }
  return facts;
}

std::string lower(std::string text) {
  for (auto& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

}  // namespace

Table runs_list(const std::filesystem::path& file, const std::string& experiment) {
  Database database(file, OpenMode::read);
  return database.read([&](SQLite::Database& db) {
    return select(db, "",
                  "SELECT run AS id, experiment, row, seed, status, started, seconds, "
                  "substr(key, 1, 12) AS key FROM run_status WHERE ?1 = '' OR experiment = ?1 "
                  "ORDER BY run",
                  experiment);
  });
}

RunDetail run_detail(const std::filesystem::path& file, std::int64_t run) {
  Database database(file, OpenMode::read);
  return database.read([&](SQLite::Database& db) {
    auto config = config_of(db, file, run);
    return RunDetail{detail_tables(db, run), std::move(config)};
  });
}

std::string RunDetail::render(Format format) const {
  if (format == Format::json) {
    nlohmann::ordered_json object;
    for (const auto& table : tables) {
      object[lower(table.title)] = nlohmann::ordered_json::parse(table.render(format));
    }
    object["config"] = config;
    return object.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  }
  std::string out;
  for (const auto& table : tables) {
    if (table.rows.empty() && format != Format::csv) continue;
    out += (out.empty() ? "" : "\n") + table.render(format);
  }
  if (format == Format::text) out += "\nConfiguration\n" + config;
  if (format == Format::markdown) out += "\n### Configuration\n\n```toml\n" + config + "\n```\n";
  if (out.back() != '\n') out += '\n';
  return out;
}

Table runs_diff(const std::filesystem::path& file, std::int64_t run_a, std::int64_t run_b) {
  Database database(file, OpenMode::read);
  return database.read([&](SQLite::Database& db) {
    const auto a = facts_of(db, file, run_a);
    const auto b = facts_of(db, file, run_b);
    Table table{"", {{"what"}, {"run " + std::to_string(run_a)}, {"run " + std::to_string(run_b)}},
                {}};
    std::set<std::string> names;
    for (const auto& [name, value] : a) names.insert(name);
    for (const auto& [name, value] : b) names.insert(name);
    for (const auto& name : names) {
      const auto in_a = a.find(name), in_b = b.find(name);
      const Cell left = in_a == a.end() ? Cell() : Cell(in_a->second);
      const Cell right = in_b == b.end() ? Cell() : Cell(in_b->second);
      if (left.text != right.text) table.rows.push_back({name.substr(2), left, right});
    }
    return table;
  });
}

std::string trained_artifact(const std::filesystem::path& file, std::int64_t run) {
  return Database(file, OpenMode::read).read([&](SQLite::Database& db) {
    // The student's network where there is one, else the teacher's.
    SQLite::Statement statement(
        db,
        "SELECT artifact FROM stages WHERE run = ? AND name IN ('train', 'teacher') AND "
        "status <> 'failed' AND artifact <> '' ORDER BY name = 'train' DESC LIMIT 1");
    bind_all(statement, run);
    if (!statement.executeStep())
      throw StoreError("run " + std::to_string(run) +
                       " has no trained network on record; dkdm runs lists the runs");
    return statement.getColumn(0).getString();
  });
}

void remove_run(const std::filesystem::path& file, std::int64_t run) {
  Database database(file, OpenMode::write);
  database.write([&](SQLite::Database& db) {
    config_of(db, file, run);
    SQLite::Statement find(db, "SELECT status, pid, host FROM run_status WHERE run = ?");
    find.bind(1, run);
    if (find.executeStep() && find.getColumn(0).getString() == "running") {
      throw StoreError(file.string() + ": run " + std::to_string(run) +
                       " is being written by process " + find.getColumn(1).getString() + " on " +
                       find.getColumn(2).getString() + "; end it first");
    }
    find.reset();
    execute(db, "DELETE FROM runs WHERE id = ?", run);
  });
}

}  // namespace dkdm::results

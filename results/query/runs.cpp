// Reading runs back.
#include "results/query/runs.hpp"

#include <algorithm>
#include <cctype>
#include <limits>
#include <nlohmann/json.hpp>

#include "dkdm/nearest.hpp"
#include "dkdm/store_error.hpp"
#include "record/clock.hpp"
#include "results/store/artifacts.hpp"
#include "results/store/run_tables.hpp"

namespace dkdm::results {
namespace {

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
      select(
          db, "Stages",
          "SELECT name, plugin, status, elapsed_s AS elapsed, steps, teacher_evaluations, "
          "flops, teacher_s, held_bytes, peak_bytes AS peak, device_peak_bytes AS \"device peak\", graphs, bytes, artifact, error, key FROM stages WHERE run = ? "
          "ORDER BY started",
          run),
      select(db, "Metrics",
             "SELECT name, value, unit, CASE WHEN higher_is_better THEN 'higher' ELSE 'lower' END "
             "AS better, sample_count, step, weights, protocol, reference FROM metrics "
             "WHERE run = ? ORDER BY id",
             run),
      upright(select(db, "Selection",
                     "SELECT rule, step, last_step, candidates, by_value, by_sample_count, "
                     "by_weights, by_protocol, by_reference FROM selections WHERE run = ?",
                     run)),
      select(db, "Artifacts",
             "SELECT DISTINCT a.kind, a.path, a.bytes, a.sha256 FROM artifacts a "
             "JOIN stages s ON s.key = a.key WHERE s.run = ? ORDER BY a.id",
             run),
      select(db, "Determined by",
             "SELECT s.name AS stage, d.part, replace(rtrim(d.value, char(10)), char(10), '; ') AS "
             "value FROM stages s JOIN determinants d ON d.stage_key = s.key WHERE s.run = ? "
             "ORDER BY s.started, s.name, d.position",
             run),
  };
}

// The stored configuration is an experiment file; --force makes the run's own stages anew. What
// `dkdm eval` recorded holds its own command.
std::string repeat_of(SQLite::Database& db, std::int64_t run) {
  SQLite::Statement command(
      db, "SELECT value FROM settings WHERE run = ? AND key = 'evaluation.command'");
  command.bind(1, run);
  if (command.executeStep()) {
    // Quoted anew: somebody will paste it into a shell, and the record may be anybody's.
    const auto words = io::shell_words(command.getColumn(0).getString());
    std::string line = "dkdm eval";
    for (std::size_t i = 2; i < words.size(); ++i) line += " " + io::shell_quoted(words[i]);
    if (words.size() > 2 && words[0] == "dkdm" && words[1] == "eval") return line + "\n";
  }
  SQLite::Statement find(db, "SELECT row, seed FROM runs WHERE id = ?");
  find.bind(1, run);
  find.executeStep();
  const auto file = "run-" + std::to_string(run) + ".toml";
  return "dkdm runs show " + std::to_string(run) + " --config > " + file + "\ndkdm run " + file +
         " --rows " + io::shell_quoted(find.getColumn(0).getString()) + " --seeds " +
         find.getColumn(1).getString() + " --force\n";
}

// The recorded path of an artifact, which may come from another machine.
std::string kept_below(const std::string& path, std::int64_t run) {
  if (path.empty() || record::stays_below(path)) return path;
  throw StoreError("run " + std::to_string(run) + ": its artifact '" + path +
                   "' would lie outside the artifact store");
}

std::string lower(std::string text) {
  for (auto& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

std::vector<std::string> names_of_experiments(SQLite::Database& db) {
  std::vector<std::string> names;
  SQLite::Statement all(db,
                        "SELECT e.name FROM experiments e JOIN runs r ON r.experiment = e.id "
                        "GROUP BY e.name ORDER BY min(r.id)");
  while (all.executeStep()) names.push_back(all.getColumn(0).getString());
  return names;
}

}  // namespace

std::vector<std::string> experiment_names(const std::filesystem::path& file) {
  return Database(file, OpenMode::read).read(names_of_experiments);
}

std::vector<RecordedStage> recorded_stages(const std::filesystem::path& file,
                                           const std::string& experiment) {
  return Database(file, OpenMode::read).read([&](SQLite::Database& db) {
    std::vector<RecordedStage> stages;
    SQLite::Statement find(db,
                           "SELECT DISTINCT r.row, s.name, s.key, r.seed FROM stages s "
                           "JOIN runs r ON r.id = s.run JOIN experiments e ON e.id = r.experiment "
                           "WHERE e.name = ? AND s.status <> 'failed'");
    bind_all(find, experiment);
    while (find.executeStep()) {
      stages.push_back({find.getColumn(0).getString(), find.getColumn(1).getString(),
                        find.getColumn(2).getString(), find.getColumn(3).getInt64()});
    }
    return stages;
  });
}

std::vector<TeacherUse> teacher_uses(const std::filesystem::path& file, const std::string& sha256) {
  return Database(file, OpenMode::read).read([&](SQLite::Database& db) {
    std::vector<TeacherUse> uses;
    SQLite::Statement find(
        db,
        "SELECT s.run, s.experiment, coalesce(nullif(word.value, ''), r.dataset) AS images "
        "FROM settings hash JOIN run_status s ON s.run = hash.run JOIN runs r ON r.id = hash.run "
        "LEFT JOIN settings word ON word.run = hash.run AND word.key = 'teacher.trained_on' "
        "WHERE hash.key = 'teacher.sha256' AND hash.value = ? AND s.status = 'done' "
        "AND r.teacher <> '' AND images <> '' ORDER BY s.run DESC");
    bind_all(find, sha256);
    while (find.executeStep())
      uses.push_back({find.getColumn(0).getInt64(), find.getColumn(1).getString(),
                      find.getColumn(2).getString()});
    return uses;
  });
}

Table runs_list(const std::filesystem::path& file, const std::string& experiment) {
  Database database(file, OpenMode::read);
  return database.read([&](SQLite::Database& db) {
    const auto names = names_of_experiments(db);
    if (!experiment.empty() && std::find(names.begin(), names.end(), experiment) == names.end()) {
      const auto near = nearest_name(experiment, names);
      throw ConfigError("runs list", "no runs of experiment '" + experiment + "' are on record" +
                                         (near.empty() ? "; dkdm runs lists them all"
                                                       : "; did you mean " + near + "?"));
    }
    return select(
        db, "",
        "SELECT run AS id, experiment, row, seed, status, started, coalesce(seconds, 0) + CASE "
        "WHEN status = 'running' THEN (SELECT (julianday('now') - 2440587.5) * 86400 - "
        "a.started FROM attempts a WHERE a.run = s.run ORDER BY a.id DESC LIMIT 1) "
        "ELSE 0 END AS seconds, "
        "substr(key, 1, 12) AS key FROM run_status s WHERE ?1 = '' OR experiment = ?1 "
        "ORDER BY run",
        experiment);
  });
}

RunDetail run_detail(const std::filesystem::path& file, std::int64_t run) {
  Database database(file, OpenMode::read);
  return database.read([&](SQLite::Database& db) {
    auto config = config_of(db, file, run);
    return RunDetail{detail_tables(db, run), repeat_of(db, run), std::move(config)};
  });
}

std::string RunDetail::render(Format format, bool colour, int columns) const {
  if (format == Format::json) {
    nlohmann::ordered_json object;
    for (const auto& table : tables) {
      object[lower(table.title)] = nlohmann::ordered_json::parse(table.render(format));
    }
    object["repeat"] = repeat;
    object["config"] = config;
    return object.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  }
  std::string out;
  for (const auto& table : tables) {
    if (table.rows.empty() && format != Format::csv) continue;
    out += (out.empty() ? "" : "\n") + table.render(format, colour, columns);
  }
  if (format == Format::text) {
    out += "\nRepeat\n" + io::printable(repeat) + "\nConfiguration\n" + io::printable(config);
  }
  if (format == Format::markdown) {
    out += "\n### Repeat\n\n```sh\n" + repeat + "```\n\n### Configuration\n\n```toml\n" + config +
           "\n```\n";
  }
  if (out.back() != '\n') out += '\n';
  return out;
}

namespace {

// The step that a rule chose, where it is not the last one.
std::optional<std::int64_t> chosen_step(SQLite::Database& db, std::int64_t run) {
  SQLite::Statement statement(db,
                              "SELECT step FROM selections WHERE run = ? AND step <> last_step");
  bind_all(statement, run);
  if (!statement.executeStep()) return std::nullopt;
  return statement.getColumn(0).getInt64();
}

}  // namespace

CountingNetwork counting_network(const std::filesystem::path& file, std::int64_t run) {
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
    return CountingNetwork{kept_below(statement.getColumn(0).getString(), run),
                           chosen_step(db, run)};
  });
}

EvaluatedSamples evaluated_samples(const std::filesystem::path& file, std::int64_t run) {
  return Database(file, OpenMode::read).read([&](SQLite::Database& db) {
    config_of(db, file, run);
    SQLite::Statement statement(
        db,
        "SELECT s.artifact, s.key, coalesce((SELECT steps FROM stages WHERE run = s.run AND name IN "
        "('train', 'teacher') ORDER BY name = 'train' DESC LIMIT 1), 0), r.seed, "
        // As the samples' own key has it; an earlier dkdm kept no parts of keys.
        "coalesce((SELECT value FROM determinants WHERE stage_key = s.key AND part = 'weights'), "
        "(SELECT value FROM settings WHERE run = s.run AND key = 'sample.weights'), 'unlabelled'), "
        "r.samples FROM stages s JOIN runs r ON r.id = s.run "
        "WHERE s.run = ? AND s.name = 'sample' AND s.status <> 'failed'");
    bind_all(statement, run);
    if (!statement.executeStep())
      throw DataError("run " + std::to_string(run), "drew no samples: it has not come to that");
    EvaluatedSamples samples{kept_below(statement.getColumn(0).getString(), run),
                             statement.getColumn(1).getString(),
                             statement.getColumn(2).getInt64(),
                             statement.getColumn(3).getInt64(),
                             statement.getColumn(4).getString(),
                             {}};
    if (const auto step = chosen_step(db, run)) {
      SQLite::Statement select(db, "SELECT artifact FROM stages WHERE run = ? AND name = 'select'");
      bind_all(select, run);
      samples.artifact =
          select.executeStep() ? kept_below(select.getColumn(0).getString(), run) : "";
      samples.key = statement.getColumn(5).getString();
      samples.step = *step;
    }
    SQLite::Statement setting(db,
                              "SELECT substr(key, 8) || '=' || value FROM settings "
                              "WHERE run = ? AND key LIKE 'sample.%'");
    bind_all(setting, run);
    while (setting.executeStep()) samples.settings.push_back(setting.getColumn(0).getString());
    return samples;
  });
}

std::vector<record::MetricRecord> recorded_metrics(const std::filesystem::path& file,
                                                   std::int64_t run) {
  return Database(file, OpenMode::read).read([&](SQLite::Database& db) {
    config_of(db, file, run);
    SQLite::Statement find(db,
                           "SELECT name, value, higher_is_better, unit, protocol, reference, "
                           "sample_count, step, weights FROM metrics WHERE run = ? ORDER BY id");
    bind_all(find, run);
    std::vector<record::MetricRecord> metrics;
    while (find.executeStep()) {
      const auto value = find.getColumn(1);
      metrics.push_back(
          {find.getColumn(0).getString(),
           value.isNull() ? std::numeric_limits<double>::quiet_NaN() : value.getDouble(),
           find.getColumn(2).getInt() != 0, find.getColumn(3).getString(),
           find.getColumn(4).getString(), find.getColumn(5).getString(),
           find.getColumn(6).getInt64(), find.getColumn(7).getInt64(),
           find.getColumn(8).getString()});
    }
    return metrics;
  });
}

std::optional<std::int64_t> pin_run(const std::filesystem::path& file, std::int64_t run,
                                    const std::string& note) {
  Database database(file, OpenMode::write);
  return database.write([&](SQLite::Database& db) -> std::optional<std::int64_t> {
    config_of(db, file, run);
    SQLite::Statement status(db, "SELECT status FROM run_status WHERE run = ?");
    status.bind(1, run);
    if (!status.executeStep() || status.getColumn(0).getString() != "done") {
      throw StoreError(file.string() + ": run " + std::to_string(run) +
                       " is not done; only a finished run can count");
    }
    constexpr const char* kSameRow =
        "run IN (SELECT o.id FROM runs r JOIN experiments e ON e.id = r.experiment "
        "JOIN experiments x ON x.name = e.name JOIN runs o ON o.experiment = x.id AND "
        "o.row = r.row AND o.seed = r.seed WHERE r.id = ?1)";
    SQLite::Statement pinned(db,
                             std::string("SELECT run FROM pins WHERE run <> ?1 AND ") + kSameRow);
    pinned.bind(1, run);
    std::optional<std::int64_t> before;
    if (pinned.executeStep()) before = pinned.getColumn(0).getInt64();
    pinned.reset();
    execute(db, (std::string("DELETE FROM pins WHERE ") + kSameRow).c_str(), run);
    const double now = record::unix_time();
    execute(db, "INSERT INTO pins (run, note, pinned, pinned_iso) VALUES (?, ?, ?, ?)", run, note,
            now, iso_time(now));
    return before;
  });
}

void unpin_run(const std::filesystem::path& file, std::int64_t run) {
  Database database(file, OpenMode::write);
  database.write([&](SQLite::Database& db) {
    config_of(db, file, run);
    SQLite::Statement find(db, "SELECT 1 FROM pins WHERE run = ?");
    find.bind(1, run);
    if (!find.executeStep()) {
      throw StoreError(file.string() + ": run " + std::to_string(run) + " is not pinned");
    }
    find.reset();
    execute(db, "DELETE FROM pins WHERE run = ?", run);
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

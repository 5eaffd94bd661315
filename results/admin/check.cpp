// Finds twice and repairs between: what the second look does not find any more was repaired.
#include "results/admin/check.hpp"

#include <unistd.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "core/record/metrics_file.hpp"
#include "core/record/process.hpp"
#include "record/clock.hpp"
#include "results/store/artifacts.hpp"
#include "results/store/database.hpp"
#include "results/store/store_rows.hpp"
#include "results/text/table.hpp"

namespace dkdm::results {
namespace {

namespace fs = std::filesystem;

// A finding and what removes it; an empty repair = only a person can.
struct Problem {
  Finding finding;
  std::function<void(SQLite::Database&)> repair;
};

struct Inspection {
  std::vector<std::string> checks;
  std::vector<Problem> problems;

  void add(std::string what, std::string remedy,
           std::function<void(SQLite::Database&)> repair = nullptr) {
    problems.push_back({{std::move(what), std::move(remedy)}, std::move(repair)});
  }
};

constexpr const char* kRepair = "dkdm db check --repair";

std::string count_of(std::size_t count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

void inspect_pages(SQLite::Database& db, Inspection& out) {
  SQLite::Statement check(db, "PRAGMA integrity_check");
  while (check.executeStep()) {
    const auto answer = check.getColumn(0).getString();
    if (answer == "ok") continue;
    const bool index = answer.find("index") != std::string::npos;
    out.add("file: " + answer,
            index ? kRepair : "restore a copy, or save what is readable with sqlite3's .recover",
            index ? [](SQLite::Database& writable) { writable.exec("REINDEX"); }
                  : std::function<void(SQLite::Database&)>());
  }
  SQLite::Statement broken(db, "PRAGMA foreign_key_check");
  while (broken.executeStep()) {
    out.add("a row of " + broken.getColumn(0).getString() + " refers to a row of " +
                broken.getColumn(2).getString() + " that is not there",
            "another program changed the file: restore a copy");
  }
  out.checks.push_back("pages, indexes and references");
}

constexpr const char* kWantedLatest =
    "SELECT id FROM (SELECT m.id, row_number() OVER (PARTITION BY m.run, m.name, m.protocol, "
    "m.reference, m.sample_count, m.weights ORDER BY m.step = s.step DESC, m.step DESC, m.id DESC) "
    "AS place FROM metrics m LEFT JOIN selections s ON s.run = m.run) WHERE place = 1";

void inspect_latest(SQLite::Database& db, Inspection& out) {
  const std::string wanted = kWantedLatest;
  const auto wrong = db.execAndGet("SELECT (SELECT count(*) FROM (" + wanted +
                                   " EXCEPT SELECT metric FROM latest_values)) + (SELECT count(*) "
                                   "FROM (SELECT metric FROM latest_values EXCEPT " +
                                   wanted + "))")
                         .getInt64();
  if (wrong > 0) {
    out.add("latest_values is wrong about " + count_of(wrong, "value"), kRepair,
            [wanted](SQLite::Database& writable) {
              writable.exec("DELETE FROM latest_values");
              writable.exec("INSERT INTO latest_values " + wanted);
            });
  }
  out.checks.push_back(
      count_of(db.execAndGet("SELECT count(*) FROM metrics").getInt64(), "metric value"));
}

void inspect_attempts(SQLite::Database& db, Inspection& out) {
  SQLite::Statement running(
      db, "SELECT run, host, pid, process, started FROM attempts WHERE status = 'running'");
  while (running.executeStep()) {
    const auto run = running.getColumn(0).getString(), host = running.getColumn(1).getString();
    const auto pid = running.getColumn(2).getInt64();
    if (host != record::host_name()) {
      out.checks.push_back("run " + run + " is running on " + host + " since " +
                           time_text(running.getColumn(4).getDouble()));
    } else if (record::process_token(pid) != running.getColumn(3).getString()) {
      // Opening for writing marks it.
      out.add("run " + run + " is recorded as running, but its process " + std::to_string(pid) +
                  " is gone",
              kRepair, [](SQLite::Database&) {});
    }
  }
  out.checks.push_back(
      count_of(db.execAndGet("SELECT count(*) FROM attempts").getInt64(), "attempt"));
}

// Recorded artifacts against the disk. Of one made twice the last record counts.
void inspect_recorded(SQLite::Database& db, const fs::path& root, bool hash, Inspection& out) {
  SQLite::Statement recorded(
      db, "SELECT kind, key, path, sha256, max(id) FROM artifacts GROUP BY path ORDER BY path");
  std::size_t count = 0;
  while (recorded.executeStep()) {
    ++count;
    const auto path = recorded.getColumn(2).getString();
    const auto found =
        find_artifact(root, recorded.getColumn(0).getString(), recorded.getColumn(1).getString());
    if (!found || found->path != path) {
      out.add(path + " is missing", "the experiment's `dkdm run` makes it again when it is needed");
      continue;
    }
    const auto damage = damage_of(root, *found, hash);
    if (!damage.empty()) {
      out.add(path + " is damaged: " + damage,
              std::string(kRepair) + " sets it aside; the next run makes it again",
              [root, path](SQLite::Database&) {
                const auto aside = (root / path).string() + ".damaged";
                fs::remove_all(aside);
                fs::rename(root / path, aside);
              });
    } else if (found->manifest->sha256 != recorded.getColumn(3).getString()) {
      out.add(path + " was made again and not recorded", kRepair,
              [found = *found](SQLite::Database& writable) {
                insert_artifact(writable, found.record());
              });
    }
  }
  out.checks.push_back(count_of(count, "recorded artifact") + (hash ? ", every byte" : ""));
}

void inspect_unrecorded(SQLite::Database& db, const fs::path& root, Inspection& out) {
  SQLite::Statement known(db, "SELECT 1 FROM artifacts WHERE path = ?");
  std::size_t count = 0, references = 0;
  for (const auto& artifact : list_artifacts(root)) {
    if (artifact.set_aside()) continue;
    ++count;
    known.reset();
    known.bind(1, artifact.path);
    if (known.executeStep() || !damage_of(root, artifact, false).empty()) continue;
    // `dkdm eval` and `dkdm ref` keep statistics to find them again, without a run that asks for
    // them.
    if (artifact.kind == "evaluator") {
      ++references;
      continue;
    }
    out.add(
        artifact.path + " is whole and not on record", kRepair,
        [artifact](SQLite::Database& writable) { insert_artifact(writable, artifact.record()); });
  }
  out.checks.push_back(count_of(count, "artifact") + " on disk" +
                       (references > 0 ? ", " + count_of(references, "prepared reference") +
                                             " of dkdm eval and dkdm ref among them"
                                       : ""));
}

// The stages of a run, from what its last one was determined by (core/stages names the
// parts).
void collect_stages(const fs::path& root, const ArtifactFolder& artifact, const std::string& name,
                    bool teacher_row, std::map<std::string, ArtifactFolder>& stages) {
  stages.emplace(name, artifact);
  for (const auto& [part, value] : artifact.manifest->parts) {
    // A teacher is described before its key stands.
    const auto line = value.rfind('\n');
    const auto key = line == std::string::npos ? value : value.substr(line + 1);
    const std::map<std::string, std::pair<std::string, std::string>> kinds = {
        {"samples", {"sample", "sample"}},
        {"evaluate", {"evaluate", "evaluate"}},
        {"snapshots", {"snapshots", "snapshots"}},
        {"evaluator", {"evaluator", "evaluator"}},
        {"network", {teacher_row ? "teacher" : "train", "train"}},
        {"teacher", {"teacher", "train"}},
        {"synthetic", {"synthetic", "synthetic"}},
        {"pool", {"pool", "pool"}}};
    const auto kind = kinds.find(part);
    if (kind == kinds.end() || stages.count(kind->second.first) > 0 || key.empty() ||
        key.find('/') != std::string::npos) {
      continue;
    }
    auto input = find_artifact(root, kind->second.second, key);
    if (!input && part == "samples") input = find_streamed(root, artifact);
    if (input && input->manifest) {
      collect_stages(root, *input, kind->second.first, teacher_row, stages);
    }
  }
}

// Nothing where there are none that can be read.
std::vector<record::MetricRecord> metrics_of(const fs::path& root, const ArtifactFolder& artifact) {
  try {
    return record::read_metrics(root / artifact.path);
  } catch (const DataError&) {
    return {};
  }
}

void record_finished(SQLite::Database& db, const fs::path& root, std::int64_t run, bool teacher_row,
                     const ArtifactFolder& last) {
  std::map<std::string, ArtifactFolder> stages;
  collect_stages(root, last, last.kind, teacher_row, stages);
  for (const auto& [name, artifact] : stages) {
    auto stage = artifact.stage(name);
    stage.started = record::unix_time();
    upsert_stage(db, run, stage);
    if (!artifact.path.empty()) insert_artifact(db, artifact.record());
    if (name == "evaluate" || name == "snapshots" || name == "select")
      insert_metrics(db, run, metrics_of(root, artifact));
    if (name == "select") insert_selection(db, run, record::read_selection(root / artifact.path));
  }
  const std::int64_t pid = getpid();
  const double now = record::unix_time();
  execute(
      db,
      "INSERT INTO attempts (run, environment, host, pid, process, started, started_iso, ended, "
      "ended_iso, status, message) SELECT run, environment, ?1, ?2, ?3, ?4, ?5, ?4, ?5, 'done', "
      "'recorded from its artifacts by dkdm db check' FROM attempts WHERE run = ?6 "
      "ORDER BY id DESC LIMIT 1",
      record::host_name(), pid, record::process_token(pid), now, iso_time(now), run);
}

void inspect_finished(SQLite::Database& db, const fs::path& root, Inspection& out) {
  SQLite::Statement unfinished(
      db,
      "SELECT s.run, s.key, r.method, s.status, s.host, s.pid FROM run_status s "
      "JOIN runs r ON r.id = s.run WHERE s.status <> 'done'");
  while (unfinished.executeStep()) {
    const auto run = unfinished.getColumn(0).getInt64();
    const bool alive = unfinished.getColumn(3).getString() == "running" &&
                       (unfinished.getColumn(4).getString() != record::host_name() ||
                        !record::process_token(unfinished.getColumn(5).getInt64()).empty());
    if (alive) continue;
    const auto key = unfinished.getColumn(1).getString();
    auto last = find_artifact(root, "evaluate", key);
    if (!last) last = find_artifact(root, "snapshots", key);
    if (!last) last = find_artifact(root, "select", key);
    if (!last || !damage_of(root, *last, false).empty() || metrics_of(root, *last).empty())
      continue;
    const bool teacher_row = unfinished.getColumn(2).getString().empty();
    out.add("run " + std::to_string(run) + " was computed to its end and not recorded",
            std::string(kRepair) + ", or give its `dkdm run` again",
            [=](SQLite::Database& writable) {
              record_finished(writable, root, run, teacher_row, *last);
            });
  }
}

Inspection inspect(SQLite::Database& db, const fs::path& root, bool hash) {
  Inspection out;
  inspect_pages(db, out);
  inspect_latest(db, out);
  inspect_attempts(db, out);
  inspect_recorded(db, root, hash, out);
  inspect_unrecorded(db, root, out);
  inspect_finished(db, root, out);
  return out;
}

Inspection inspect(const fs::path& file, const fs::path& root, bool hash) {
  Database database(file, OpenMode::read);
  return database.read([&](SQLite::Database& db) { return inspect(db, root, hash); });
}

}  // namespace

bool CheckReport::sound() const {
  return std::all_of(findings.begin(), findings.end(),
                     [](const Finding& finding) { return finding.repaired; });
}

CheckReport check_database(const fs::path& file, const fs::path& root,
                           const CheckOptions& options) {
  const auto first = inspect(file, root, options.hash);
  CheckReport report{first.checks, {}};
  const auto note = [&](const std::vector<Problem>& problems) {
    for (const auto& problem : problems) {
      const auto& what = problem.finding.what;
      const bool known = std::any_of(report.findings.begin(), report.findings.end(),
                                     [&](const Finding& finding) { return finding.what == what; });
      if (!known) report.findings.push_back(problem.finding);
    }
  };
  note(first.problems);
  if (!options.repair || first.problems.empty()) return report;

  {
    Database database(file, OpenMode::write);  // marks the dead, whose runs may prove finished
    database.write([&](SQLite::Database& db) {
      const auto now = inspect(db, root, options.hash);
      note(now.problems);
      for (const auto& problem : now.problems) {
        if (problem.repair) problem.repair(db);
      }
    });
  }
  const auto last = inspect(file, root, options.hash);
  std::set<std::string> left;
  for (const auto& problem : last.problems) left.insert(problem.finding.what);
  for (auto& finding : report.findings) finding.repaired = left.count(finding.what) == 0;
  note(last.problems);
  return report;
}

}  // namespace dkdm::results

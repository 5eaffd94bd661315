#include "results/store/examples.hpp"

namespace dkdm::results {

const std::vector<QueryExample>& query_examples() {
  static const std::vector<QueryExample> kExamples = {
      {"table2", "Each method's FID beside the paper's, over seeds:",
       "SELECT experiment, label, avg(fid) AS fid, count(*) AS seeds, published_fid FROM table2 "
       "WHERE asked = 1 GROUP BY experiment, row, variant, protocol, sample_count, weights "
       "ORDER BY experiment, row_order"},
      {"table3", "FID and sFID of the latent-space methods:",
       "SELECT experiment, label, seed, fid, sfid, published_fid, published_sfid FROM table3"},
      {"table4", "What the synthetic sets cost, in teacher evaluations and hours:",
       "SELECT experiment, dataset, images, published_images, teacher_evaluations, "
       "seconds / 3600 AS hours FROM table4"},
      {"table5", "FID of every student under every teacher, best method first:",
       "SELECT teacher, student, method, min(fid) AS fid, published_fid FROM table5 "
       "GROUP BY teacher, student, method ORDER BY teacher, student, fid"},
      {"figure4a", "FID along the training of each method, mean over seeds:",
       "SELECT experiment, method, step, avg(fid) AS fid FROM figure4a "
       "WHERE asked = 1 GROUP BY experiment, method, variant, step"},
      {"figure4a", "The first step at which a method came below an FID of 10:",
       "SELECT experiment, label, seed, min(step) AS step FROM figure4a WHERE fid < 10 "
       "GROUP BY experiment, row, variant, seed"},
      {"figure4b", "The last FID of every rho:",
       "SELECT experiment, rho, seed, max(step) AS step, fid FROM figure4b "
       "GROUP BY experiment, rho, variant, seed"},
      {"section10", "What training takes, by method and size of the batch set:",
       "SELECT experiment, label, rho, peak_bytes / 1e9 AS peak_gb, device_peak_bytes / 1e9 AS "
       "device_peak_gb, held_bytes / 1e9 AS held_gb, steps_per_second, 100 * teacher_share AS teacher_percent, device FROM section10"},
      {"cells", "What choosing the best step gains over the last, where a rule chose it:",
       "SELECT experiment, label, seed, selection, step, fid, last_fid, last_fid - fid AS gain "
       "FROM cells WHERE selection <> 'last' ORDER BY gain DESC"},
      {"cells", "Everything that was evaluated by one protocol, best first:",
       "SELECT experiment, label, seed, fid FROM cells WHERE protocol LIKE 'classifier%' "
       "ORDER BY protocol, fid"},
      {"leaderboard", "The best student of each experiment by FID:",
       "SELECT experiment, label, variant, mean, seeds FROM leaderboard "
       "WHERE metric = 'fid' AND place = 1"},
      {"latest_metrics", "All values of one run:",
       "SELECT name, value, protocol, sample_count, step, weights FROM latest_metrics WHERE run = 1"},
      {"latest_runs", "How many seeds of each row and configuration are done:",
       "SELECT experiment, row, variant, count(DISTINCT seed) AS seeds FROM latest_runs "
       "GROUP BY experiment, row, variant"},
      {"asked", "What the last command of each experiment asked for and is not done:",
       "SELECT a.experiment, a.row, a.seed, a.command FROM asked a LEFT JOIN latest_runs l "
       "ON l.experiment = a.experiment AND l.row = a.row AND l.seed = a.seed AND l.key = a.key "
       "WHERE l.run IS NULL"},
      {"variants", "Configurations of each row; `dkdm runs diff` says what two of them differ in:",
       "SELECT experiment, row, variant, seeds, newest_run, asked FROM variants"},
      {"training_fid", "FID along the training of everything that was evaluated on its way:",
       "SELECT experiment, row, variant, seed, step, fid FROM training_fid ORDER BY run, step"},
      {"run_plugins", "The plugins of each run, with their versions:",
       "SELECT run, kind, name, version FROM run_plugins ORDER BY run, kind"},
      {"run_status", "What is running, where, and since when:",
       "SELECT run, experiment, row, seed, host, pid, started_iso FROM run_status "
       "WHERE status = 'running'"},
      {"failures", "What went wrong, newest first:",
       "SELECT run, experiment, row, seed, status, stage, message FROM failures "
       "ORDER BY ended DESC"},
      {"costs", "Hours that each experiment took; shared stages are counted once:",
       "SELECT experiment, sum(elapsed_s / shared_by) / 3600 AS hours, max(peak_bytes) / 1e9 AS "
       "peak_gb FROM costs GROUP BY experiment"},
      {"costs", "How fast students trained, by device; with the teacher's share of their time:",
       "SELECT c.experiment, c.row, m.device, m.precision, avg(c.examples_per_s) AS examples_per_s, "
       "100 * avg(c.teacher_share) AS teacher_percent, max(c.device_peak_bytes) / 1e9 AS "
       "device_peak_gb FROM costs c JOIN run_machines m ON m.run = c.run "
       "WHERE c.stage = 'train' AND c.status = 'done' "
       "GROUP BY c.experiment, c.row, c.variant, m.device, m.precision"},
      {"costs", "Teacher evaluations and student steps of each run:",
       "SELECT run, row, seed, sum(teacher_evaluations) AS teacher_evaluations, "
       "sum(student_steps) AS student_steps FROM costs GROUP BY run"},
      {"costs", "Arithmetic of each run, by what it was spent on, in petaFLOPs:",
       "SELECT run, row, seed, sum(flops) / 1e15 AS pflops, "
       "sum(flops) FILTER (WHERE stage = 'teacher') / 1e15 AS teacher, "
       "sum(flops) FILTER (WHERE stage IN ('synthetic', 'pool')) / 1e15 AS prepared, "
       "sum(flops) FILTER (WHERE stage = 'train') / 1e15 AS train, "
       "sum(flops) FILTER (WHERE stage = 'sample') / 1e15 AS sampled FROM costs GROUP BY run"},
      {"run_machines", "On how many threads the runs computed, and why:",
       "SELECT run, host, cpu, cores, threads, threads_reason FROM run_machines"},
      {"run_machines", "How many runs computed on which device, and where:",
       "SELECT host, device, CASE device WHEN 'cpu' THEN cpu ELSE gpu END AS name, driver, "
       "repeatable, precision, count(*) AS runs FROM run_machines "
       "GROUP BY host, device, name, driver, repeatable, precision"},
      {"settings", "FID by learning rate, whatever experiment it was set in:",
       "SELECT s.number AS lr, c.experiment, c.row, c.seed, c.fid FROM settings s "
       "JOIN cells c ON c.run = s.run WHERE s.key = 'train.lr' ORDER BY c.protocol, lr"},
      {"curves", "The training loss of one run:",
       "SELECT step, value FROM curves JOIN stages ON stage_key = key "
       "WHERE run = 1 AND stages.name = 'train' AND curves.name = 'loss'"},
  };
  return kExamples;
}

Table examples_table() {
  Table table{"", {{"view"}, {"question"}, {"query"}}, {}};
  for (const auto& example : query_examples()) {
    table.rows.push_back({example.view, example.question, example.sql});
  }
  return table;
}

}  // namespace dkdm::results

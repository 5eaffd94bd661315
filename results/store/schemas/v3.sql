-- The results database of dkdm, schema version 3. Times are Unix seconds; seconds, bytes and counts
-- are what they say; '' means "none". Facts are added, never changed: a repeat is a new run, the
-- state of a run is the state of its last attempt. `dkdm query --examples` has a query of each view.

-- One experiment file as it was described when its runs began. Runs are grouped by its name.
CREATE TABLE experiments (
  id                INTEGER PRIMARY KEY,
  name              TEXT NOT NULL,
  title             TEXT NOT NULL,
  table_shape       TEXT NOT NULL,  -- what it reproduces: 'table2' … 'figure4b', or ''
  published_section TEXT NOT NULL,  -- section of published: 'table2.cifar10'
  scale             TEXT NOT NULL,  -- 'desk' or 'paper'
  file              TEXT NOT NULL,
  UNIQUE (name, title, table_shape, published_section, scale, file)
) STRICT;

-- One row of an experiment at one seed: what was asked for, immutable.
CREATE TABLE runs (
  id            INTEGER PRIMARY KEY,      -- within this file; differs in a merged one
  uid           TEXT NOT NULL UNIQUE,     -- of this run wherever it is recorded
  experiment    INTEGER NOT NULL REFERENCES experiments (id),
  key           TEXT NOT NULL,            -- content key of its last stage: equal keys, same computation
  row           TEXT NOT NULL,            -- id of the row in the experiment file
  label         TEXT NOT NULL,            -- its name in reports
  row_order     INTEGER NOT NULL,         -- its place in the file, from 0
  seed          INTEGER NOT NULL CHECK (seed >= 0),
  method        TEXT NOT NULL,            -- plugins' names; method '' = the row is the teacher itself
  student       TEXT NOT NULL,
  teacher       TEXT NOT NULL,
  dataset       TEXT NOT NULL,
  evaluator     TEXT NOT NULL,
  published_row TEXT NOT NULL,            -- row of published, within the experiment's section
  parameters    INTEGER NOT NULL CHECK (parameters >= 0),  -- of the evaluated network
  created       REAL NOT NULL,
  config        TEXT NOT NULL             -- complete resolved TOML: an experiment file itself
) STRICT;
CREATE INDEX runs_by_row ON runs (experiment, row, seed, created);
CREATE INDEX runs_by_key ON runs (key);

CREATE TRIGGER runs_are_immutable BEFORE UPDATE ON runs
BEGIN SELECT RAISE(ABORT, 'runs are immutable: a repeat is a new row'); END;

-- What a run's configuration says of its own row: config, flattened. Numbers are numbers.
CREATE TABLE settings (
  run   INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
  key   TEXT NOT NULL,  -- 'train.steps', 'method.rho', 'student.plugin', 'teacher.train.lr', …
  value ANY NOT NULL,   -- number or text; 'true' or 'false'; a list as TOML writes it
  PRIMARY KEY (run, key)
) STRICT, WITHOUT ROWID;

-- A machine with its software. Equal environments share one row.
CREATE TABLE environments (
  id           INTEGER PRIMARY KEY,
  host         TEXT NOT NULL,
  os           TEXT NOT NULL,
  cpu          TEXT NOT NULL,
  cpu_features TEXT NOT NULL,      -- instruction sets that decide how fast it is: 'avx2 fma'
  gpu          TEXT NOT NULL,
  libtorch     TEXT NOT NULL,      -- version
  compiler     TEXT NOT NULL,
  dkdm_version TEXT NOT NULL,
  git_revision TEXT NOT NULL,
  git_dirty    INTEGER NOT NULL CHECK (git_dirty IN (0, 1)),  -- 1: built from a changed working tree
  cores        INTEGER NOT NULL,
  threads      INTEGER NOT NULL,   -- of one operation
  memory_bytes INTEGER NOT NULL,
  UNIQUE (host, os, cpu, cpu_features, gpu, libtorch, compiler, dkdm_version, git_revision,
          git_dirty, cores, threads, memory_bytes)
) STRICT;

-- One start of a run: the first, and one for each time it was continued.
CREATE TABLE attempts (
  id          INTEGER PRIMARY KEY,
  run         INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
  environment INTEGER NOT NULL REFERENCES environments (id),
  host        TEXT NOT NULL,
  pid         INTEGER NOT NULL,
  process     TEXT NOT NULL,       -- boot and start time: tells a reused pid from this process
  started     REAL NOT NULL,
  ended       REAL,                -- NULL: still running, or crashed
  status      TEXT NOT NULL CHECK (status IN ('running', 'done', 'failed', 'interrupted', 'crashed')),
  stage       TEXT NOT NULL DEFAULT '',  -- where it ended when not done
  message     TEXT NOT NULL DEFAULT ''   -- why
) STRICT;
CREATE INDEX attempts_by_run ON attempts (run, id, status);
CREATE INDEX attempts_by_environment ON attempts (environment);
CREATE INDEX attempts_running ON attempts (host) WHERE status = 'running';

-- What the plugin files said of themselves when a run started.
CREATE TABLE plugins (
  id      INTEGER PRIMARY KEY,
  kind    TEXT NOT NULL,
  name    TEXT NOT NULL,
  version TEXT NOT NULL,
  summary TEXT NOT NULL,
  file    TEXT NOT NULL,
  UNIQUE (kind, name, version, summary, file)
) STRICT;

-- The plugins that were loaded in an attempt.
CREATE TABLE attempt_plugins (
  attempt INTEGER NOT NULL REFERENCES attempts (id) ON DELETE CASCADE,
  plugin  INTEGER NOT NULL REFERENCES plugins (id),
  PRIMARY KEY (attempt, plugin)
) STRICT, WITHOUT ROWID;

-- What a run is made of: teacher, synthetic or pool, train, sample, evaluator, evaluate, and course, the
-- evaluations of weights that the training kept on its way. A sample without an artifact went straight
-- into the evaluator.
CREATE TABLE stages (
  run                 INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
  name                TEXT NOT NULL,
  key                 TEXT NOT NULL,     -- content key: runs that share a stage share its key
  plugin              TEXT NOT NULL,
  status              TEXT NOT NULL CHECK (status IN ('done', 'cached', 'failed')),
  started             REAL NOT NULL,
  elapsed_s           REAL NOT NULL,     -- work that made the artifact, over all attempts
  artifact            TEXT NOT NULL,     -- folder, relative to the store's root
  bytes               INTEGER NOT NULL CHECK (bytes >= 0),
  steps               INTEGER NOT NULL CHECK (steps >= 0),  -- training steps or images
  teacher_evaluations INTEGER NOT NULL CHECK (teacher_evaluations >= 0),  -- images through the teacher
  flops               REAL CHECK (flops >= 0),  -- of its networks (see costs); NULL: not counted
  peak_bytes          INTEGER NOT NULL CHECK (peak_bytes >= 0),  -- resident memory
  error               TEXT NOT NULL,
  PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX stages_by_key ON stages (key);

-- What a stage's key is the hash of, as named texts: two keys differ because one of these does.
CREATE TABLE determinants (
  stage_key TEXT NOT NULL,
  part      TEXT NOT NULL,               -- 'student', 'method', 'train', 'seed', 'teacher', …
  position  INTEGER NOT NULL,            -- its place in the hash
  value     TEXT NOT NULL,
  PRIMARY KEY (stage_key, part)
) STRICT, WITHOUT ROWID;

-- Values compare only under one protocol, reference, sample count and kind of weights.
CREATE TABLE metrics (
  id               INTEGER PRIMARY KEY,
  run              INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
  name             TEXT NOT NULL CHECK (name <> ''),  -- 'is', 'fid', 'sfid', …
  value            REAL,                 -- NULL: not a number
  higher_is_better INTEGER NOT NULL CHECK (higher_is_better IN (0, 1)),
  unit             TEXT NOT NULL,
  protocol         TEXT NOT NULL,        -- evaluator, network with hash, preprocessing, rules
  reference        TEXT NOT NULL,        -- fingerprint of the reference set; '' = needs none
  sample_count     INTEGER NOT NULL CHECK (sample_count >= 0),
  step             INTEGER NOT NULL CHECK (step >= 0),  -- training step of the evaluated weights
  seed             INTEGER NOT NULL,     -- of the run, from which the samples' seed derives
  weights          TEXT NOT NULL CHECK (weights IN ('ema', 'raw')),
  recorded         REAL NOT NULL
) STRICT;
-- The same value again is the same fact.
CREATE UNIQUE INDEX metrics_once ON metrics (run, name, protocol, reference, sample_count, weights,
                                             step, coalesce(value, 'not a number'));

-- Of each metric of a run, under what it may be compared, the value of the last training step, the
-- newest where there are several. Kept by a trigger, for latest_metrics.
CREATE TABLE latest_values (
  metric INTEGER PRIMARY KEY REFERENCES metrics (id) ON DELETE CASCADE
) STRICT;

CREATE TRIGGER metrics_have_a_latest AFTER INSERT ON metrics
BEGIN
  -- The one that counted so far, unless it is of a later step.
  DELETE FROM latest_values WHERE metric = (
    SELECT id FROM metrics
    WHERE run = NEW.run AND name = NEW.name AND protocol = NEW.protocol
      AND reference = NEW.reference AND sample_count = NEW.sample_count AND weights = NEW.weights
      AND step <= NEW.step AND id <> NEW.id
    ORDER BY step DESC, id DESC LIMIT 1);
  INSERT INTO latest_values SELECT NEW.id WHERE NOT EXISTS (
    SELECT 1 FROM metrics
    WHERE run = NEW.run AND name = NEW.name AND protocol = NEW.protocol
      AND reference = NEW.reference AND sample_count = NEW.sample_count AND weights = NEW.weights
      AND step > NEW.step);
END;

CREATE TRIGGER metrics_are_immutable BEFORE UPDATE ON metrics
BEGIN SELECT RAISE(ABORT, 'metrics are immutable: a new value is a new row'); END;

-- Training curves, by the key of the stage that was trained, so runs that share it share them.
CREATE TABLE curves (
  stage_key TEXT NOT NULL,
  name      TEXT NOT NULL,               -- 'loss', 'mse', 'vb', 'grad_norm', 'lr', 'step_seconds'
  step      INTEGER NOT NULL,
  value     REAL,                        -- NULL: not a number
  PRIMARY KEY (stage_key, name, step)
) STRICT, WITHOUT ROWID;

-- Folders of the artifact store. One that was made again under the same key has one more row.
CREATE TABLE artifacts (
  id       INTEGER PRIMARY KEY,
  key      TEXT NOT NULL,                -- of the stage that made it
  kind     TEXT NOT NULL,                -- 'train', 'synthetic', 'pool', 'sample', 'evaluator', …
  path     TEXT NOT NULL,                -- relative to the store's root
  sha256   TEXT NOT NULL,                -- over the names and hashes of its files
  bytes    INTEGER NOT NULL CHECK (bytes >= 0),
  recorded REAL NOT NULL,
  UNIQUE (key, kind, path, sha256)
) STRICT;

-- The paper's figures (published.toml), to stand beside ours.
CREATE TABLE published (
  section TEXT NOT NULL,                 -- 'table2.cifar10'
  row     TEXT NOT NULL,                 -- 'dynamic'; in table5 'TEACHER_STUDENT_ROW'
  metric  TEXT NOT NULL,                 -- 'is', 'fid', 'sfid'; in table4 'images', 'steps'
  value   REAL NOT NULL,
  PRIMARY KEY (section, row, metric)
) STRICT, WITHOUT ROWID;

-- A run with the state of its last attempt. seconds: all attempts that have an end, and the one
-- that is running.
CREATE VIEW run_status AS
SELECT r.id AS run, e.name AS experiment, r.row, r.label, r.row_order, r.seed, r.key,
       a.status, a.stage, a.message, a.host, a.pid,
       (SELECT min(started) FROM attempts WHERE run = r.id) AS started, a.ended,
       (SELECT sum(CASE WHEN ended IS NOT NULL THEN ended - started
                        WHEN status = 'running' THEN (julianday('now') - 2440587.5) * 86400 - started
                        ELSE 0 END)
        FROM attempts WHERE run = r.id) AS seconds
FROM runs r
JOIN experiments e ON e.id = r.experiment
JOIN attempts a ON a.id = (SELECT max(id) FROM attempts WHERE run = r.id);

-- The run that counts: of each row and seed the finished one that was begun last.
CREATE VIEW latest_runs AS
SELECT e.name AS experiment, r.row, r.seed, r.id AS run, max(r.created) AS created
FROM runs r
JOIN experiments e ON e.id = r.experiment
WHERE (SELECT status FROM attempts WHERE run = r.id ORDER BY id DESC LIMIT 1) = 'done'
GROUP BY e.name, r.row, r.seed;

-- The values that count of each run, finished or not: of the last training step, the newest.
CREATE VIEW latest_metrics AS
SELECT m.id, m.run, e.name AS experiment, r.row, r.label, r.seed, m.name, m.value,
       m.higher_is_better, m.unit, m.protocol, m.reference, m.sample_count, m.step, m.weights
FROM latest_values v
JOIN metrics m ON m.id = v.metric
JOIN runs r ON r.id = m.run
JOIN experiments e ON e.id = r.experiment;

-- One line for each run that counts and each way it was evaluated; tables 2, 3 and 5 are parts of it.
-- Compare lines of one protocol, reference, sample_count and weights only. (IS is a word of SQL, hence
-- inception_score.)
CREATE VIEW cells AS
SELECT r.id AS run, l.experiment, e.table_shape, l.row, r.label, l.seed, r.method, r.student,
       (SELECT i.value FROM metrics i JOIN latest_values v ON v.metric = i.id
        WHERE i.run = r.id AND i.name = 'is' AND i.protocol = f.protocol
          AND i.reference IN ('', f.reference) AND i.sample_count = f.sample_count
          AND i.weights = f.weights LIMIT 1) AS inception_score,
       f.value AS fid,
       (SELECT s.value FROM metrics s JOIN latest_values v ON v.metric = s.id
        WHERE s.run = r.id AND s.name = 'sfid' AND s.protocol = f.protocol
          AND s.reference = f.reference AND s.sample_count = f.sample_count
          AND s.weights = f.weights) AS sfid,
       f.protocol, f.reference, f.sample_count, f.weights, f.step, r.parameters,
       coalesce((SELECT elapsed_s FROM stages WHERE run = r.id AND name = 'train'),
                (SELECT elapsed_s FROM stages WHERE run = r.id AND name = 'teacher'))
         AS train_seconds,
       (SELECT value FROM published WHERE section = e.published_section AND metric = 'is'
          AND row = replace(r.published_row, '-', '_')) AS published_is,
       (SELECT value FROM published WHERE section = e.published_section AND metric = 'fid'
          AND row = replace(r.published_row, '-', '_')) AS published_fid,
       (SELECT value FROM published WHERE section = e.published_section AND metric = 'sfid'
          AND row = replace(r.published_row, '-', '_')) AS published_sfid,
       r.row_order
FROM latest_runs l
CROSS JOIN runs r ON r.id = l.run
CROSS JOIN experiments e ON e.id = r.experiment
CROSS JOIN metrics f ON f.run = r.id AND f.name = 'fid'
JOIN latest_values v ON v.metric = f.id;

-- The paper's Table 2, methods in pixel space: a line for each row and seed.
CREATE VIEW table2 AS
SELECT run, experiment, row, label, seed, inception_score, fid, sfid, protocol, reference,
       sample_count, weights, parameters, train_seconds, published_is, published_fid,
       published_sfid, row_order
FROM cells WHERE table_shape = 'table2' ORDER BY experiment, row_order, seed;

-- The paper's Table 3, methods in latent space: FID and sFID.
CREATE VIEW table3 AS
SELECT run, experiment, row, label, seed, fid, sfid, protocol, reference, sample_count, weights,
       parameters, train_seconds, published_fid, published_sfid, row_order
FROM cells WHERE table_shape = 'table3' ORDER BY experiment, row_order, seed;

-- The paper's Table 4, the baselines' synthetic sets: a line for each set that was made, with the
-- paper's of the same dataset beside.
CREATE VIEW table4 AS
SELECT e.name AS experiment, r.dataset, s.steps AS images,
       (SELECT value FROM settings WHERE run = r.id AND key = 'synthetic.sampler') AS sampler,
       (SELECT value FROM settings WHERE run = r.id AND key = 'synthetic.respacing') AS respacing,
       s.elapsed_s AS seconds, s.teacher_evaluations, s.bytes, s.artifact, s.runs,
       (SELECT value FROM published WHERE section = 'table4' AND metric = 'images'
          AND row = substr(e.published_section, instr(e.published_section, '.') + 1))
         AS published_images,
       (SELECT value FROM published WHERE section = 'table4' AND metric = 'steps'
          AND row = substr(e.published_section, instr(e.published_section, '.') + 1))
         AS published_steps,
       s.key
FROM (SELECT key, max(run) AS run, count(*) AS runs, steps, elapsed_s, teacher_evaluations, bytes,
             artifact
      FROM stages WHERE name = 'synthetic' AND status <> 'failed' GROUP BY key) s
JOIN runs r ON r.id = s.run
JOIN experiments e ON e.id = r.experiment
ORDER BY experiment, images;

-- The paper's Table 5, FID across architectures: teacher and student are the networks' plugins.
CREATE VIEW table5 AS
SELECT run, experiment,
       coalesce((SELECT value FROM settings WHERE run = c.run AND key = 'teacher.student.plugin'),
                (SELECT teacher FROM runs WHERE id = c.run)) AS teacher,
       student, method, row, label, seed, fid, protocol, reference, sample_count, weights,
       parameters, train_seconds, published_fid, row_order
FROM cells c WHERE table_shape = 'table5' ORDER BY experiment, row_order, seed;

-- The paper's Figure 4a, FID along the training of each method: a line for each evaluated step.
-- teacher_evaluations: images through the teacher until then; what was prepared (a synthetic set, a
-- batch set) is in from the start.
CREATE VIEW figure4a AS
SELECT m.run, e.name AS experiment, r.row, r.label, r.method, r.seed, m.step, m.value AS fid,
       m.protocol, m.reference, m.sample_count, m.weights,
       (SELECT CAST(round(total(CASE name WHEN 'train' THEN 1.0 * teacher_evaluations * m.step /
                                                            max(steps, 1)
                                          ELSE teacher_evaluations END)) AS INTEGER)
        FROM stages WHERE run = m.run AND name IN ('synthetic', 'pool', 'train')) AS teacher_evaluations,
       max(m.id) AS metric, r.row_order
FROM latest_runs l
CROSS JOIN runs r ON r.id = l.run
CROSS JOIN experiments e ON e.id = r.experiment AND e.table_shape = 'figure4a'
CROSS JOIN metrics m ON m.run = r.id AND m.name = 'fid'
GROUP BY m.run, m.protocol, m.reference, m.sample_count, m.weights, m.step
ORDER BY experiment, r.row_order, r.seed, m.step;

-- The paper's Figure 4b, FID along the training of dynamic distillation for each rho.
CREATE VIEW figure4b AS
SELECT m.run, e.name AS experiment, r.row, r.label,
       (SELECT value FROM settings WHERE run = r.id AND key = 'method.rho') AS rho,
       r.seed, m.step, m.value AS fid, m.protocol, m.reference, m.sample_count, m.weights,
       (SELECT CAST(round(total(CASE name WHEN 'train' THEN 1.0 * teacher_evaluations * m.step /
                                                            max(steps, 1)
                                          ELSE teacher_evaluations END)) AS INTEGER)
        FROM stages WHERE run = m.run AND name IN ('synthetic', 'pool', 'train')) AS teacher_evaluations,
       max(m.id) AS metric, r.row_order
FROM latest_runs l
CROSS JOIN runs r ON r.id = l.run
CROSS JOIN experiments e ON e.id = r.experiment AND e.table_shape = 'figure4b'
CROSS JOIN metrics m ON m.run = r.id AND m.name = 'fid'
GROUP BY m.run, m.protocol, m.reference, m.sample_count, m.weights, m.step
ORDER BY experiment, rho, r.seed, m.step;

-- Rows ranked by the mean over seeds, within what may be compared. The teacher is not ranked.
CREATE VIEW leaderboard AS
SELECT m.experiment, m.name AS metric, m.protocol, m.reference, m.sample_count, m.weights,
       rank() OVER (PARTITION BY m.experiment, m.name, m.protocol, m.reference, m.sample_count,
                                 m.weights
                    ORDER BY avg(m.value) * CASE WHEN m.higher_is_better THEN -1 ELSE 1 END)
         AS place,
       m.row, m.label, avg(m.value) AS mean, count(m.value) AS seeds
FROM latest_runs l
CROSS JOIN runs r ON r.id = l.run
CROSS JOIN latest_metrics m ON m.run = l.run
WHERE r.method <> '' AND m.value IS NOT NULL
GROUP BY m.experiment, m.name, m.protocol, m.reference, m.sample_count, m.weights, m.row
ORDER BY m.experiment, metric, m.protocol, place;

-- Runs whose last attempt did not end well.
CREATE VIEW failures AS
SELECT run, experiment, row, seed, status, stage, message, ended
FROM run_status WHERE status IN ('failed', 'interrupted', 'crashed');

-- What each stage of each run cost. A stage shared by several runs was paid for once: add up
-- elapsed_s / shared_by. flops: a multiply-add is two; of teacher evaluations, of images drawn, and
-- three forwards for each example a student was trained on. Evaluators' own networks are not counted.
CREATE VIEW costs AS
WITH shared AS MATERIALIZED (
  SELECT key, count(*) AS runs FROM stages GROUP BY key HAVING count(*) > 1)
SELECT s.run, e.name AS experiment, r.row, r.seed, s.name AS stage, s.plugin, s.status,
       s.elapsed_s, s.steps, CASE s.name WHEN 'train' THEN s.steps ELSE 0 END AS student_steps,
       s.teacher_evaluations, s.flops, s.peak_bytes, s.bytes, coalesce(h.runs, 1) AS shared_by,
       s.key
FROM runs r
CROSS JOIN experiments e ON e.id = r.experiment
CROSS JOIN stages s ON s.run = r.id
LEFT JOIN shared h ON h.key = s.key;

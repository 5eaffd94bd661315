-- The results database of dkdm, schema version 1. Times are Unix seconds; seconds, bytes and counts
-- are what they say; '' means "none". Facts are added, never changed: a repeat is a new run, the
-- state of a run is the state of its last attempt. README.md beside this file has example queries.

-- One experiment file as it was described when its runs began. Runs are grouped by its name.
CREATE TABLE experiments (
  id                INTEGER PRIMARY KEY,
  name              TEXT NOT NULL,
  title             TEXT NOT NULL,
  table_shape       TEXT NOT NULL,  -- shape of its report: 'table2'
  published_section TEXT NOT NULL,  -- section of published: 'table2.cifar10'
  scale             TEXT NOT NULL,  -- 'desk' or 'paper'
  file              TEXT NOT NULL,
  UNIQUE (name, title, table_shape, published_section, scale, file)
) STRICT;

-- One row of an experiment at one seed: what was asked for, immutable.
CREATE TABLE runs (
  id            INTEGER PRIMARY KEY,
  experiment    INTEGER NOT NULL REFERENCES experiments (id),
  key           TEXT NOT NULL,     -- content key of its last stage: equal keys, same computation
  row           TEXT NOT NULL,     -- id of the row in the experiment file
  label         TEXT NOT NULL,
  row_order     INTEGER NOT NULL,
  seed          INTEGER NOT NULL,
  method        TEXT NOT NULL,     -- plugins' names; method '' = the row is the teacher itself
  student       TEXT NOT NULL,
  teacher       TEXT NOT NULL,
  dataset       TEXT NOT NULL,
  evaluator     TEXT NOT NULL,
  published_row TEXT NOT NULL,     -- row of published, within the experiment's section
  config        TEXT NOT NULL,     -- complete resolved TOML
  parameters    INTEGER NOT NULL,  -- of the evaluated network
  created       REAL NOT NULL
) STRICT;
CREATE INDEX runs_by_row ON runs (experiment, row, seed);
CREATE INDEX runs_by_key ON runs (key);

CREATE TRIGGER runs_are_immutable BEFORE UPDATE ON runs
BEGIN SELECT RAISE(ABORT, 'runs are immutable: a repeat is a new row'); END;

-- A machine with its software. Equal environments share one row.
CREATE TABLE environments (
  id           INTEGER PRIMARY KEY,
  host         TEXT NOT NULL,
  os           TEXT NOT NULL,
  cpu          TEXT NOT NULL,
  cpu_features TEXT NOT NULL,
  gpu          TEXT NOT NULL,
  libtorch     TEXT NOT NULL,
  compiler     TEXT NOT NULL,
  dkdm_version TEXT NOT NULL,
  git_revision TEXT NOT NULL,
  git_dirty    INTEGER NOT NULL,   -- 1: built from a changed working tree
  cores        INTEGER NOT NULL,
  threads      INTEGER NOT NULL,
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
  message     TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX attempts_by_run ON attempts (run);

CREATE TABLE plugins (
  id      INTEGER PRIMARY KEY,
  kind    TEXT NOT NULL,
  name    TEXT NOT NULL,
  version TEXT NOT NULL,
  summary TEXT NOT NULL,
  file    TEXT NOT NULL,
  UNIQUE (kind, name, version, summary, file)
) STRICT;

CREATE TABLE attempt_plugins (
  attempt INTEGER NOT NULL REFERENCES attempts (id) ON DELETE CASCADE,
  plugin  INTEGER NOT NULL REFERENCES plugins (id),
  PRIMARY KEY (attempt, plugin)
) STRICT, WITHOUT ROWID;

-- What a run is made of: teacher, synthetic or pool, train, sample, evaluator, evaluate.
CREATE TABLE stages (
  run                 INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
  name                TEXT NOT NULL,
  key                 TEXT NOT NULL,     -- content key: runs that share a stage share its key
  plugin              TEXT NOT NULL,
  status              TEXT NOT NULL CHECK (status IN ('done', 'cached', 'failed')),
  started             REAL NOT NULL,
  elapsed_s           REAL NOT NULL,     -- work that made the artifact, over all attempts
  artifact            TEXT NOT NULL,     -- folder, relative to the store's root
  bytes               INTEGER NOT NULL,
  steps               INTEGER NOT NULL,  -- training steps or images
  teacher_evaluations INTEGER NOT NULL,
  peak_bytes          INTEGER NOT NULL,  -- resident memory
  error               TEXT NOT NULL,
  PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX stages_by_key ON stages (key);

-- Values compare only under one protocol, reference, sample count and kind of weights.
CREATE TABLE metrics (
  id               INTEGER PRIMARY KEY,
  run              INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
  name             TEXT NOT NULL,        -- 'is', 'fid', 'sfid', …
  value            REAL,                 -- NULL: not a number
  higher_is_better INTEGER NOT NULL,
  unit             TEXT NOT NULL,
  protocol         TEXT NOT NULL,        -- evaluator, network with hash, preprocessing, rules
  reference        TEXT NOT NULL,        -- fingerprint of the reference set
  sample_count     INTEGER NOT NULL,
  step             INTEGER NOT NULL,     -- training step of the evaluated weights
  weights          TEXT NOT NULL,        -- 'ema' or 'raw'
  recorded         REAL NOT NULL,
  UNIQUE (run, name, protocol, reference, sample_count, step, weights, value)
) STRICT;

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

CREATE TABLE artifacts (
  id       INTEGER PRIMARY KEY,
  key      TEXT NOT NULL,                -- of the stage that made it
  kind     TEXT NOT NULL,
  path     TEXT NOT NULL,                -- relative to the store's root
  sha256   TEXT NOT NULL,
  bytes    INTEGER NOT NULL,
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

-- The run that counts: the latest finished one of each row and seed.
CREATE VIEW latest_runs AS
SELECT experiment, row, seed, max(run) AS run
FROM run_status WHERE status = 'done' GROUP BY experiment, row, seed;

-- The newest value of each metric of each run, of finished and unfinished runs alike.
CREATE VIEW latest_metrics AS
SELECT max(m.id) AS id, m.run, e.name AS experiment, r.row, r.label, r.seed, m.name, m.value,
       m.higher_is_better, m.unit, m.protocol, m.reference, m.sample_count, m.step, m.weights
FROM metrics m JOIN runs r ON r.id = m.run JOIN experiments e ON e.id = r.experiment
GROUP BY m.run, m.name, m.protocol, m.reference, m.sample_count, m.weights;

-- The paper's Table 2: a line for each row and seed. Compare lines of one protocol, reference,
-- sample_count and weights only. (IS is a word of SQL, hence inception_score.)
CREATE VIEW table2 AS
SELECT r.id AS run, l.experiment, l.row, r.label, l.seed,
       i.value AS inception_score, f.value AS fid, s.value AS sfid,
       f.protocol, f.reference, f.sample_count, f.weights, r.parameters,
       coalesce((SELECT elapsed_s FROM stages WHERE run = r.id AND name = 'train'),
                (SELECT elapsed_s FROM stages WHERE run = r.id AND name = 'teacher'))
         AS train_seconds,
       pi.value AS published_is, pf.value AS published_fid, ps.value AS published_sfid,
       r.row_order
FROM latest_runs l
JOIN runs r ON r.id = l.run
JOIN experiments e ON e.id = r.experiment
JOIN latest_metrics f ON f.run = r.id AND f.name = 'fid'
LEFT JOIN latest_metrics i ON i.run = r.id AND i.name = 'is' AND i.protocol = f.protocol
  AND i.sample_count = f.sample_count AND i.weights = f.weights AND i.reference IN ('', f.reference)
LEFT JOIN latest_metrics s ON s.run = r.id AND s.name = 'sfid' AND s.protocol = f.protocol
  AND s.sample_count = f.sample_count AND s.weights = f.weights AND s.reference = f.reference
LEFT JOIN published pi ON pi.section = e.published_section AND pi.metric = 'is'
  AND pi.row = replace(r.published_row, '-', '_')
LEFT JOIN published pf ON pf.section = e.published_section AND pf.metric = 'fid'
  AND pf.row = replace(r.published_row, '-', '_')
LEFT JOIN published ps ON ps.section = e.published_section AND ps.metric = 'sfid'
  AND ps.row = replace(r.published_row, '-', '_')
ORDER BY l.experiment, r.row_order, l.seed;

-- Rows ranked by the mean over seeds, within what may be compared. The teacher is not ranked.
CREATE VIEW leaderboard AS
SELECT m.experiment, m.name AS metric, m.protocol, m.reference, m.sample_count, m.weights,
       rank() OVER (PARTITION BY m.experiment, m.name, m.protocol, m.reference, m.sample_count,
                                 m.weights
                    ORDER BY avg(m.value) * CASE WHEN m.higher_is_better THEN -1 ELSE 1 END)
         AS place,
       m.row, m.label, avg(m.value) AS mean, count(m.value) AS seeds
FROM latest_runs l
JOIN latest_metrics m ON m.run = l.run
JOIN runs r ON r.id = l.run
WHERE r.method <> '' AND m.value IS NOT NULL
GROUP BY m.experiment, m.name, m.protocol, m.reference, m.sample_count, m.weights, m.row
ORDER BY m.experiment, metric, m.protocol, place;

-- Runs whose last attempt did not end well.
CREATE VIEW failures AS
SELECT run, experiment, row, seed, status, stage, message, ended
FROM run_status WHERE status IN ('failed', 'interrupted', 'crashed');

-- What each stage of each run cost. A stage shared by several runs was paid for once: add up
-- elapsed_s / shared_by.
CREATE VIEW costs AS
SELECT s.run, e.name AS experiment, r.row, r.seed, s.name AS stage, s.plugin, s.status,
       s.elapsed_s, s.steps, s.teacher_evaluations, s.peak_bytes, s.bytes,
       count(*) OVER (PARTITION BY s.key) AS shared_by, s.key
FROM stages s JOIN runs r ON r.id = s.run JOIN experiments e ON e.id = r.experiment;

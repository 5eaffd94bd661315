-- The results database of dkdm, schema version 7. Times are Unix seconds, and the same in
-- ISO 8601 (UTC) beside, in a column NAME_iso; seconds, bytes and counts are what they say; '' means
-- "none". Facts are added, never changed: a repeat is a new run, the state of a run is the state of
-- its last attempt. Views are standard SQL with a type for every column, so that other programs read
-- them too (DuckDB has its own idea of REAL and INTEGER, four bytes each: hence DOUBLE and BIGINT). `dkdm query --examples` has a query of each view.

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

-- One row of an experiment at one seed under one configuration: what was asked for, immutable.
CREATE TABLE runs (
  id            INTEGER PRIMARY KEY,      -- within this file; differs in a merged one
  uid           TEXT NOT NULL UNIQUE,     -- of this run wherever it is recorded
  experiment    INTEGER NOT NULL REFERENCES experiments (id),
  key           TEXT NOT NULL,            -- content key of its last stage: equal keys, same computation
  samples       TEXT NOT NULL,            -- content key of the samples that it evaluates
  variant       TEXT NOT NULL,            -- of the row: the same at every seed and by every evaluator
  row           TEXT NOT NULL,            -- id of the row in the experiment file
  label         TEXT NOT NULL,            -- its name in reports
  row_order     INTEGER NOT NULL,         -- its place in the file, from 0
  seed          INTEGER NOT NULL CHECK (seed >= 0),
  method        TEXT NOT NULL,            -- plugins' names; method '' = the row is the teacher itself
  student       TEXT NOT NULL,
  teacher       TEXT NOT NULL,            -- '' = the row uses none
  teacher_key   TEXT NOT NULL,            -- content key of its training, or the hash of its weights
  dataset       TEXT NOT NULL,
  evaluator     TEXT NOT NULL,
  published_row TEXT NOT NULL,            -- row of published, within the experiment's section
  parameters    INTEGER NOT NULL CHECK (parameters >= 0),  -- of the evaluated network
  created       REAL NOT NULL,
  created_iso   TEXT NOT NULL,            -- '2026-11-28T15:04:05.250Z'
  config        TEXT NOT NULL             -- complete resolved TOML: an experiment file itself
) STRICT;
CREATE INDEX runs_by_row ON runs (experiment, row, seed, key, created);
CREATE INDEX runs_by_samples ON runs (samples);
CREATE INDEX runs_by_key ON runs (key);

CREATE TRIGGER runs_are_immutable BEFORE UPDATE ON runs
BEGIN SELECT RAISE(ABORT, 'runs are immutable: a repeat is a new row'); END;

-- A run that somebody chose as the one that counts for its row and seed (dkdm runs pin).
CREATE TABLE pins (
  run        INTEGER PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
  note       TEXT NOT NULL,  -- why, as the user put it
  pinned     REAL NOT NULL,  -- when
  pinned_iso TEXT NOT NULL
) STRICT;

-- Configurations that commands asked for, each once: complete resolved TOML.
CREATE TABLE configs (
  id     INTEGER PRIMARY KEY,
  config TEXT NOT NULL UNIQUE
) STRICT;

-- A command that asked for cells of an experiment (dkdm run). A report without a file shows what the
-- last one of its experiment asked for.
CREATE TABLE requests (
  id           INTEGER PRIMARY KEY,
  uid          TEXT NOT NULL UNIQUE,      -- of this request wherever it is recorded
  experiment   INTEGER NOT NULL REFERENCES experiments (id),
  command      TEXT NOT NULL,             -- as typed; '' = of an earlier dkdm, which kept none
  host         TEXT NOT NULL,             -- where
  recorded     REAL NOT NULL,             -- when it began
  recorded_iso TEXT NOT NULL
) STRICT;
CREATE INDEX requests_by_experiment ON requests (experiment, recorded);

-- The cells that a command asked for, done or not: a run belongs to one by row, seed and key.
CREATE TABLE request_cells (
  request       INTEGER NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
  position      INTEGER NOT NULL,         -- their order in the table
  row           TEXT NOT NULL,            -- this and what follows as in runs
  label         TEXT NOT NULL,
  row_order     INTEGER NOT NULL,
  seed          INTEGER NOT NULL,
  key           TEXT NOT NULL,
  samples       TEXT NOT NULL,
  variant       TEXT NOT NULL,
  method        TEXT NOT NULL,            -- '' = the row is the teacher itself
  published_row TEXT NOT NULL,
  config        INTEGER NOT NULL REFERENCES configs (id),
  PRIMARY KEY (request, row, seed, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX request_cells_by_config ON request_cells (config);

-- What a run's configuration says of its own row: config, flattened.
CREATE TABLE settings (
  run    INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
  key    TEXT NOT NULL,  -- 'train.steps', 'method.rho', 'student.plugin', 'teacher.train.lr', …
  value  TEXT NOT NULL,  -- as text; 'true' or 'false'; a list as TOML writes it
  number REAL,           -- the value where it is a number: what to sort and compare by
  PRIMARY KEY (run, key)
) STRICT, WITHOUT ROWID;

-- A machine with its software. Equal environments share one row.
CREATE TABLE environments (
  id           INTEGER PRIMARY KEY,
  host         TEXT NOT NULL,
  os           TEXT NOT NULL,
  cpu          TEXT NOT NULL,
  cpu_features TEXT NOT NULL,      -- instruction sets that decide how fast it is: 'avx2 fma'
  gpu          TEXT NOT NULL,      -- the device's name; computing on the CPU, of the GPU that is there
  device       TEXT NOT NULL,      -- what networks computed on: 'cpu', 'cuda:0'
  driver       TEXT NOT NULL,      -- the device's, its version; '' = not known, or the CPU
  libtorch     TEXT NOT NULL,      -- version
  compiler     TEXT NOT NULL,
  dkdm_version TEXT NOT NULL,
  git_revision TEXT NOT NULL,
  git_dirty    INTEGER NOT NULL CHECK (git_dirty IN (0, 1)),  -- 1: built from a changed working tree
  cores        INTEGER NOT NULL,
  threads      INTEGER NOT NULL,   -- of one operation: counted, not asked for
  threads_reason TEXT NOT NULL,    -- what made it so many: 'OMP_NUM_THREADS=8; …'; '' = of schema 4 or before
  memory_bytes INTEGER NOT NULL,
  repeatable   INTEGER NOT NULL CHECK (repeatable IN (0, 1)),  -- 0: --fast chose a GPU's fastest kernels
  UNIQUE (host, os, cpu, cpu_features, gpu, device, driver, libtorch, compiler, dkdm_version,
          git_revision, git_dirty, cores, threads, threads_reason, memory_bytes, repeatable)
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
  started_iso TEXT NOT NULL,
  ended       REAL,                -- NULL: still running, or crashed
  ended_iso   TEXT,
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

-- The plugins that an attempt used: those of its stages.
CREATE TABLE attempt_plugins (
  attempt INTEGER NOT NULL REFERENCES attempts (id) ON DELETE CASCADE,
  plugin  INTEGER NOT NULL REFERENCES plugins (id),
  PRIMARY KEY (attempt, plugin)
) STRICT, WITHOUT ROWID;

-- What a run is made of: teacher, synthetic or pool, train, sample, evaluator, evaluate, and snapshots, the
-- evaluations of weights that the training kept on its way, and select, the choice among them. A sample
-- without an artifact went straight into the evaluator.
CREATE TABLE stages (
  run                 INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
  name                TEXT NOT NULL,
  key                 TEXT NOT NULL,     -- content key: runs that share a stage share its key
  plugin              TEXT NOT NULL,
  status              TEXT NOT NULL CHECK (status IN ('done', 'cached', 'failed')),
  started             REAL NOT NULL,
  started_iso         TEXT NOT NULL,
  elapsed_s           REAL NOT NULL,     -- work that made the artifact, over all attempts
  artifact            TEXT NOT NULL,     -- folder, relative to the store's root
  bytes               INTEGER NOT NULL CHECK (bytes >= 0),
  steps               INTEGER NOT NULL CHECK (steps >= 0),  -- training steps or images
  teacher_evaluations INTEGER NOT NULL CHECK (teacher_evaluations >= 0),  -- images through the teacher
  flops               REAL CHECK (flops >= 0),  -- of its networks (see costs); NULL: not counted
  teacher_s           REAL CHECK (teacher_s >= 0),  -- of elapsed_s, in the teacher's network; NULL: not measured
  held_bytes          REAL CHECK (held_bytes >= 0),  -- what a method keeps besides networks and batch: its set
  peak_bytes          INTEGER NOT NULL CHECK (peak_bytes >= 0),  -- resident memory of the process
  device_peak_bytes   REAL CHECK (device_peak_bytes >= 0),  -- of the device, in tensors; NULL: not counted, as on the CPU
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
  weights          TEXT NOT NULL          -- 'unlabelled' = nothing says which
                   CHECK (weights IN ('ema', 'raw', 'unlabelled')),
  recorded         REAL NOT NULL,
  recorded_iso     TEXT NOT NULL
) STRICT;
-- The same value again is the same fact.
CREATE UNIQUE INDEX metrics_once ON metrics (run, name, protocol, reference, sample_count, weights,
                                             step, coalesce(value, 'not a number'));

-- The training step whose values count for a run, where a rule chose it among those that were evaluated
-- (train.select); a run without one counts by its last step. Which value decided: by_value and what
-- follows, as in metrics.
CREATE TABLE selections (
  run             INTEGER PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
  rule            TEXT NOT NULL,      -- 'best:fid'
  step            INTEGER NOT NULL CHECK (step >= 0),
  last_step       INTEGER NOT NULL CHECK (last_step >= step),
  candidates      INTEGER NOT NULL CHECK (candidates > 0),  -- evaluated steps, the last one among them
  by_value        REAL NOT NULL,
  by_protocol     TEXT NOT NULL,
  by_reference    TEXT NOT NULL,
  by_sample_count INTEGER NOT NULL,
  by_weights      TEXT NOT NULL
) STRICT;

-- Of each metric of a run, under what it may be compared, the value of the selected training step where
-- a rule chose one that has a value, else of the last; the newest where there are several. Kept by
-- triggers, for latest_metrics.
CREATE TABLE latest_values (
  metric INTEGER PRIMARY KEY REFERENCES metrics (id) ON DELETE CASCADE
) STRICT;

CREATE TRIGGER metrics_have_a_latest AFTER INSERT ON metrics
BEGIN
  DELETE FROM latest_values WHERE metric IN (
    SELECT id FROM metrics
    WHERE run = NEW.run AND name = NEW.name AND protocol = NEW.protocol
      AND reference = NEW.reference AND sample_count = NEW.sample_count AND weights = NEW.weights);
  INSERT INTO latest_values
    SELECT id FROM metrics
    WHERE run = NEW.run AND name = NEW.name AND protocol = NEW.protocol
      AND reference = NEW.reference AND sample_count = NEW.sample_count AND weights = NEW.weights
    ORDER BY step = (SELECT s.step FROM selections s WHERE s.run = NEW.run) DESC, step DESC, id DESC
    LIMIT 1;
END;

CREATE TRIGGER selections_have_a_latest AFTER INSERT ON selections
BEGIN
  DELETE FROM latest_values WHERE metric IN (SELECT id FROM metrics WHERE run = NEW.run);
  INSERT INTO latest_values
    SELECT id FROM (
      SELECT id, row_number() OVER (PARTITION BY name, protocol, reference, sample_count, weights
                                    ORDER BY step = NEW.step DESC, step DESC, id DESC) AS place
      FROM metrics WHERE run = NEW.run)
    WHERE place = 1;
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
  recorded     REAL NOT NULL,
  recorded_iso TEXT NOT NULL,
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

-- A run with the state of its last attempt. seconds: of all attempts that have an end.
CREATE VIEW run_status AS
SELECT r.id AS run, e.name AS experiment, r.row, r.label, r.row_order, r.seed, r.variant, r.key,
       a.status, a.stage, a.message, a.host, a.pid,
       CAST((SELECT min(f.started) FROM attempts f WHERE f.run = r.id) AS DOUBLE) AS started,
       CAST((SELECT min(f.started_iso) FROM attempts f WHERE f.run = r.id) AS TEXT) AS started_iso,
       a.ended, a.ended_iso,
       CAST((SELECT sum(CASE WHEN f.ended IS NULL THEN 0 ELSE f.ended - f.started END)
             FROM attempts f WHERE f.run = r.id) AS DOUBLE) AS seconds
FROM runs r
JOIN experiments e ON e.id = r.experiment
JOIN attempts a ON a.id = (SELECT max(l.id) FROM attempts l WHERE l.run = r.id);

-- The cells that the last command of each experiment asked for, done or not.
CREATE VIEW asked AS
SELECT q.experiment, c.row, c.label, c.row_order, c.seed, c.variant, c.key, c.samples, q.request,
       q.command, q.recorded, q.recorded_iso
FROM (SELECT e.name AS experiment, q.id AS request, q.command, q.recorded, q.recorded_iso,
             row_number() OVER (PARTITION BY e.name ORDER BY q.recorded DESC, q.id DESC) AS place
      FROM requests q
      JOIN experiments e ON e.id = q.experiment
      WHERE EXISTS (SELECT 1 FROM request_cells c WHERE c.request = q.id)) q
JOIN request_cells c ON c.request = q.request
WHERE q.place = 1;

-- The run that counts for each cell, which is a row at one seed under one configuration (key): the
-- pinned one, else the finished one that was begun last. asked: 1 where the last command of the
-- experiment asked for that cell, or no command is on record.
CREATE VIEW latest_runs AS
SELECT c.experiment, c.row, c.seed, c.variant, c.key, c.samples, c.run, c.created, c.created_iso,
       CAST(c.is_pinned AS BIGINT) AS pinned,
       CAST(CASE WHEN a.key IS NOT NULL OR k.experiment IS NULL THEN 1 ELSE 0 END AS BIGINT) AS asked
FROM (SELECT d.*, row_number() OVER (PARTITION BY d.experiment, d.row, d.seed, d.key
                                     ORDER BY d.is_pinned DESC, d.created DESC, d.run DESC) AS place
      FROM (SELECT e.name AS experiment, r.row, r.seed, r.variant, r.key, r.samples, r.id AS run,
                   r.created, r.created_iso, CASE WHEN p.run IS NULL THEN 0 ELSE 1 END AS is_pinned
            FROM runs r
            JOIN experiments e ON e.id = r.experiment
            LEFT JOIN pins p ON p.run = r.id
            WHERE (SELECT t.status FROM attempts t WHERE t.run = r.id
                   ORDER BY t.id DESC LIMIT 1) = 'done') d
     ) c
LEFT JOIN (SELECT DISTINCT e.name AS experiment
           FROM requests q
           JOIN experiments e ON e.id = q.experiment) k ON k.experiment = c.experiment
LEFT JOIN asked a ON a.experiment = c.experiment AND a.row = c.row AND a.seed = c.seed
                 AND a.key = c.key
WHERE c.place = 1;

-- The values that count of each run, finished or not: of the selected training step where a rule chose
-- one (selection), else of the last ('last'), the newest.
CREATE VIEW latest_metrics AS
SELECT m.id, m.run, e.name AS experiment, r.row, r.label, r.seed, r.variant, m.name, m.value,
       m.higher_is_better, m.unit, m.protocol, m.reference, m.sample_count, m.step, m.weights,
       CAST(coalesce((SELECT c.rule FROM selections c WHERE c.run = m.run AND c.step = m.step), 'last')
            AS TEXT) AS selection
FROM latest_values v
JOIN metrics m ON m.id = v.metric
JOIN runs r ON r.id = m.run
JOIN experiments e ON e.id = r.experiment;

-- Configurations of each row that are on record. newest_run: `dkdm runs diff` with another's says
-- what they differ in.
CREATE VIEW variants AS
SELECT v.experiment, v.row, v.variant, CAST(max(v.label) AS TEXT) AS label,
       CAST(count(*) AS BIGINT) AS runs, CAST(count(DISTINCT v.seed) AS BIGINT) AS seeds,
       CAST(sum(v.done) AS BIGINT) AS finished_runs, CAST(max(v.run) AS BIGINT) AS newest_run,
       CAST(max(v.asked) AS BIGINT) AS asked
FROM (SELECT e.name AS experiment, r.row, r.variant, r.label, r.seed, r.id AS run,
             CASE WHEN t.status = 'done' THEN 1 ELSE 0 END AS done,
             CASE WHEN a.key IS NULL THEN 0 ELSE 1 END AS asked
      FROM runs r
      JOIN experiments e ON e.id = r.experiment
      JOIN attempts t ON t.id = (SELECT max(l.id) FROM attempts l WHERE l.run = r.id)
      LEFT JOIN asked a ON a.experiment = e.name AND a.row = r.row AND a.seed = r.seed
                       AND a.key = r.key) v
GROUP BY v.experiment, v.row, v.variant
ORDER BY v.experiment, v.row, newest_run;

-- One line for each cell and each way it was evaluated, of every configuration (variant) on record;
-- tables 2, 3 and 5 are parts of it. Values are of the training step that counts: selection says by
-- which rule ('last', or 'best:fid' of train.select), last_fid is the FID of the last step whatever was
-- selected. Compare lines of one protocol, reference, sample_count, weights and selection only, and take means over seeds of one variant only. (IS is a word of SQL, hence
-- inception_score.)
CREATE VIEW cells AS
SELECT r.id AS run, l.experiment, e.table_shape, l.row, r.label, l.seed, l.variant, l.asked,
       l.pinned, r.method, r.student,
       CAST((SELECT i.value FROM metrics i JOIN latest_values w ON w.metric = i.id
             WHERE i.run = r.id AND i.name = 'is' AND i.protocol = f.protocol
               AND (i.reference = '' OR i.reference = f.reference)
               AND i.sample_count = f.sample_count AND i.weights = f.weights
             ORDER BY i.id DESC LIMIT 1) AS DOUBLE) AS inception_score,
       f.value AS fid,
       CAST((SELECT s.value FROM metrics s JOIN latest_values w ON w.metric = s.id
             WHERE s.run = r.id AND s.name = 'sfid' AND s.protocol = f.protocol
               AND s.reference = f.reference AND s.sample_count = f.sample_count
               AND s.weights = f.weights) AS DOUBLE) AS sfid,
       f.protocol, f.reference, f.sample_count, f.weights, f.step,
       CAST(coalesce((SELECT c.rule FROM selections c WHERE c.run = f.run AND c.step = f.step), 'last')
            AS TEXT) AS selection,
       CAST((SELECT n.value FROM metrics n
             WHERE n.run = f.run AND n.name = 'fid' AND n.protocol = f.protocol
               AND n.reference = f.reference AND n.sample_count = f.sample_count
               AND n.weights = f.weights
             ORDER BY n.step DESC, n.id DESC LIMIT 1) AS DOUBLE) AS last_fid,
       r.parameters,
       CAST(coalesce((SELECT t.elapsed_s FROM stages t WHERE t.run = r.id AND t.name = 'train'),
                     (SELECT t.elapsed_s FROM stages t WHERE t.run = r.id AND t.name = 'teacher'))
            AS DOUBLE) AS train_seconds,
       CAST((SELECT p.value FROM published p WHERE p.section = e.published_section
               AND p.metric = 'is' AND p.row = replace(r.published_row, '-', '_')) AS DOUBLE)
         AS published_is,
       CAST((SELECT p.value FROM published p WHERE p.section = e.published_section
               AND p.metric = 'fid' AND p.row = replace(r.published_row, '-', '_')) AS DOUBLE)
         AS published_fid,
       CAST((SELECT p.value FROM published p WHERE p.section = e.published_section
               AND p.metric = 'sfid' AND p.row = replace(r.published_row, '-', '_')) AS DOUBLE)
         AS published_sfid,
       r.row_order
FROM latest_runs l
JOIN runs r ON r.id = l.run
JOIN experiments e ON e.id = r.experiment
JOIN metrics f ON f.run = r.id AND f.name = 'fid'
JOIN latest_values v ON v.metric = f.id;

-- The paper's Table 2, methods in pixel space: a line for each cell. asked = 1: as the experiment's
-- last command asked for it.
CREATE VIEW table2 AS
SELECT run, experiment, row, label, seed, variant, asked, pinned, method, inception_score, fid,
       sfid, protocol, reference, sample_count, weights, step, selection, last_fid, parameters,
       train_seconds, published_is, published_fid, published_sfid, row_order
FROM cells WHERE table_shape = 'table2' ORDER BY experiment, row_order, variant, seed;

-- The paper's Table 3, methods in latent space: FID and sFID.
CREATE VIEW table3 AS
SELECT run, experiment, row, label, seed, variant, asked, pinned, method, fid, sfid, protocol,
       reference, sample_count, weights, step, selection, last_fid, parameters, train_seconds,
       published_fid, published_sfid, row_order
FROM cells WHERE table_shape = 'table3' ORDER BY experiment, row_order, variant, seed;

-- The paper's Table 4, the baselines' synthetic sets: a line for each set that was made, with the
-- paper's of the same dataset beside.
CREATE VIEW table4 AS
SELECT e.name AS experiment, r.dataset, s.steps AS images,
       CAST((SELECT g.value FROM settings g
             WHERE g.run = r.id AND g.key = 'synthetic.sampler') AS TEXT) AS sampler,
       CAST((SELECT g.value FROM settings g
             WHERE g.run = r.id AND g.key = 'synthetic.respacing') AS TEXT) AS respacing,
       s.elapsed_s AS seconds, s.teacher_evaluations, s.bytes, s.artifact,
       CAST(s.shared AS BIGINT) AS runs,
       CAST((SELECT p.value FROM published p WHERE p.section = 'table4' AND p.metric = 'images'
               AND p.row = substr(e.published_section, instr(e.published_section, '.') + 1))
            AS DOUBLE) AS published_images,
       CAST((SELECT p.value FROM published p WHERE p.section = 'table4' AND p.metric = 'steps'
               AND p.row = substr(e.published_section, instr(e.published_section, '.') + 1))
            AS DOUBLE) AS published_steps,
       s.key
FROM (SELECT t.*, row_number() OVER (PARTITION BY t.key ORDER BY t.run DESC) AS place,
             count(*) OVER (PARTITION BY t.key) AS shared
      FROM stages t WHERE t.name = 'synthetic' AND t.status <> 'failed') s
JOIN runs r ON r.id = s.run
JOIN experiments e ON e.id = r.experiment
WHERE s.place = 1
ORDER BY experiment, images;

-- The paper's Table 5, FID across architectures: teacher and student are the networks' plugins.
CREATE VIEW table5 AS
SELECT c.run, c.experiment,
       CAST(coalesce((SELECT g.value FROM settings g
                      WHERE g.run = c.run AND g.key = 'teacher.student.plugin'),
                     (SELECT r.teacher FROM runs r WHERE r.id = c.run)) AS TEXT) AS teacher,
       c.student, c.method, c.row, c.label, c.seed, c.variant, c.asked, c.pinned, c.fid, c.protocol,
       c.reference, c.sample_count, c.weights, c.step, c.selection, c.last_fid, c.parameters,
       c.train_seconds, c.published_fid, c.row_order
FROM cells c WHERE c.table_shape = 'table5' ORDER BY c.experiment, c.row_order, c.variant, c.seed;

-- FID along the training of each cell's run, a line for each evaluated step; figures 4a and 4b are
-- parts of it. teacher_evaluations: images through the teacher until then; what was prepared (a
-- synthetic set, a batch set) is in from the start.
CREATE VIEW training_fid AS
SELECT m.run, e.name AS experiment, e.table_shape, r.row, r.label, r.method, r.seed, r.variant,
       l.asked, l.pinned, m.step, m.value AS fid, m.protocol, m.reference, m.sample_count, m.weights,
       CAST(round(coalesce((SELECT sum(t.teacher_evaluations) FROM stages t
                            WHERE t.run = m.run AND t.name IN ('synthetic', 'pool')), 0) +
                  m.step * coalesce((SELECT 1.0 * t.teacher_evaluations /
                                            CASE WHEN t.steps > 1 THEN t.steps ELSE 1 END
                                     FROM stages t WHERE t.run = m.run AND t.name = 'train'), 0))
            AS BIGINT) AS teacher_evaluations,
       m.id AS metric, r.row_order
FROM latest_runs l
JOIN runs r ON r.id = l.run
JOIN experiments e ON e.id = r.experiment
JOIN metrics m ON m.run = r.id AND m.name = 'fid'
WHERE m.id = (SELECT max(n.id) FROM metrics n
              WHERE n.run = m.run AND n.name = 'fid' AND n.protocol = m.protocol
                AND n.reference = m.reference AND n.sample_count = m.sample_count
                AND n.weights = m.weights AND n.step = m.step);

-- The paper's Figure 4a, FID along the training of each method.
CREATE VIEW figure4a AS
SELECT run, experiment, row, label, method, seed, variant, asked, pinned, step, fid, protocol,
       reference, sample_count, weights, teacher_evaluations, metric, row_order
FROM training_fid WHERE table_shape = 'figure4a' ORDER BY experiment, row_order, variant, seed, step;

-- The paper's Figure 4b, FID along the training of dynamic distillation for each rho.
CREATE VIEW figure4b AS
SELECT f.run, f.experiment, f.row, f.label,
       CAST((SELECT g.number FROM settings g
             WHERE g.run = f.run AND g.key = 'method.rho') AS DOUBLE) AS rho,
       f.seed, f.variant, f.asked, f.pinned, f.step, f.fid, f.protocol, f.reference, f.sample_count,
       f.weights, f.teacher_evaluations, f.metric, f.row_order
FROM training_fid f WHERE f.table_shape = 'figure4b' ORDER BY f.experiment, rho, f.seed, f.step;

-- The paper's Section 10, what training by each method takes. peak_bytes: of the process, as long as
-- it trained; device_peak_bytes: of the device, in tensors, NULL on the CPU; held_bytes: of the one or
-- the other, what the method keeps (a batch set). device: the name of what networks computed on. The rates are those of the steps
-- after the first sixth, to the resolution of train.log_every. teacher_share: of the seconds, those in
-- the teacher's network.
CREATE VIEW section10 AS
SELECT r.id AS run, l.experiment, l.row, r.label, l.seed, l.variant, l.asked, l.pinned, r.method,
       CAST((SELECT g.number FROM settings g WHERE g.run = r.id AND g.key = 'method.rho') AS DOUBLE)
         AS rho,
       r.student, r.parameters,
       CAST((SELECT g.number FROM settings g WHERE g.run = r.id AND g.key = 'train.batch') AS BIGINT)
         AS batch,
       t.steps, t.elapsed_s AS train_seconds, t.peak_bytes,
       CAST(t.device_peak_bytes AS DOUBLE) AS device_peak_bytes,
       CAST(t.held_bytes AS DOUBLE) AS held_bytes,
       CAST(t.steps_per_second AS DOUBLE) AS steps_per_second,
       CAST(t.steps_per_second * (SELECT g.number FROM settings g
                                  WHERE g.run = r.id AND g.key = 'train.batch') AS DOUBLE)
         AS examples_per_second,
       CAST(t.teacher_s / t.elapsed_s AS DOUBLE) AS teacher_share,
       CAST(CASE WHEN m.device = 'cpu' THEN m.cpu WHEN m.gpu = '' THEN m.device ELSE m.gpu END
            AS TEXT) AS device,
       m.threads, r.row_order
FROM latest_runs l
JOIN runs r ON r.id = l.run
JOIN experiments e ON e.id = r.experiment AND e.table_shape = 'section10'
JOIN (SELECT s.*,
             (SELECT sum(p.steps) / sum(p.steps * p.value)
              FROM (SELECT c.step, c.value,
                           c.step - lag(c.step, 1, 0) OVER (ORDER BY c.step) AS steps
                    FROM curves c WHERE c.stage_key = s.key AND c.name = 'step_seconds') p
              WHERE p.step - p.steps >= s.steps / 6.0) AS steps_per_second
      FROM stages s WHERE s.name = 'train' AND s.status <> 'failed') t ON t.run = r.id
JOIN attempts a ON a.id = (SELECT max(n.id) FROM attempts n WHERE n.run = r.id)
JOIN environments m ON m.id = a.environment
ORDER BY l.experiment, r.row_order, l.variant, l.seed;

-- Configurations of rows ranked by the mean over seeds, within what may be compared. The teacher is
-- not ranked. A seed counts once, whatever repeats of it there are.
CREATE VIEW leaderboard AS
SELECT b.experiment, b.name AS metric, b.protocol, b.reference, b.sample_count, b.weights,
       b.selection,
       CAST(rank() OVER (PARTITION BY b.experiment, b.name, b.protocol, b.reference, b.sample_count,
                                      b.weights, b.selection
                         ORDER BY b.mean * CASE WHEN b.higher_is_better = 1 THEN -1 ELSE 1 END)
            AS BIGINT) AS place,
       b.row, b.label, b.variant, b.asked, CAST(b.mean AS DOUBLE) AS mean,
       CAST(b.seeds AS BIGINT) AS seeds
FROM (SELECT v.experiment, v.name, v.protocol, v.reference, v.sample_count, v.weights, v.row,
             v.variant, max(v.higher_is_better) AS higher_is_better,
             CAST(max(v.label) AS TEXT) AS label, CAST(max(v.asked) AS BIGINT) AS asked,
             v.selection, avg(v.value) AS mean, count(*) AS seeds
      FROM (SELECT m.*, l.asked,
                   row_number() OVER (PARTITION BY m.experiment, m.row, m.variant, m.seed, m.name,
                                                   m.protocol, m.reference, m.sample_count, m.weights,
                                                   m.selection
                                      ORDER BY l.pinned DESC, l.created DESC, l.run DESC) AS place
            FROM latest_runs l
            JOIN runs r ON r.id = l.run AND r.method <> ''
            JOIN latest_metrics m ON m.run = l.run
            WHERE m.value IS NOT NULL) v
      WHERE v.place = 1
      GROUP BY v.experiment, v.name, v.protocol, v.reference, v.sample_count, v.weights, v.row,
               v.variant, v.selection) b
ORDER BY b.experiment, metric, b.protocol, place;

-- Runs whose last attempt did not end well.
CREATE VIEW failures AS
SELECT run, experiment, row, seed, variant, status, stage, message, ended, ended_iso
FROM run_status WHERE status IN ('failed', 'interrupted', 'crashed');

-- The plugins that each run used, of all its attempts.
CREATE VIEW run_plugins AS
SELECT DISTINCT a.run, p.kind, p.name, p.version, p.summary, p.file
FROM attempts a
JOIN attempt_plugins u ON u.attempt = a.id
JOIN plugins p ON p.id = u.plugin;

-- The machine of each run's last attempt. Runs of one configuration on several processors differ in their
-- last digits: float32 sums are rounded in another order there. device: what networks computed on, whose
-- name is cpu or gpu. repeatable: 0 where another run on the same machine may differ as well (--fast).
-- precision: of the training ('fp32', 'tf32', 'bf16', 'fp16'), in a teacher's row of the teacher's.
CREATE VIEW run_machines AS
SELECT r.id AS run, e.name AS experiment, r.row, r.seed, r.variant, m.host, m.cpu, m.cpu_features,
       m.gpu, m.device, m.driver, m.repeatable,
       CAST(coalesce((SELECT g.value FROM settings g
                      WHERE g.run = r.id AND g.key = CASE r.method WHEN '' THEN 'teacher.train.precision'
                                                                   ELSE 'train.precision' END), 'fp32')
            AS TEXT) AS precision,
       m.cores, m.threads, m.threads_reason, m.memory_bytes, m.os, m.libtorch, m.dkdm_version,
       m.git_revision
FROM runs r
JOIN experiments e ON e.id = r.experiment
JOIN attempts a ON a.id = (SELECT max(l.id) FROM attempts l WHERE l.run = r.id)
JOIN environments m ON m.id = a.environment;

-- What each stage of each run cost. A stage shared by several runs was paid for once: add up
-- elapsed_s / shared_by. flops: a multiply-add is two; of teacher evaluations, of images drawn, and
-- three forwards for each example a student was trained on. Evaluators' own networks are not counted.
-- peak_bytes: of the process; device_peak_bytes: of the device, in tensors, NULL on the CPU.
-- teacher_share: of elapsed_s, in the teacher's network. examples_per_s: of a training that came to its
-- end, all of elapsed_s included (view section10 has the rate of its steady part).
CREATE VIEW costs AS
WITH shared AS MATERIALIZED (
  SELECT key, count(*) AS runs FROM stages GROUP BY key HAVING count(*) > 1)
SELECT s.run, e.name AS experiment, r.row, r.seed, r.variant, s.name AS stage, s.plugin, s.status,
       s.elapsed_s, s.teacher_s, CAST(s.teacher_s / s.elapsed_s AS DOUBLE) AS teacher_share, s.steps,
       CAST(CASE s.name WHEN 'train' THEN s.steps ELSE 0 END AS BIGINT) AS student_steps,
       CAST(CASE WHEN s.status = 'failed' THEN NULL
                 WHEN s.name IN ('teacher', 'train')
                 THEN s.steps / s.elapsed_s *
                      (SELECT g.number FROM settings g
                       WHERE g.run = s.run AND g.key = CASE s.name WHEN 'teacher' THEN 'teacher.train.batch'
                                                                   ELSE 'train.batch' END)
            END AS DOUBLE) AS examples_per_s,
       s.teacher_evaluations, s.flops, s.peak_bytes,
       CAST(s.device_peak_bytes AS DOUBLE) AS device_peak_bytes, s.bytes,
       CAST(coalesce(h.runs, 1) AS BIGINT) AS shared_by, s.key
FROM runs r
JOIN experiments e ON e.id = r.experiment
JOIN stages s ON s.run = r.id
LEFT JOIN shared h ON h.key = s.key;

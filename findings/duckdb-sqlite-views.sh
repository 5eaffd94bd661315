#!/bin/bash
# DuckDB reads a SQLite file's views by parsing their SQL in its own dialect, and untyped columns as bytes:
# the same file gives other numbers, another order, or an error, mostly without a word.
#   - numbers of a column without a declared type are bytes: 10.27 sorts before 9.21;
#   - CAST(x AS REAL), eight bytes in SQLite, is four: 9.21 becomes 9.210000038146973;
#   - CAST(x AS INTEGER), eight bytes in SQLite, is four: five billion is an error;
#   - / of integers is a fraction: 3 / 2 is 1.5, not 1;
#   - generated columns of a table are not there; CROSS JOIN … ON, which SQLite takes, does not parse.
# Hence our views (results/store/schema.sql): a type for every column, DOUBLE and BIGINT, no integer division.
# Needs python3 and pip; installs into a temporary folder. Ends with 1 when the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  duckdb==1.5.5 duckdb-extension-sqlite-scanner==1.5.5
cd "$folder"
venv/bin/python - <<'PY'
import pathlib, sqlite3, sys
import duckdb, duckdb_extension_sqlite_scanner

lite = sqlite3.connect("t.sqlite")
lite.executescript("""
CREATE TABLE t (id INTEGER PRIMARY KEY, fid, value REAL, bytes INTEGER,
                name TEXT GENERATED ALWAYS AS ('run ' || id) STORED);
INSERT INTO t (fid, value, bytes) VALUES (10.27, 10.27, 5000000000), (9.21, 9.21, 3);
CREATE VIEW untyped AS SELECT (SELECT u.fid FROM t u WHERE u.id = t.id) AS fid FROM t;
CREATE VIEW as_real AS SELECT CAST(value AS REAL) AS x FROM t;
CREATE VIEW as_double AS SELECT CAST(value AS DOUBLE) AS x FROM t;
CREATE VIEW as_integer AS SELECT CAST(bytes AS INTEGER) AS x FROM t;
CREATE VIEW as_bigint AS SELECT CAST(bytes AS BIGINT) AS x FROM t;
CREATE VIEW divided AS SELECT bytes / 2 AS x FROM t WHERE bytes = 3;
CREATE VIEW joined AS SELECT a.id AS x FROM t a CROSS JOIN t b ON b.id = a.id;
""")
lite.commit()
duck = duckdb.connect()
package = pathlib.Path(duckdb_extension_sqlite_scanner.__path__[0])
duck.execute(f"LOAD '{next(package.rglob('*.duckdb_extension'))}'")
duck.execute("ATTACH 't.sqlite' AS s (TYPE sqlite, READ_ONLY)")


def ask(connection, sql):
    try:
        return [row[0] for row in connection.execute(sql).fetchall()]
    except (duckdb.Error, sqlite3.Error) as error:
        return type(error).__name__


print(f"DuckDB {duckdb.__version__}, SQLite {sqlite3.sqlite_version}")
expected = [
    ("SELECT fid FROM {}t ORDER BY fid", [9.21, 10.27], [b"10.27", b"9.21"]),
    ("SELECT fid FROM {}untyped ORDER BY fid", [9.21, 10.27], [b"10.27", b"9.21"]),
    ("SELECT x FROM {}as_real ORDER BY x", [9.21, 10.27], [9.210000038146973, 10.270000457763672]),
    ("SELECT x FROM {}as_double ORDER BY x", [9.21, 10.27], [9.21, 10.27]),
    ("SELECT x FROM {}as_integer ORDER BY x", [3, 5000000000], "ConversionException"),
    ("SELECT x FROM {}as_bigint ORDER BY x", [3, 5000000000], [3, 5000000000]),
    ("SELECT x FROM {}divided", [1], [1.5]),
    ("SELECT x FROM {}joined ORDER BY x", [1, 2], "ParserException"),
    ("SELECT name FROM {}t ORDER BY id", ["run 1", "run 2"], "BinderException"),
]
changed = 0
for sql, in_sqlite, in_duckdb in expected:
    seen = ask(lite, sql.format("")), ask(duck, sql.format("s."))
    same = seen == (in_sqlite, in_duckdb)
    changed += not same
    print(f"{'as known' if same else 'CHANGED '}  {sql.format('')}: SQLite {seen[0]}, DuckDB {seen[1]}")
sys.exit(changed > 0)
PY

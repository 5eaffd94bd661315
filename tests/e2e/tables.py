#!/usr/bin/python3
"""Opens every table and view with DuckDB's SQLite reader and with pandas. Usage: tables.py FOLDER (that
report-samples made: report/results.sqlite)

Needs duckdb, its SQLite extension and pandas of PyPI, which `./dkdm test` fetches into the build folder for
the Debian Python that runs this: without them this test is skipped (exit code 77). Both must see the types,
the values and the order that SQLite has: an untyped column is text to DuckDB, which sorts 10.27 before 9.21.
"""
import importlib.util
import pathlib
import sqlite3
import sys

SKIPPED = 77
# DuckDB's type -> what SQLite calls values of it, and pandas their columns.
TYPES = {"BIGINT": ("integer", "iu"), "DOUBLE": ("real", "f"), "VARCHAR": ("text", "OUT")}
failures = []


def expect(holds, what):
    if not holds:
        failures.append(what)


def same(a, b):
    """A mean may be rounded otherwise: its sum is taken in another order."""
    return a == b or (isinstance(a, float) and isinstance(b, float) and
                      abs(a - b) <= 1e-12 * max(abs(a), abs(b)))


def all_same(ours, theirs):
    return len(ours) == len(theirs) and all(map(same, ours, theirs))


def sort_key(row):
    return tuple((value is not None, str(type(value)), value) for value in row)


def check_relation(name, sqlite, duck, pandas):
    types = {column: kind for column, kind, *_ in duck.execute(f'DESCRIBE r."{name}"').fetchall()}
    rows = sqlite.execute(f'SELECT * FROM "{name}"').fetchall()
    expect(list(types) == [d[0] for d in sqlite.execute(f'SELECT * FROM "{name}"').description],
           f"{name}: other columns")
    frame = pandas.read_sql_query(f'SELECT * FROM "{name}"', sqlite)
    for index, (column, kind) in enumerate(types.items()):
        if kind not in TYPES:
            expect(False, f"{name}.{column}: DuckDB's type is {kind}")
            continue
        of_sqlite, of_pandas = TYPES[kind]
        seen = {r[0] for r in sqlite.execute(f'SELECT DISTINCT typeof("{column}") FROM "{name}"')}
        expect(seen <= {of_sqlite, "null"}, f"{name}.{column}: {kind}, but SQLite holds {seen}")
        values = [row[index] for row in rows if row[index] is not None]
        if values and len(values) == len(rows):  # with gaps pandas turns integers to floats
            found = frame[column].dtype.kind
            expect(found in of_pandas, f"{name}.{column}: {kind}, but of dtype kind {found} to pandas")
        expect(frame[column].dropna().tolist() == values, f"{name}.{column}: other values to pandas")
        ordered = [r[0] for r in duck.execute(
            f'SELECT "{column}" FROM r."{name}" WHERE "{column}" IS NOT NULL ORDER BY "{column}"')
            .fetchall()]
        expect(all_same(ordered, sorted(values)), f"{name}.{column}: DuckDB sorts otherwise")
    theirs = duck.execute(f'SELECT * FROM r."{name}"').fetchall()
    expect(len(theirs) == len(rows) and
           all(map(all_same, sorted(theirs, key=sort_key), sorted(rows, key=sort_key))),
           f"{name}: DuckDB sees other rows")
    return len(rows)


def main():
    for module in ("duckdb", "duckdb_extension_sqlite_scanner", "pandas"):
        if importlib.util.find_spec(module) is None:
            print(f"skipped: no {module} for this Python")
            return SKIPPED
    import duckdb
    import duckdb_extension_sqlite_scanner
    import pandas

    file = pathlib.Path(sys.argv[1]) / "report" / "results.sqlite"
    package = pathlib.Path(duckdb_extension_sqlite_scanner.__path__[0])
    extension = next(package.rglob("*.duckdb_extension"))
    duck = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    duck.execute(f"LOAD '{extension}'")
    duck.execute(f"ATTACH '{file}' AS r (TYPE sqlite, READ_ONLY)")
    sqlite = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    counts = {}
    for (name,) in sqlite.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND "
                                  "name NOT LIKE 'sqlite_%' ORDER BY type, name").fetchall():
        try:
            counts[name] = check_relation(name, sqlite, duck, pandas)
        except (duckdb.Error, sqlite3.Error) as error:
            expect(False, f"{name}: {error}")
    for name in ("cells", "leaderboard", "settings", "costs", "run_status", "asked", "variants"):
        expect(counts.get(name, 0) > 0, f"{name}: is empty, which shows nothing")
    # The order that started it: FID as numbers.
    fids = [r[0] for r in duck.execute("SELECT fid FROM r.cells ORDER BY fid").fetchall()]
    expect(fids == sorted(fids) and min(fids) < 10 < max(fids), f"cells: FID in the order {fids}")
    for failure in failures:
        print(failure)
    print(f"duckdb {duckdb.__version__}, pandas {pandas.__version__}: {len(counts)} tables and views, "
          f"{len(failures)} faults")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

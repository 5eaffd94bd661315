#!/usr/bin/python3
"""Reads exported event files with TensorBoard's own reader. Usage: event_files.py FOLDER (that
report-samples made: NAME/results.sqlite and NAME-events)

Needs the tensorboard of PyPI, which `./dkdm test` fetches into the build folder for the Debian Python that
runs this: without it this test is skipped (exit code 77). Every series and every point of it must be what
the database has, to the last bit of float32, and there must be no other.
"""
import importlib.util
import pathlib
import sqlite3
import struct
import sys

SKIPPED = 77


def float32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def read(folder, accumulator):
    events = accumulator(str(folder), size_guidance={"scalars": 0})  # 0 = keep all
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)]
            for tag in events.Tags()["scalars"]}


def recorded(database, run):
    """{tag: [(step, value)]} of a run, as results/tensorboard.hpp names them."""
    rows = database.execute(
        "SELECT c.name, c.step, c.value FROM stages s JOIN curves c ON c.stage_key = s.key "
        "WHERE s.run = ?1 AND c.value IS NOT NULL AND s.name = CASE (SELECT method FROM runs WHERE "
        "id = ?1) WHEN '' THEN 'teacher' ELSE 'train' END "
        "UNION ALL SELECT name || '@' || sample_count || ' ' || weights, step, value FROM metrics "
        "WHERE run = ?1 AND value IS NOT NULL ORDER BY 2", (run,))
    series = {}
    for name, step, value in rows:
        series.setdefault(name, []).append((step, float32(value)))
    return series


def compare(name, events, database, accumulator):
    """Number of points that agree; ends the test at the first series that does not."""
    points = 0
    files = sorted(events.rglob("events.out.tfevents.*"))
    runs = {file: int(file.parent.name.rsplit("run", 1)[1]) for file in files}
    expected = {run for run, in database.execute("SELECT id FROM runs") if recorded(database, run)}
    if expected - set(runs.values()):
        sys.exit(f"event files: {name}: no event file of runs {sorted(expected - set(runs.values()))}")
    for file, run in runs.items():
        ours, theirs = recorded(database, run), read(file.parent, accumulator)
        if ours.keys() != theirs.keys():
            sys.exit(f"event files: {file}: series {sorted(theirs)}, recorded {sorted(ours)}")
        for tag, values in ours.items():
            if sorted(theirs[tag]) != sorted(values):
                sys.exit(f"event files: {file}: '{tag}' is {theirs[tag][:3]}…, recorded {values[:3]}…")
            points += len(values)
    return points


def main():
    if importlib.util.find_spec("tensorboard") is None:
        print(f"skipped: no TensorBoard for {sys.executable} here (pip install tensorboard)")
        return SKIPPED
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    folder = pathlib.Path(sys.argv[1])
    for name in ("report", "hostile"):
        database = sqlite3.connect(folder / name / "results.sqlite")
        database.text_factory = lambda text: text.decode("utf-8", "replace")
        points = compare(name, folder / (name + "-events"), database, EventAccumulator)
        if not points:
            sys.exit(f"event files: {name}: no points at all")
        print(f"event files: {name}: {points} points read as they were recorded")
    return 0


if __name__ == "__main__":
    sys.exit(main())

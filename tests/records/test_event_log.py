"""The event log: what is written is read back, whatever cuts the writer off, and by one writer."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweeps.errors import SweepError, UserError
from sweeps.records import events as ev
from sweeps.records.event_log import EventLog, SweepIsRunning, decode, encode, is_held, read_events
from sweeps.report import LogEntry, Report

FLOATS = st.floats()
TEXT = st.text(max_size=8) | st.sampled_from(("t001", "line\nbreak", "é\u2028", '"', "NaN"))
JSON = st.none() | st.booleans() | st.integers() | FLOATS | TEXT | st.lists(FLOATS, max_size=2)
REPORTS = st.builds(
    Report,
    trial=TEXT,
    number=st.integers(1, 99),
    step=st.integers(1, 10**6),
    max_steps=st.integers(1, 10**6),
    epoch=FLOATS,
    metrics=st.dictionaries(TEXT, FLOATS, max_size=3),
    eval_rows=st.none() | st.integers(0, 10**9),
    train_s=FLOATS,
    log_entries=st.lists(
        st.builds(LogEntry, step=st.integers(0), loss=st.none() | FLOATS, learning_rate=FLOATS),
        max_size=3,
    ).map(tuple),
)
FIELDS: dict[Any, st.SearchStrategy] = {
    str: TEXT,
    int: st.integers(),
    float: FLOATS,
    bool: st.booleans(),
    Report: REPORTS,
}


def field_values(hint: Any) -> st.SearchStrategy:
    """Values of one field of an event, by its type."""
    if hint in FIELDS:
        return FIELDS[hint]
    if hint is ev.Event:
        return events_of(ev.Reported) | events_of(ev.TrialEnded)
    if typing.get_origin(hint) is Sequence:
        return st.lists(field_values(*typing.get_args(hint)), max_size=3)
    if typing.get_origin(hint) is typing.Literal:
        return st.sampled_from(typing.get_args(hint))
    if typing.get_args(hint) == (str, Any):
        return st.dictionaries(TEXT, JSON, max_size=3)
    return st.one_of(
        *(st.none() if part is type(None) else field_values(part) for part in typing.get_args(hint))
    )


def events_of(kind: type[ev.Event]) -> st.SearchStrategy[ev.Event]:
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{name: field_values(hint) for name, hint in hints.items()})


def texts(path: Path) -> list[str]:
    """The sweeps named by the `SweepStarted` events of a log: something to tell them apart."""
    return [event.sweep for event, _ in read_events(path) if isinstance(event, ev.SweepStarted)]


def test_every_kind_of_event_can_be_read_back():
    assert set(ev.EVENTS.values()) == set(ev.Event.__subclasses__())


@pytest.mark.parametrize("kind", ev.EVENTS)
def test_an_event_is_the_same_after_encoding_and_decoding(kind: str):
    @settings(derandomize=True, deadline=None, max_examples=60)
    @given(events_of(ev.EVENTS[kind]))
    def same(event: ev.Event) -> None:
        line = encode(event)
        assert "\n" not in line
        # By repr: NaN does not equal itself, and 1 equals True.
        assert repr(decode(line)) == repr(event)

    same()


@pytest.mark.parametrize(
    "value",
    [
        *("NaN", "-Infinity", "1e400", "-0.0", "4.9e-324", "0.1000000000000000055511151231257827"),
        *("18446744073709551616", "-9223372036854775809", "9007199254740993", "1.0", "1E5"),
        *(r'"\ud800"', r'"\udc00\ud800"', r'"\ud83d\ude00"', '"\xed\xa0\x80"', '{"b": 1, "b": 2}'),
    ],
)
def test_a_line_means_what_json_reads_in_it(value: str):
    params = b'{"a": ' + value.encode("latin-1") + b"}"
    fields = b'"trial": "t001", "params": %b, "origin": "searcher", "seed": 0' % params
    event = decode(b'{"event": "TrialSuggested", %b}' % fields)
    assert isinstance(event, ev.TrialSuggested)
    assert repr(event.params) == repr(json.loads(params))


def test_non_finite_metrics_and_losses_survive_the_log(tmp_path: Path):
    report = Report(
        trial="t001",
        number=1,
        step=1,
        max_steps=2,
        epoch=0.5,
        metrics={"eval_loss": math.nan, "eval_score": -math.inf},
        train_s=1.0,
        log_entries=(LogEntry(step=1, loss=math.inf),),
    )
    log = EventLog(tmp_path / "events.jsonl", ())
    log.append(ev.Reported(report=report))
    log.close()
    ((event, _),) = read_events(tmp_path / "events.jsonl")
    assert isinstance(event, ev.Reported)
    assert math.isnan(event.report.metrics["eval_loss"])
    assert event.report.metrics["eval_score"] == -math.inf
    assert event.report.log_entries == (LogEntry(step=1, loss=math.inf),)


# Writing.


def test_observers_are_told_in_log_order_once_the_events_are_on_disk(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    told = []

    def first(event: ev.Event) -> None:
        told.append(("first", event, texts(path)))

    def second(event: ev.Event) -> None:
        told.append(("second", event, texts(path)))

    log = EventLog(path, (first, second))
    a, b, c = (ev.SweepStarted(sweep=name) for name in "abc")
    log.append(a, b)
    log.append(c)
    log.close()
    ab, abc = ["a", "b"], ["a", "b", "c"]
    assert told == [
        ("first", a, ab),
        ("second", a, ab),
        ("first", b, ab),
        ("second", b, ab),
        ("first", c, abc),
        ("second", c, abc),
    ]


def test_a_second_writer_is_refused_until_the_first_has_closed(tmp_path: Path):
    path = tmp_path / "bert_yelp-20261122-0741-k3f9" / "events.jsonl"
    path.parent.mkdir()
    log = EventLog(path, ())
    log.append(ev.SweepStarted(sweep="first"))
    with pytest.raises(SweepIsRunning) as raised:
        EventLog(path, ())
    assert str(raised.value) == (
        "bert_yelp-20261122-0741-k3f9 is running: another process has locked its event log; wait"
        " for it to end, or stop it first"
    )
    assert raised.value.exit_code == 2
    log.append(ev.SweepStarted(sweep="second"))
    log.close()
    reopened = EventLog(path, ())
    reopened.append(ev.SweepStarted(sweep="third"))
    reopened.close()
    assert texts(path) == ["first", "second", "third"]


def test_a_log_is_held_as_long_as_its_writer_has_it_open(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    log = EventLog(path, ())
    assert is_held(path)
    assert is_held(path), "asking leaves the lock alone"
    log.append(ev.SweepStarted(sweep="a"))
    log.close()
    assert not is_held(path)


def test_who_asks_whether_a_log_is_held_does_not_hold_it(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    path.write_text("")
    assert not is_held(path)
    EventLog(path, ()).close()


# Torn lines.


@settings(
    derandomize=True,
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_log_that_was_cut_off_anywhere_keeps_its_whole_events_and_goes_on(
    tmp_path: Path, data: st.DataObject
):
    names = ["a", "b\nb", "é" * 40]
    path = tmp_path / "events.jsonl"
    path.unlink(missing_ok=True)
    log = EventLog(path, ())
    ends = [0]
    for name in names:
        log.append(ev.SweepStarted(time=1.0, sweep=name))
        ends.append(path.stat().st_size)
    log.close()
    cut = data.draw(st.integers(0, ends[-1]))
    path.write_bytes(path.read_bytes()[:cut])
    whole = [name for name, end in zip(names, ends[1:], strict=True) if end <= cut]
    assert texts(path) == whole
    log = EventLog(path, ())
    assert texts(path) == whole
    log.append(ev.SweepStarted(sweep="new"))
    log.close()
    assert texts(path) == [*whole, "new"]


def test_reading_goes_on_behind_the_last_whole_event(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    log = EventLog(path, ())
    log.append(ev.SweepStarted(sweep="a"), ev.SweepStarted(sweep="b"))
    read = list(read_events(path))
    offset = read[-1][1]
    assert offset == path.stat().st_size
    assert list(read_events(path, offset)) == []
    line = encode(ev.SweepStarted(sweep="c")) + "\n"
    with path.open("a") as file:
        file.write(line[:9])
    assert list(read_events(path, offset)) == []
    with path.open("a") as file:
        file.write(line[9:])
    ((event, end),) = read_events(path, offset)
    assert event.sweep == "c"  # type: ignore[attr-defined]
    assert end == offset + len(line)
    assert next(read_events(path, read[0][1])) == read[1]
    log.close()


@pytest.mark.parametrize(
    ("damaged", "why"),
    [
        (b'{"event" "SweepStarted"}', "Expecting ':' delimiter: line 1 column 10 (char 9)"),
        (b"\xff", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ],
)
def test_a_damaged_line_is_named_after_the_events_before_it(
    tmp_path: Path, damaged: bytes, why: str
):
    path = tmp_path / "events.jsonl"
    line = encode(ev.SweepStarted(sweep="a")).encode() + b"\n"
    path.write_bytes(line + damaged + b"\n" + line)
    read = read_events(path)
    assert next(read)[1] == len(line)
    with pytest.raises(UserError) as raised:
        next(read)
    assert str(raised.value) == (
        f"{path} is damaged: the line that begins at byte {len(line)} is not JSON ({why}); restore"
        " the file from a backup"
    )


@pytest.mark.parametrize("take_away", [shutil.rmtree, lambda folder: folder.rename("elsewhere")])
def test_a_log_whose_folder_is_taken_away_says_so_and_tells_nobody_of_what_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, take_away: Callable[[Path], object]
):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "curves-20261123-0741-k3f9"
    folder.mkdir()
    told: list[ev.Event] = []
    log = EventLog(folder / "events.jsonl", [told.append])
    log.append(ev.SweepStarted(sweep="a"))
    log.check()
    take_away(folder)
    for _ in range(2):
        with pytest.raises(SweepError) as raised:
            log.append(ev.SweepStarted(sweep="b"))
        assert str(raised.value) == (
            f"{folder}/events.jsonl is gone: the sweep's folder was moved or deleted, so the sweep"
            " stops. If you moved it, move it back, then run: python -m sweeps resume"
            f" {folder.name} --storage {tmp_path}"
        )
    with pytest.raises(SweepError):
        log.check()
    log.close()
    assert len(told) == 1


def test_a_log_that_is_replaced_stops_its_writer(tmp_path: Path):
    """By a sync tool, an editor or a restored backup; what is written on is in neither file."""
    path = tmp_path / "events.jsonl"
    log = EventLog(path, ())
    log.append(ev.SweepStarted(sweep="a"))
    shutil.copy(path, tmp_path / "copy")
    (tmp_path / "copy").replace(path)
    with pytest.raises(SweepError, match="was replaced by another file"):
        log.append(ev.SweepStarted(sweep="b"))
    log.close()


def test_a_disk_that_is_full_stops_the_log_with_a_clear_error_and_leaves_what_can_be_read(
    tmp_path: Path,
):
    """In a process of its own, whose files may not grow past 2,000 bytes."""
    path = tmp_path / "curves-20261123-0741-k3f9" / "events.jsonl"
    path.parent.mkdir()
    script = f"""
import resource
from pathlib import Path
from sweeps.errors import SweepError
from sweeps.records import events as ev
from sweeps.records.event_log import EventLog
seen = []
log = EventLog(Path({str(path)!r}), [seen.append])
log.append(ev.SweepStarted(sweep="curves"))
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, -1))
try:
    for number in range(100):
        suggested = {{"params": {{}}, "origin": "searcher", "seed": 0}}
        log.append(ev.TrialSuggested(trial=f"t{{number:03}}", **suggested))
except SweepError as error:
    print(error)
    try:
        log.append(ev.SweepEnded(status="failed"))
    except SweepError as again:
        assert again is error
print(len(seen))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    message, seen = done.stdout.splitlines()
    assert message == (
        f"cannot write to {path} (File too large), so the sweep stops. Once it can be written"
        " again (is the disk full?), run: python -m sweeps resume curves-20261123-0741-k3f9"
        f" --storage {tmp_path}"
    )
    assert path.stat().st_size == 2000
    assert len(list(read_events(path))) == int(seen) > 10, "the torn line does not count"
    EventLog(path, []).close()  # as a resume does: cuts the torn line off
    assert path.read_bytes().endswith(b"}\n")

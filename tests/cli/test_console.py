"""What is printed, and what happens where it cannot be."""

from __future__ import annotations

import errno
import io
import os
import shlex
import subprocess
import sys
import threading

import pytest
from rich.table import Table

from sweeps import secrets
from sweeps.cli.console import console, print_error, print_json, say, stdout_may_fail
from sweeps.cli.output import Output
from tests.conftest import CommandLine, Said


def no_failure(why: str) -> None:
    raise AssertionError(why)


def test_text_goes_to_a_file_at_once_and_in_order():
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w", encoding="utf-8") as stream:
        stream.write("the caller's own, ")
        output = Output(stream, no_failure)
        assert output.write("é\n") == 2
        assert reader.readline().decode() == "the caller's own, é\n"


def test_text_goes_to_a_stream_that_is_no_file():
    stream = io.StringIO()
    Output(stream, no_failure).write("text")
    assert stream.getvalue() == "text"


def test_a_write_that_nobody_reads_waits_outside_of_the_streams_lock():
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w") as stream:
        output = Output(stream, no_failure)
        text = "x" * 2_000_000
        thread = threading.Thread(target=output.write, args=(text,))
        thread.start()
        while os.read(reading, 1) != b"x":
            pass
        assert output.waiting
        stream.flush()  # as Python does at its exit
        assert 1 + len(reader.read(len(text) - 1)) == len(text)
        thread.join()
        assert not output.waiting


def test_a_write_fails_when_its_reader_takes_too_long():
    failures: list[str] = []
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb"), os.fdopen(writing, "w") as stream:
        output = Output(stream, failures.append, patience_s=0.01)
        output.write("x" * 2_000_000)
        output.write("not tried again")
    assert failures == ["nobody is reading it"]


def test_a_full_disk_is_said_once_and_then_the_output_is_quiet():
    failures: list[str] = []
    with open("/dev/full", "w") as stream:
        output = Output(stream, failures.append)
        assert [output.write("text") for _ in range(3)] == [4, 4, 4]
    assert failures == ["No space left on device"]


def test_a_reader_that_went_away_is_no_failure():
    failures: list[str] = []
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        output = Output(stream, failures.append)
        output.write("text")
        output.write("text")
    assert failures == []


def test_a_stream_that_was_closed_is_a_failure():
    failures: list[str] = []
    stream = io.StringIO()
    output = Output(stream, failures.append)
    stream.close()
    output.write("text")
    assert failures == ["I/O operation on closed file"]


def test_a_stream_that_was_closed_from_the_start_is_a_failure():
    failures: list[str] = []
    output = Output(None, failures.append)
    output.write("text")
    assert failures == ["it is closed"]


def test_what_we_print_is_not_searched_for_secrets_and_errors_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(secrets, "_seen", {"curves-20261123": "HF_TOKEN"})
    with stdout_may_fail("never mind"):
        secrets.redact_stream(sys.stdout)
        print("a library's curves-20261123")
        print_json({"sweep": "curves-20261123-0741-k3f9"})
        console.print("curves-20261123-0741-k3f9")
    print_error("refused: curves-20261123")
    said = capsys.readouterr()
    assert said.out == (
        "a library's ***\n"
        '{\n  "sweep": "curves-20261123-0741-k3f9"\n}\n'
        "curves-20261123-0741-k3f9\n"
    )
    assert said.err == "refused: ***\n"


def test_square_brackets_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]):
    table = Table("[b]", title="[s]")
    table.add_row("[INST] {} [/INST] :key:")
    with stdout_may_fail("never mind"):
        console.print(table)
        say("[INST] [/INST]")
    print_error("[INST] [/INST]")
    said = capsys.readouterr()
    for text in ("[b]", "[s]", "[INST] {} [/INST] :key:", "[INST] [/INST]\n"):
        assert text in said.out
    assert said.err == "[INST] [/INST]\n"


FULL = "cannot write to stdout (No space left on device)\n"


@pytest.mark.parametrize(
    ("redirected", "code", "said"),
    [
        ("list >/dev/full", 1, FULL),
        ("--help >/dev/full", 1, FULL),
        ("list >&-", 1, "cannot write to stdout (it is closed)\n"),
        ("list >/dev/full 2>&-", 1, ""),
        ("nothing 2>/dev/full", 2, ""),
    ],
)
def test_a_verb_that_cannot_print_says_so_in_one_line_if_that_can_be_written(
    redirected: str, code: int, said: str
):
    command = f"{shlex.quote(sys.executable)} -m sweeps {redirected}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", said)


def test_a_disk_that_is_full_ends_any_verb_with_one_line(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
):
    def read(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "results/a file")

    monkeypatch.setattr("sweeps.records.object_storage.open_sweep", read)
    assert command_line("results", "curves") == Said(
        2,
        "",
        "cannot write to results/a file (No space left on device). Once it can be written again,"
        " run the same command again\n",
    )

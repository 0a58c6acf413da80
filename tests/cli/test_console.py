"""What is printed, and what happens where it cannot be."""

from __future__ import annotations

import io
import os
import threading

import pytest

from sweeps import secrets
from sweeps.cli.console import Output


def test_text_goes_to_a_file_at_once_without_secrets_and_in_order(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(secrets, "_seen", {"abracadabra": "HF_TOKEN"})
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w", encoding="utf-8") as stream:
        stream.write("the caller's own, ")
        output = Output(stream)
        assert output.write("é abracadabra\n") == 14
        assert reader.readline().decode() == "the caller's own, é ***\n"


def test_text_goes_to_a_stream_that_is_no_file():
    stream = io.StringIO()
    Output(stream).write("text")
    assert stream.getvalue() == "text"


def test_a_write_that_nobody_reads_waits_outside_of_the_streams_lock():
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w") as stream:
        output = Output(stream)
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
        output = Output(stream, patience_s=0.01, failed=failures.append)
        output.write("x" * 2_000_000)
        output.write("not tried again")
    assert failures == ["nobody reads it"]


def test_a_full_disk_is_said_once_and_then_the_output_is_quiet():
    failures: list[str] = []
    with open("/dev/full", "w") as stream:
        output = Output(stream, failed=failures.append)
        assert [output.write("text") for _ in range(3)] == [4, 4, 4]
    assert failures == ["No space left on device"]


def test_a_reader_that_went_away_is_no_failure():
    failures: list[str] = []
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        output = Output(stream, failed=failures.append)
        output.write("text")
        output.write("text")
    assert failures == []


def test_a_stream_that_was_closed_is_a_failure():
    failures: list[str] = []
    stream = io.StringIO()
    output = Output(stream, failed=failures.append)
    stream.close()
    output.write("text")
    assert failures == ["I/O operation on closed file"]


def test_without_anybody_to_tell_a_failure_is_raised():
    with open("/dev/full", "w") as stream, pytest.raises(OSError, match="No space left"):
        Output(stream).write("text")

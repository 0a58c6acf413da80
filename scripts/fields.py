"""Tries every `TrainingArguments` field that a space may set: `python -m scripts.fields`.

Each value is one trial, followed by a plain trial in the same process, whose metrics, log entries
and weights must equal those of the first plain trial. Then the trial of the value is paused at its
first report in another process, and resumed: everything must equal the uninterrupted trial.

On a GPU, `--gpu`; on several workers, `--workers 2`; `--json FILE` is written after each value, and
a run that is started again with the same file continues there. `--docs` writes `docs/fields.md`
from such files, and runs nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import re
import shutil
import string
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers

from scripts.field_trials import Group, Outcome, Trial, prepare, scratch, space_of
from scripts.field_values import NOT_RUN, Case, cases
from sweeps.errors import UserError

PAGE = Path(__file__).parents[1] / "docs" / "fields.md"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was found about a value."""

    name: str
    field: str
    problem: str | None = None
    """Why a trial with the value does not run."""
    not_run: str | None = None
    """What such a trial needs that is not available."""
    changes: bool | None = None
    """Whether the trial's numbers or weights differ from the plain trial's."""
    leaks: bool | None = None
    """Whether the plain trial after it differs from the first one."""
    differs: tuple[str, ...] | None = None
    """What differs after a resume; empty: nothing."""
    seconds: float = 0.0


class Matrix:
    """The groups, and the numbers of the first plain trial.

    Args:
        workers: Workers per trial.
        gpu: Whether each has a GPU.
        folder: For checkpoints.
    """

    def __init__(self, workers: int, gpu: bool, folder: Path) -> None:
        self._new = lambda: Group(workers, gpu, folder)
        self._gpu, self._workers = gpu, workers
        self._alike = {"full_determinism": True} if gpu else {}
        self._groups = [self._new(), self._new()]
        self._trials = 0
        self._pool = ThreadPoolExecutor(1)
        self._plain = self._run(0, {})
        again = self._run(0, {})
        if self._plain.error or self._plain != again:
            raise SystemExit(f"two plain trials differ:\n{self._plain}\n{again}")

    def _run(self, group: int, values: dict[str, Any], **how: Any) -> Outcome:
        for _ in range(2):
            self._trials += 1
            trial = Trial(f"t{self._trials:04}-{group}", self._alike | values, **how)
            outcome = self._groups[group].run(trial)
            if outcome.error or outcome.replaced:
                self._replace(group)
            if not outcome.replaced:
                break
        return outcome

    def _replace(self, group: int) -> None:
        self._groups[group].end()
        self._groups[group] = self._new()

    def end(self) -> None:
        """End the groups."""
        for group in self._groups:
            group.end()

    def find(self, case: Case) -> Found:
        """Return what happens in the trials of a value, and in the trial after them."""
        begin = time.monotonic()
        names = {"name": case.name, "field": case.field}
        if lacks := case.lacks(gpu=self._gpu, workers=self._workers):
            return Found(**names, not_run=lacks)
        try:
            space_of(case.values)
        except UserError as error:
            return Found(**names, problem=str(error).splitlines()[-1].strip())
        paused = self._pool.submit(self._run, 1, case.values, pauses=True)
        whole = self._run(0, case.values)
        leaks = None if whole.error else self._run(0, {}) != self._plain
        if leaks:
            self._replace(0)
        first = paused.result()
        error = whole.error or first.error
        differs = None
        if error is None and first.state is None:
            error = "it ended before its first report"
        if error is None:
            rest = self._run(0, case.values, checkpoint=first.state)
            error = rest.error and f"resuming: {rest.error}"
            differs = tuple(_differences(whole, first, rest))
        return Found(
            **names,
            problem=error,
            changes=None if whole.error else whole != self._plain,
            leaks=leaks,
            differs=None if error else differs,
            seconds=round(time.monotonic() - begin, 1),
        )


def _differences(whole: Outcome, first: Outcome, rest: Outcome) -> Iterator[str]:
    """Yield what differs between an uninterrupted trial and one that was paused and resumed."""
    both = first.numbers + rest.numbers
    for part, name in (("step", "steps"), ("metrics", "metrics"), ("log", "log entries")):
        if [one[part] for one in both] != [one[part] for one in whole.numbers]:
            yield name
    if rest.weights != whole.weights:
        yield "weights"


def versions(tried: Sequence[Case]) -> dict[str, Any]:
    """Return the versions and the device that everything ran on, and packages that values need."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    needed = sorted({each.needs for each in tried if each.needs and find_spec(each.needs)})
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": gpu,
        "date": date.today().isoformat(),
        "packages": [f"{name} {version(name)}" for name in needed],
    }


def run(given: argparse.Namespace) -> int:
    """Try the values; return 1 if one leaks, does not run, or does not resume exactly."""
    file: Path | None = given.json
    known = json.loads(file.read_text())["found"] if file and file.exists() else []
    found = [Found(**one) for one in known]
    done = {one.name for one in found}
    wanted = [case for case in cases() if re.search(given.only, case.name)]
    wanted = [case for case in wanted if case.name not in done]
    header = {**versions(wanted), "workers": given.workers}
    header["device"] = header["device"] if given.gpu else "CPU"
    folder = scratch()
    try:
        prepare(folder)
        matrix = Matrix(given.workers, given.gpu, folder)
        try:
            for case in wanted:
                found.append(matrix.find(case))
                print(line(found[-1]), flush=True)
                if file:
                    rows = [dataclasses.asdict(one) for one in found]
                    file.write_text(json.dumps({**header, "found": rows}, indent=1))
        finally:
            matrix.end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return int(any(one.problem or one.leaks or one.differs for one in found))


def line(found: Found) -> str:
    """Return a row of the printed table."""
    if found.not_run:
        return f"{found.name:60} not run: needs {found.not_run}"
    if found.problem:
        return f"{found.name:60} {'LEAKS, ' if found.leaks else ''}fails: {found.problem}"
    resumes = f"resume differs: {', '.join(found.differs)}" if found.differs else "resumes exactly"
    effect = "" if found.changes else "; no effect"
    leaks = "LEAKS, " if found.leaks else ""
    return f"{found.name:60} {leaks}{resumes}{effect} ({found.seconds:.1f} s)"


def page(files: list[Path]) -> str:
    """Return `docs/fields.md`: a row for each value and outcome, with what it was run on."""
    runs = [json.loads(file.read_text()) for file in files]
    rows: dict[tuple[str, str], list[str]] = {}
    places = []
    for letter, one in zip(string.ascii_uppercase, runs, strict=False):
        workers = f"{one['workers']} worker{'s' if one['workers'] > 1 else ''}"
        places.append(
            f"- {letter}: {one['device']}, {workers}; Python {one['python']}, torch"
            f" {one['torch']}, transformers {one['transformers']}, {one['date']}"
            + "".join(f", {package}" for package in one.get("packages", ()))
        )
        for found in (Found(**found) for found in one["found"]):
            if not found.not_run:
                rows.setdefault((found.name, _cells(found)), []).append(letter)
    everywhere = {name for name, _ in rows}
    lacking = {
        found["name"]: found["not_run"]
        for one in runs
        for found in one["found"]
        if found["name"] not in everywhere
    }
    table = [f"| `{name}` | {cells} | {' '.join(on)} |" for (name, cells), on in rows.items()]
    missing = [f"- `{name}`: needs {what}" for name, what in lacking.items()]
    missing += [f"- `{name}`: {why}" for name, why in NOT_RUN.items()]
    return "\n".join([*HEAD, *places, *TABLE, *table, *REST, *missing, ""])


def _cells(found: Found) -> str:
    leaks = "-" if found.leaks is None else "**yes**" if found.leaks else "no"
    if found.problem:
        return f"no: {_plain(found.problem)} | {leaks} | -"
    runs = "yes" if found.changes else "yes, without effect on numbers"
    exact = "yes" if not found.differs else f"**no**: {', '.join(found.differs)} differ"
    return f"{runs} | {leaks} | {exact}"


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")[:160]


HEAD = [
    """# Fields of `TrainingArguments`

Every field that a space may set, each with a value other than its default. `python -m
scripts.fields` makes this page from its own runs. Each value is one trial of a tiny model:

- **runs**: the trial ends well. *Without effect on numbers*: its metrics, log entries and weights
  are those of a trial without the value.
- **leaks**: a trial without the value that follows in the same process differs from the first such
  trial in a metric, a log entry or a bit of the weights.
- **resumes exactly**: the trial is paused at its first report, in the middle of an epoch and
  between two log entries, and another process resumes it. Its metrics, log entries and weights
  equal those of the uninterrupted trial.

`drawn` is not a field: with it, tokens are masked at random, by a collator or as a dataset is read.
On a GPU, all trials have `full_determinism`, because some kernels add in no fixed order.

Run on:
"""
]
TABLE = ["", "| value | runs | leaks | resumes exactly | on |", "| --- | --- | --- | --- | --- |"]
REST = [
    "",
    "Not run (`plan` and `run` refuse an optimizer, Liger, FlashAttention or DeepSpeed without its"
    " package):",
    "",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", default="", help="regular expression that the names of the values must match"
    )
    parser.add_argument("--workers", type=int, default=1, help="workers per trial")
    parser.add_argument("--gpu", action="store_true", help="train on GPUs")
    parser.add_argument("--json", type=Path, help="file for the results; continued if it exists")
    parser.add_argument(
        "--docs", type=Path, nargs="+", help="result files of --json to write the page from"
    )
    given = parser.parse_args()
    if given.docs:
        PAGE.write_text(page(given.docs))
        return
    sys.exit(run(given))


if __name__ == "__main__":
    main()

"""Sweeps from Python: `run`, `resume`, `confirm`, `load` and `compare`, as on the command line.

Runs in the user's process or notebook, and leaves it unchanged. It must not do anything that the
command line cannot do.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.answer.page.write_page import write_comparison, write_report
from sweeps.answer.results import Results, read_results
from sweeps.config import SweepConfig
from sweeps.declared_types import checked
from sweeps.driver.caller import as_found
from sweeps.driver.early_server import head_start
from sweeps.driver.followers import Follower
from sweeps.driver.requests.finished import Changes, finish_tracking, no_effect, nothing_left
from sweeps.environment import environment
from sweeps.errors import UserError
from sweeps.records.folder import SweepFolder
from sweeps.records.object_storage import open_sweep, refresh
from sweeps.records.sweep_record import read_record
from sweeps.secrets import PLACES
from sweeps.space.search_space import SearchSpace

if TYPE_CHECKING:
    from pandas import DataFrame  # type: ignore[import-untyped]


SHOWN = 10
"""Number of trials that a notebook shows; `to_pandas()` returns all of them."""


@dataclass(frozen=True)
class Sweep:
    """A sweep on disk, whether it is running or not."""

    folder: SweepFolder
    _credentials: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    """Environment variables that give access to its object storage; None: not set."""

    @property
    def id(self) -> str:
        """The sweep id."""
        return self.folder.id

    def results(self) -> dict[str, Any]:
        """Return the results so far, as `results --json` prints them."""
        return self._read().in_json()

    def _read(self) -> Results:
        with environment(self._credentials):
            refresh(self.folder)
        return read_results(self.folder)

    def to_pandas(self) -> DataFrame:
        """Return the trials as a table, best first, indexed by trial id.

        Each param is a separate column, such as `params.learning_rate`. A sweep without trials has
        no columns.
        """
        import pandas

        trials = self.results()["trials"]
        table = pandas.json_normalize(trials) if trials else pandas.DataFrame(columns=["trial"])
        return table.set_index("trial")

    def _repr_html_(self) -> str:
        """Return the best trials and the answer, as a notebook shows them."""
        from sweeps.cli.notebook import html_table, preformatted
        from sweeps.cli.summary import answer_lines
        from sweeps.cli.tables import noise_lines, results_table

        read = self._read()
        found = read.in_json()
        lines = [*noise_lines(found, SHOWN), *answer_lines(read.answer)]
        return html_table(results_table(found, SHOWN)) + preformatted("\n".join(lines))

    @property
    def best(self) -> Mapping[str, Any] | None:
        """The best trial, as `results` has it; None while there is no report."""
        best: Mapping[str, Any] | None = self.results()["best"]
        return best

    @checked
    def export(
        self,
        out: str | Path,
        trial: str | None = None,
        force: bool = False,
        merge: bool = False,
        evaluate: bool = True,
        *,
        test: bool = False,
        push_to_hub: str | None = None,
        private: bool = False,
        register: str | None = None,
    ) -> Path:
        """Write the best checkpoint as a plain HF folder, and evaluate it again.

        Prints what the verb prints: whether the model was loaded back and evaluated again.

        Args:
            out: The folder to create.
            trial: A trial, or a run of the confirmation; None: the best.
            force: Whether to replace a folder that is not empty.
            merge: Whether to merge a LoRA adapter into its base model.
            evaluate: Whether to evaluate the exported model on the held-out rows, in a separate
                process.
            test: Whether to evaluate it on the test split as well; each use of that split is
                counted.
            push_to_hub: A model repository on the Hub to upload the folder to.
            private: Whether to make that repository private.
            register: A registered model in MLflow; the checkpoint becomes a version of it with the
                alias `champion`.

        Raises:
            UserError: The checkpoint does not exist; `out` is not empty and `force` is not set;
                there is no adapter to merge; the Hub's token is missing; or the sweep is not in
                MLflow.
            SweepError: The exported model does not load, or does not match what the trial reported.
                Or MLflow or the Hub rejects it; the folder then stays.
        """
        from sweeps.cli.console import say
        from sweeps.cli.export_command import print_exported
        from sweeps.cli.handing_over import hand_over

        found = read_results(self.folder)
        with environment(self._credentials):
            hand_over(
                found,
                Path(out),
                push_to_hub=push_to_hub,
                private=private,
                register=register,
                note=say,
                exported=lambda done: print_exported(found.answer, done, Path(out)),
                trial_id=trial,
                force=force,
                merge=merge,
                evaluate=evaluate,
                test=test,
            )
        return Path(out)

    @checked
    def report(self, out: str | Path | None = None) -> Path:
        """Write an HTML page about the sweep, whether it is running or not, and return its path.

        Args:
            out: The file; None: `report.html` in the sweep's folder.

        Raises:
            UserError: The file cannot be written.
        """
        return write_report(self._read(), Path(out) if out is not None else None)


@checked
def run(
    space: str | SearchSpace,
    config: SweepConfig | None = None,
    overrides: Sequence[str] = (),
    *,
    name: str | None = None,
    followers: Sequence[Follower] | None = None,
) -> Sweep:
    """Run a sweep to its end, then restore the environment, logging, signal handlers and the like.

    Args:
        space: A search space, or the name, dotted module or file of one.
        config: How much the sweep may spend, and where it runs.
        overrides: `KEY=VALUE` strings, as on the command line.
        name: Prefix of the sweep's id if `space` is a `SearchSpace`; None: `inline`. A space that
            is loaded is named after its file.
        followers: Objects that watch the sweep in place of the `Display`, which prints its
            progress; empty: nothing is printed.

    Raises:
        UserError: Something is wrong that the user can fix.
        SweepError: The sweep could not continue.
        KeyboardInterrupt: The sweep was interrupted; `load` shows its results so far.
    """
    config = config or SweepConfig()
    with as_found(), head_start(config.address, in_program=True):
        from sweeps.cli.running import run_and_show
        from sweeps.driver.requests.new_request import make_request

        if name is not None and not isinstance(space, SearchSpace):
            raise UserError(
                f"name={name!r}: a sweep of {space!r} is named after the file of the space; omit"
                " name"
            )
        request = make_request(
            space,
            config,
            assignments=overrides,
            command="sweeps.run",
            name=name or "inline",
        )
        outcome = run_and_show(request, followers=followers)
        return _sweep(outcome.folder)


@checked
def resume(
    sweep: str | Sweep,
    changes: Changes | None = None,
    *,
    storage: str | Path = "./results",
    take_new_code: bool = False,
    space: SearchSpace | None = None,
    followers: Sequence[Follower] | None = None,
) -> Sweep:
    """Continue a sweep where its log ends, and run it to its end; see `run`.

    Args:
        sweep: The sweep, its id, the beginning of its id, or a space's name (for its latest sweep).
        changes: What changes from now on; everything else stays as recorded.
        storage: Where to look for a sweep that is given by name: a folder, or the URI of an object
            store.
        take_new_code: Whether to use the space's current files instead of the sweep's copy.
        space: The same space again, if the sweep was started with a space that has no file.
        followers: See `run`.

    Raises:
        UserError: The sweep does not exist, is running, or has a new definition that is
            incompatible.
        SweepError: The sweep could not continue.
        KeyboardInterrupt: The sweep was interrupted again.
    """
    with as_found():
        from sweeps.cli.display import Display
        from sweeps.cli.running import run_and_show
        from sweeps.driver.requests.resume_request import make_resumption

        folder, place = _find(sweep, storage)
        asked, command = changes or Changes(), "sweeps.resume"
        if why := nothing_left(folder, asked):
            watching = [Display()] if followers is None else followers

            def say(line: str) -> None:
                for follower in watching:
                    follower.note(line)

            say(f"{folder.id} is finished: {why}")
            for name, given in (("take_new_code", take_new_code), ("space", space is not None)):
                if given:
                    say(no_effect(name))
            finish_tracking(folder, asked, storage=place, command=command, say=say)
        else:
            address = asked.address or read_record(folder).config.address
            with head_start(address, in_program=True):
                request = make_resumption(
                    folder,
                    asked,
                    storage=place,
                    take_new_code=take_new_code,
                    space=space,
                    command=command,
                )
                run_and_show(request, folder, followers)
        return _sweep(folder)


@checked
def confirm(
    sweep: str | Sweep,
    *,
    top: int | None = None,
    seeds: int | None = None,
    storage: str | Path = "./results",
    space: SearchSpace | None = None,
    followers: Sequence[Follower] | None = None,
) -> Sweep:
    """Run the best params of a sweep and the baseline again, with fresh seeds; see `run`.

    The outcome is in `results()["answer"]["confirmation"]`. An interrupted confirmation continues.

    Args:
        sweep: The sweep, its id, the beginning of its id, or a space's name (for its latest sweep).
        top: How many of the best params to confirm; None: 2, or as the confirmation began.
        seeds: Fresh seeds for each of them, 2 to 20; None: 6, the fewest that allow a verdict, or
            as the confirmation began.
        storage: Where to look for a sweep that is given by name: a folder, or the URI of an object
            store.
        space: The same space again, if the sweep was started with a space that has no file.
        followers: See `run`.

    Raises:
        UserError: The sweep does not exist or has not ended, or another confirmation has begun.
        SweepError: The confirmation could not continue.
        KeyboardInterrupt: The confirmation was interrupted.
    """
    with as_found():
        from sweeps.cli.running import run_and_show
        from sweeps.driver.requests.confirmation_request import make_confirmation

        folder, place = _find(sweep, storage)
        with head_start(read_record(folder).config.address, in_program=True):
            found = read_results(folder)
            request, asked = make_confirmation(
                found,
                top=top,
                seeds=seeds,
                storage=place,
                where={},
                space=space,
                command="sweeps.confirm",
            )
            confirmed = found.answer.confirmation
            if confirmed is None or not confirmed.ended:
                run_and_show(request, folder, followers, asked)
        return _sweep(folder)


@checked
def load(sweep: str | Sweep, storage: str | Path = "./results") -> Sweep:
    """Return a recorded sweep, whether it is running or not.

    Args:
        sweep: The sweep, its id, the beginning of its id, or a space's name (for its latest sweep).
        storage: Where to look for a sweep that is given by name: a folder, or the URI of an object
            store.

    Raises:
        UserError: There is no such sweep.
    """
    with as_found():
        return _sweep(_find(sweep, storage)[0])


@checked
def compare(
    *sweeps: str | Sweep, out: str | Path | None = None, storage: str | Path = "./results"
) -> Path:
    """Write an HTML page that compares sweeps with the same metric, and return its path.

    Args:
        sweeps: Two or more sweeps, each given as in `load`.
        out: The file; None: `comparison.html` in the storage folder.
        storage: Where to look for sweeps that are given by name.

    Raises:
        UserError: A sweep does not exist, the metrics differ, or the file cannot be written.
    """
    with as_found():
        found = [read_results(_find(sweep, storage)[0]) for sweep in sweeps]
        return write_comparison(found, Path(out) if out is not None else None)


def _find(sweep: str | Sweep, storage: str | Path) -> tuple[SweepFolder, str]:
    """Return a sweep's folder, brought up to date, and the storage that it is in.

    Args:
        sweep: The sweep, or its name. The environment gets the credentials of a `Sweep`, so this
            must be called within `as_found`.
        storage: Where a sweep is looked up by its name.
    """
    if isinstance(sweep, str):
        return open_sweep(storage, sweep), str(storage)
    os.environ.update({name: value for name, value in sweep._credentials.items() if value})
    refresh(sweep.folder)
    return sweep.folder, sweep.folder.storage or str(sweep.folder.path.parent)


def _sweep(folder: SweepFolder) -> Sweep:
    """Return the sweep, with the credentials that this process now uses for its storage."""
    names = PLACES["s3"] if folder.storage is not None else ()
    return Sweep(folder, {name: os.environ.get(name) for name in names})

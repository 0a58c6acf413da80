"""Sweeps from Python: `run`, `resume` and `load`, the same as on the command line.

Runs in the user's process or notebook. It must not do anything that the command line cannot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.answer.export import export_checkpoint
from sweeps.answer.results import read_results
from sweeps.config import SweepConfig
from sweeps.records.folder import SweepFolder
from sweeps.records.object_storage import open_sweep, refresh
from sweeps.space.search_space import SearchSpace

if TYPE_CHECKING:
    from sweeps.driver.resumption import Changes


@dataclass(frozen=True)
class Sweep:
    """A sweep on disk, running or not."""

    folder: SweepFolder

    @property
    def id(self) -> str:
        """The sweep id."""
        return self.folder.id

    def results(self) -> dict[str, Any]:
        """Return what `results --json` prints, as it stands now."""
        refresh(self.folder)
        return read_results(self.folder).in_json()

    @property
    def best(self) -> Mapping[str, Any] | None:
        """The best trial's entry in the results; None while there is no report."""
        best: Mapping[str, Any] | None = self.results()["best"]
        return best

    def export(
        self,
        out: str | Path,
        trial: str | None = None,
        force: bool = False,
        merge: bool = False,
    ) -> Path:
        """Hand over the best checkpoint, or a trial's, as a plain HF folder.

        Args:
            out: The folder to make.
            trial: A trial id; None: the best.
            force: Whether a non-empty folder is replaced.
            merge: Whether a LoRA adapter is put into its model.

        Raises:
            UserError: There is no such checkpoint, `out` is not empty and `force` is not set, or
                there is no adapter to merge.
        """
        found = read_results(self.folder)
        export_checkpoint(found, Path(out), trial_id=trial, force=force, merge=merge)
        return Path(out)


def run(
    space: str | SearchSpace, config: SweepConfig | None = None, overrides: Sequence[str] = ()
) -> Sweep:
    """Run a sweep to its end and show how it goes.

    Args:
        space: A search space, or its name, dotted module or file.
        config: What may be spent, and where.
        overrides: `KEY=VALUE` texts, as on the command line.

    Raises:
        UserError: Something that can be fixed is wrong.
        SweepError: The sweep could not go on.
        KeyboardInterrupt: It was interrupted; `load` shows what was found.
    """
    from sweeps.cli.display import run_and_show
    from sweeps.driver.new_request import make_request

    request = make_request(
        space, config or SweepConfig(), assignments=overrides, command="sweeps.run"
    )
    outcome = run_and_show(request)
    if outcome.interrupted:
        raise KeyboardInterrupt
    return Sweep(outcome.folder)


def resume(
    sweep: str,
    changes: Changes | None = None,
    *,
    storage: str | Path = "./results",
    take_new_code: bool = False,
    space: SearchSpace | None = None,
) -> Sweep:
    """Take a sweep up again where its log ends, and run it to its end.

    Args:
        sweep: Its id, or its space's name for the latest.
        changes: What is different from now on; all else is as recorded.
        storage: Folder of all results.
        take_new_code: Whether the space's files are taken as they are now.
        space: The same space again, where the sweep was started with one that has no file.

    Raises:
        UserError: There is none, it is running, or its definition differs where it must not.
        SweepError: The sweep could not go on.
        KeyboardInterrupt: It was interrupted again.
    """
    from sweeps.cli.display import run_and_show
    from sweeps.driver.resumption import Changes, make_resumption, nothing_left

    found = load(sweep, storage)
    request = make_resumption(
        found.folder,
        changes or Changes(),
        storage=str(storage),
        take_new_code=take_new_code,
        space=space,
        command="sweeps.resume",
    )
    if nothing_left(found.folder, request.config) is None:
        outcome = run_and_show(request, found.folder)
        if outcome.interrupted:
            raise KeyboardInterrupt
    return found


def load(sweep: str, storage: str | Path = "./results") -> Sweep:
    """Return a sweep by its id, or the latest one of a space by the space's name.

    Raises:
        UserError: There is none.
    """
    return Sweep(open_sweep(storage, sweep))

"""Finds a space's script, includes its folder in the copied code, and has its dry run made.

Runs in the sweep process before the space is checked: only the script knows its arguments and
flags. It must not know what the script does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray.tune.search.sample import Categorical, Domain

from sweeps.config import SweepConfig
from sweeps.errors import UserError
from sweeps.space import domains
from sweeps.space.conditions import branches_of
from sweeps.space.loading import LoadedSpace
from sweeps.space.overrides import JUDGED
from sweeps.space.ranges import range_of
from sweeps.space.search_space import SearchSpace

FOLDER = "dry_runs"
"""The folder in the storage that keeps what dry runs found."""


def settle_script(
    loaded: LoadedSpace,
    assignments: Sequence[str],
    base: Path,
    config: SweepConfig,
    note: Callable[[str], None],
) -> LoadedSpace:
    """Return the space with its script found and tried; unchanged if it has none.

    Args:
        loaded: The space, not yet checked.
        assignments: `KEY=VALUE` texts.
        base: The folder that trials run in.
        config: Says where the findings are stored.
        note: Called with a line about what is done.

    Raises:
        UserError: There is no such script, its folder cannot be copied, or it cannot be tuned.
    """
    if not callable(loaded.space.build_trainer):
        return loaded
    beside = [] if loaded.file is None else [loaded.file.parent, loaded.root]
    builder = loaded.space.builder.located([*beside, base])
    if builder.script_file is None:
        return loaded
    if builder.script_folder is not None:
        loaded = _with_folder(loaded, builder.script_file, builder.script_folder)
    flags = dict(_some_values(loaded.space, assignments))
    kept = config.storage_folder / FOLDER
    builder = builder.tried(flags, base=base, kept=kept, note=note)
    return dataclasses.replace(
        loaded, space=dataclasses.replace(loaded.space, build_trainer=builder.own)
    )


def _with_folder(loaded: LoadedSpace, file: Path, folder: Path) -> LoadedSpace:
    """Return the space with a folder that also holds its script."""
    if loaded.folder is None:
        return dataclasses.replace(loaded, root=folder, folder=folder)
    if folder.is_relative_to(loaded.folder):
        return loaded
    if loaded.folder.is_relative_to(folder) and not loaded.dotted:
        return dataclasses.replace(loaded, root=folder, folder=folder)
    if loaded.dotted and loaded.file is not None:
        cure = f"pass the space as a file: {loaded.file}"
    else:
        cure = "move the space into the script's folder, or into a subfolder of it"
    raise UserError(
        f"{file} is outside the space's folder, {loaded.folder}, but only that folder is copied to"
        f" the workers; {cure}",
        loaded.where,
    )


def _some_values(space: SearchSpace, assignments: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield a value for each key of an unchecked space, for flags that a script requires."""
    for key, declared in _mapping(space.tuned):
        for branch in branches_of(key, declared):
            if isinstance(branch.domain, Domain):
                yield key, _first(branch.domain)
                break
    yield from _mapping(space.fixed)
    for text in assignments:
        key, equals, value = text.partition("=")
        if equals and key not in JUDGED:
            with suppress(ValueError):  # reported when the texts are applied to the space
                parsed = domains.parse(value)
                yield key, _first(parsed) if isinstance(parsed, Domain) else parsed


def _mapping(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()


def _first(domain: Domain) -> Any:
    """Return a value of a domain, the same one each time."""
    if isinstance(domain, Categorical):
        return domain.categories[0] if domain.categories else None
    found = range_of(domain)
    return None if found is None else found.lower

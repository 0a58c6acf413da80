"""Finds a space's script, includes its folder in the copied code, and has its dry run made.

Runs in the sweep process before the space is checked: only the script knows its arguments and
flags. It must not know what the script does.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.search.sample import Categorical, Domain

from sweeps.config import SweepConfig
from sweeps.driver.requests.script_baseline import own_arguments
from sweeps.errors import UserError
from sweeps.space import domains
from sweeps.space.adapted import Adapted
from sweeps.space.arguments import fields_of
from sweeps.space.code_copy import copy_code
from sweeps.space.conditions import branches_of, same
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
        UserError: There is no such script, its folder cannot be copied, it cannot be tuned, or two
            keys of the space set the same argument.
    """
    if not callable(loaded.space.build_trainer):
        return loaded
    beside = [] if loaded.file is None else [loaded.file.parent, loaded.root]
    builder = loaded.space.builder.located([*beside, base])
    if builder.script_file is None:
        return loaded
    if builder.script_folder is not None:
        loaded = _with_folder(loaded, builder.script_file, builder.script_folder)
    given = dict(_given(loaded.space, assignments))
    kept = config.storage_folder / FOLDER

    file = builder.script_file

    def copy(mirror: Path) -> Path:
        code = mirror / loaded.root.relative_to(loaded.root.anchor)
        copy_code(loaded, code)
        return code / file.relative_to(loaded.root)

    dry_run = functools.partial(
        builder.tried,
        base=base,
        kept=kept,
        copy_code=copy if builder.script_folder is not None else None,
    )

    def again(changed: Mapping[str, Any]) -> Adapted:
        return dry_run(changed, note=lambda _: None)

    tried = dry_run(given, note=note)
    if problems := list(_set_twice(tried, given, again)):
        raise UserError(problems, loaded.where)
    return dataclasses.replace(
        loaded, space=dataclasses.replace(loaded.space, build_trainer=tried.own)
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


def _given(space: SearchSpace, assignments: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield a value or a domain for each key of an unchecked space; a script may require some."""
    for key, declared in _mapping(space.tuned):
        for branch in branches_of(key, declared):
            if isinstance(branch.domain, Domain):
                yield key, branch.domain
                break
    yield from _mapping(space.fixed)
    for text in assignments:
        key, equals, value = text.partition("=")
        if equals and key not in JUDGED:
            with suppress(ValueError):  # reported when the texts are applied to the space
                yield key, domains.parse(value)


def _mapping(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()


def _set_twice(
    builder: Adapted,
    given: Mapping[str, Any],
    again: Callable[[Mapping[str, Any]], Adapted],
) -> Iterator[str]:
    """Yield a problem for each flag that sets an argument which another key sets as well.

    Only the script knows what it does with a flag. If an argument equals a flag in the dry run,
    another dry run with another value of the flag shows whether the argument follows it.

    Args:
        builder: The script after its dry run.
        given: A value or a domain for each key of the space.
        again: Performs another dry run with these values and domains.
    """
    keywords, arguments = builder.keywords, own_arguments(builder)
    setters = {field: key for key in given.keys() - keywords for field in fields_of(key)}
    for flag in sorted(given.keys() & keywords):
        value = {**given, **builder.tried_values}[flag]
        alike = [field for field in sorted(setters) if same(arguments.get(field), value)]
        if value is None or not alike:
            continue
        try:
            if isinstance(given[flag], Domain):
                another = _another(given[flag], value)
            else:  # the script's own value, which is only known for domains
                own = again({**given, flag: tune.choice([value])}).keyword_values
                another = own.get(flag)
            if another is None or same(another, value):
                continue
            changed = own_arguments(again({**given, flag: another}))
        except UserError:  # the script rejects that value
            continue
        for field in alike:
            if same(changed.get(field), another):
                yield (
                    f"{flag!r} and {setters[field]!r} both set {field}: {builder.name} takes it"
                    f" from its flag {flag!r}; keep one"
                )


def _another(domain: Domain, value: Any) -> Any:
    """Return another value of a domain; None if there is none."""
    if isinstance(domain, Categorical):
        return next((each for each in domain.categories if each not in (value, None)), None)
    if (found := range_of(domain)) is None:
        return None
    step = (found.quantum or 1) if found.whole else found.upper - found.lower
    return found.lower if value != found.lower else found.lower + step

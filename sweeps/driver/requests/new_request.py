"""Makes a checked request from a space, a config and the command line's `KEY=VALUE` texts.

Runs in the sweep process before Ray starts. It must not know how the sweep is run.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from sweeps.config import SweepConfig
from sweeps.driver import cluster
from sweeps.driver.asked_address import asked_address
from sweeps.driver.requests.python_space import without_file
from sweeps.driver.requests.script_baseline import with_baseline
from sweeps.driver.requests.script_request import settle_script
from sweeps.driver.requests.warm_start import warm_start_trials
from sweeps.errors import UserError
from sweeps.planning.request import Request
from sweeps.planning.samples import argument_problems
from sweeps.records.sweep_record import WarmStartTrial
from sweeps.schedulers.drawn import try_out
from sweeps.secrets import take_credentials
from sweeps.space.absolute_paths import with_absolute_paths
from sweeps.space.arguments import argument_fields, batch_problems
from sweeps.space.checks import check_space
from sweeps.space.loading import LoadedSpace, load_space
from sweeps.space.needed_packages import package_problems
from sweeps.space.overrides import override, settle_builder
from sweeps.space.search_space import SearchSpace, builder_variants
from sweeps.space.secret_checks import refuse_secrets
from sweeps.space.sharding import sharding_problems


def make_request(
    source: str | SearchSpace | LoadedSpace,
    config: SweepConfig,
    *,
    assignments: Sequence[str] = (),
    command: str = "",
    base: Path | None = None,
    name: str = "inline",
    warm_start: Sequence[WarmStartTrial] | None = None,
) -> Request:
    """Load a space, apply the command line to it, and check everything that can be checked now.

    Args:
        source: A space, loaded or not; or a name, module or file to load it from.
        config: How much the sweep may spend.
        assignments: `KEY=VALUE` texts.
        command: The command line, for the record.
        base: The folder that relative paths start from; None: the current one.
        name: The name of a `SearchSpace` object; a loaded space is named after its file.
        warm_start: What the searcher observes first, as recorded; None: the config names a sweep.

    Raises:
        UserError: Lists every problem of the first kind that has any: space, command line, data.
    """
    base = base or Path.cwd()
    if isinstance(source, LoadedSpace):
        loaded = source
    elif isinstance(source, SearchSpace):
        if re.fullmatch(r"\w[\w.-]*", name) is None:
            raise UserError(
                f"name={name!r}: use only letters, digits, '_', '-' and '.';"
                " it cannot start with '-' or '.'"
            )
        loaded = without_file(source, name, Path.cwd())
    else:
        loaded = load_space(source)
    config = dataclasses.replace(
        config,
        storage=take_credentials(str(config.storage)),
        tracking_uri=config.tracking_uri and take_credentials(config.tracking_uri),
    )
    script_lines: list[str] = []
    loaded = settle_script(loaded, assignments, base, config, script_lines.append)
    builder = loaded.space.build_trainer
    fields = argument_fields(builder) if callable(builder) else {}
    check_space(loaded.space, fields, loaded.where)
    space, lines = override(loaded.space, assignments, fields)
    check_space(space, fields, "the command line")
    refuse_secrets(space, loaded.where)
    space, more_lines = settle_builder(
        space,
        tiny=config.tiny,
        assigned={text.partition("=")[0] for text in assignments},
        where=loaded.where,
    )
    space = with_absolute_paths(space, base)
    space, baseline_lines = with_baseline(space, config.workers_per_trial)
    if config.repeats > 1 and "seed" in space.tuned:
        raise UserError(
            f"tuned['seed'] does not work with repeats = {config.repeats}, because each repeat"
            " increments the seed. Move it to fixed, as the first seed, or omit --repeats",
            loaded.where,
        )
    workers = config.workers_per_trial
    problems = batch_problems(space, workers) + sharding_problems(space, workers)
    joins = not cluster.is_started_here(asked_address(config.address))
    # The nodes of a cluster may have what is missing here.
    problems += package_problems(space, only_here=joins)
    if problems:
        raise UserError(problems, loaded.where)
    if problems := argument_problems(space, config, loaded.root):
        raise UserError(problems, loaded.where)
    _check_builder(space)
    space = _pin_builder(space)
    warm_start_lines: list[str] = []
    if warm_start is None:
        warm_start, warm_start_lines = warm_start_trials(space, config)
    request = Request(
        loaded=loaded,
        assignments=assignments,
        base=base,
        space=space,
        config=config,
        warm_start_trials=warm_start,
        lines=script_lines + lines + more_lines + baseline_lines + warm_start_lines,
        command=command,
    )
    scheduler = request.new_scheduler()
    if ":" in config.scheduler:
        try_out(scheduler, space, f"scheduler = {config.scheduler!r}")
    return request


def _check_builder(space: SearchSpace) -> None:
    """Have the builder check what it will read, once for each choice of a tuned keyword."""
    for values in builder_variants(space):
        space.builder.with_values(values).check()


def _pin_builder(space: SearchSpace) -> SearchSpace:
    """Return the space with the builder pinned to what it finds now, for each choice."""
    builder = space.builder
    for values in builder_variants(space):
        own = {key: value for key, value in builder.values.items() if key in values}
        builder = builder.with_values(values).pin().with_values(own)
    return dataclasses.replace(space, build_trainer=builder.own)

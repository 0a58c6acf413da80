"""What is tuned and how it is judged: `SearchSpace`, and the keys that it may contain.

Loaded in the sweep process and sent to the workers as a pickle. It must not know how much a sweep
may spend, and it must not check a space: `checks.py` does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.search.sample import Categorical

from sweeps.declared_types import settle_fields
from sweeps.report import Mode
from sweeps.space.adapted import Adapted
from sweeps.space.builder import EVAL
from sweeps.space.conditions import Tunable, When, branches, branches_of
from sweeps.space.plain_values import meant_choices, meant_of, plain, plain_domain, unboxed
from sweeps.space.ranges import range_of

TOTAL_BATCH = "total_train_batch_size"
"""Rows per optimizer step over all workers; a key of `tuned` or `fixed`."""
MAX_ROWS = "max_rows_per_device"
"""Maximum number of rows that one device processes at once; a key of `fixed`."""

OWNED = {
    "output_dir": "checkpoints go to the sweep's folder",
    "do_train": "sweeps trains every trial",
    **dict.fromkeys(
        ("eval_strategy", "eval_steps", "eval_delay", "eval_on_start"),
        "set by sweeps from evals_per_trial",
    ),
    **dict.fromkeys(
        ("metric_for_best_model", "greater_is_better"), "set by sweeps from metric and mode"
    ),
    **dict.fromkeys(
        (
            "save_strategy",
            "save_steps",
            "save_total_limit",
            "save_only_model",
            "save_on_each_node",
            "load_best_model_at_end",
            "enable_jit_checkpoint",
        ),
        "sweeps decides after each evaluation what to save (--keep-checkpoints, --resume-every)",
    ),
    "resume_from_checkpoint": "sweeps resumes trials itself",
    "report_to": "sweeps logs every trial itself (--tracker)",
    **dict.fromkeys(
        ("use_cpu", "local_rank", "ddp_backend"), "--gpus-per-worker determines the devices"
    ),
    "disable_tqdm": "the sweep shows its own progress",
    "logging_nan_inf_filter": "sweeps turns it off, because it hides diverged trials",
    "push_to_hub": "trials are not pushed; export the best checkpoint and push that one",
    "hub_token": (
        "this is a secret, and everything in a space is recorded; set HF_TOKEN in the environment"
        " instead"
    ),
    "ignore_data_skip": "a resumed trial must continue with the rows that it has not seen",
}
"""Arguments that `sweeps` sets itself, with the reason for each."""


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """One experiment: what is built, what is tuned, and how it is judged."""

    build_trainer: Callable[..., Any]
    """`(args: TrainingArguments, **kwargs) -> transformers.Trainer`: a function, or a dataclass
    with any members of `space.builder.Builder`."""
    metric: str
    """The number that trials are judged by, under its HF name, such as `eval_accuracy`."""
    mode: Mode
    """Whether higher (`"max"`) or lower (`"min"`) is better."""
    tuned: Mapping[str, Tunable]
    """Ray domains for arguments, builder keywords and `total_train_batch_size`; or `when(condition,
    domain)`, or a list of `when`s that exclude each other."""
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Values that all trials share. Keys are those of `tuned`, and `max_rows_per_device`: the most
    rows that one device processes at once."""
    first_params: Sequence[Mapping[str, Any]] = ()
    """Params of the first trials, each with a value for every active key; the first entry is the
    baseline that the winner is compared with."""
    constraints: Sequence[Callable[[Mapping[str, Any]], bool]] = ()
    """Functions `f(values) -> bool` of a trial's params and the fixed values. Params for which one
    returns False are never trained. Messages show the name of the function."""
    evals_per_trial: int = 8
    """Number of evaluations in a complete trial, evenly spaced, the last one at its end. A trial
    with fewer steps evaluates after each step."""
    files: Sequence[str] = ()
    """Patterns (`weights/*.bin`) of further files next to the space that are copied with its code.
    `.py` files and small text files are always copied."""

    def __post_init__(self) -> None:
        """Convert domains and params to their form in the log; `check_space` finds the problems."""
        settle_fields(self)
        if isinstance(self.tuned, Mapping):
            tuned = {key: _plain_tunable(declared) for key, declared in self.tuned.items()}
            object.__setattr__(self, "tuned", tuned)
        if isinstance(self.fixed, Mapping):
            fixed = {key: unboxed(value) for key, value in self.fixed.items()}
            object.__setattr__(self, "fixed", fixed)
        if isinstance(self.first_params, list | tuple):
            first = [_plain_mapping(params) for params in self.first_params]
            object.__setattr__(self, "first_params", first)

    @property
    def builder(self) -> Adapted:
        """`build_trainer` with every member of the builder contract."""
        return Adapted(self.build_trainer)


def _plain_tunable(declared: Any) -> Any:
    """Return a declaration with plain domains and conditions."""
    if isinstance(declared, When):
        return When(_plain_mapping(declared.condition), _plain_tunable(declared.then))
    if isinstance(declared, list | tuple) and any(isinstance(part, When) for part in declared):
        return [_plain_tunable(part) for part in declared]
    return plain_domain(declared)


def _plain_mapping(values: Any) -> Any:
    """Return a mapping with plain values; anything else is returned as it is."""
    if not isinstance(values, Mapping):
        return values
    return {key: plain(value) for key, value in values.items()}


def fixed_values(space: SearchSpace) -> dict[str, Any]:
    """Return the plain values that all trials share: `fixed`, and what the builder sets."""
    builder = space.builder
    values = {**builder.argument_values, **builder.values, **space.fixed}
    return {key: plain(value) for key, value in values.items() if key not in space.tuned}


def meant_params(space: SearchSpace, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the params with the values that a trial gets in place of plain ones."""
    values = dict(params)
    for key in params.keys() & space.tuned.keys():
        for branch in branches_of(key, space.tuned[key]):
            values[key] = meant_of(branch.domain, values[key])
    return values


def highest(space: SearchSpace, key: str) -> Iterator[float]:
    """Yield the numbers among a key's fixed value and choices, and the upper end of each range."""
    fixed = fixed_values(space).get(key)
    if isinstance(fixed, int | float):
        yield fixed
    for branch in branches_of(key, space.tuned.get(key, ())):
        if isinstance(branch.domain, Categorical):
            yield from (v for v in branch.domain.categories if isinstance(v, int | float))
        elif (found := range_of(branch.domain)) is not None:
            yield found.upper


def builder_variants(space: SearchSpace) -> list[dict[str, Any]]:
    """Return sets of builder keyword values in which each choice of a tuned keyword occurs."""
    choices: dict[str, list[Any]] = {}
    for branch in branches(space.tuned):
        if branch.key in space.builder.keywords and isinstance(branch.domain, Categorical):
            choices.setdefault(branch.key, []).extend(meant_choices(branch.domain))
    first = {key: values[0] for key, values in choices.items()}
    others = [{**first, key: value} for key, values in choices.items() for value in values[1:]]
    return [first, *others]


def valid_keys(space: SearchSpace, argument_fields: Mapping[str, bool]) -> list[str]:
    """Return every key that `tuned` and `fixed` may have.

    Args:
        space: The space.
        argument_fields: The fields of its argument class, each with whether it accepts dotted keys.
    """
    free = [name for name in argument_fields if name not in OWNED]
    return sorted({*free, *space.builder.keywords, TOTAL_BATCH, MAX_ROWS})


def is_dict_key(key: str, argument_fields: Mapping[str, bool]) -> bool:
    """Tell whether a key such as `lr_scheduler_kwargs.num_cycles` sets an entry of an argument."""
    head, _, name = key.partition(".")
    return bool(name) and argument_fields.get(head, False)


def with_prefix(metric: str, names: Collection[str]) -> str:
    """Return `; did you mean …?` for a metric that only lacks the prefix `eval_`, or nothing."""
    whole = f"{EVAL}{metric}"
    return f"; did you mean {whole!r}?" if whole in names else ""

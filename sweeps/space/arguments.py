"""Turns fixed values and params into HF `TrainingArguments`, including batch arithmetic.

The sweep process reads the field names and builds samples; workers, the model process and a dry run
build the arguments of a trial. It must not know about the cluster: it receives the number of
workers and whether they have GPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune.search.sample import Categorical, Domain, Float, Integer, Quantized

from sweeps.errors import UserError
from sweeps.space.adapted import Adapted
from sweeps.space.annotations import first_types
from sweeps.space.builder import EVAL
from sweeps.space.conditions import branches_of
from sweeps.space.domains import describe
from sweeps.space.search_space import MAX_ROWS, OWNED, TOTAL_BATCH, SearchSpace, meant_params

if TYPE_CHECKING:
    from transformers import TrainingArguments

NEVER = 2**31 - 1
"""A value of `eval_steps` that HF never reaches: the gate requests each evaluation itself."""
OPTIM_ARGS = "optim_args"
"""The field that holds `name=value,name=value` as a string."""
BATCH_FIELDS = ("per_device_train_batch_size", "gradient_accumulation_steps")
"""The fields that are computed from a total batch size."""
HALF_PRECISION = ("bf16", "fp16", "bf16_full_eval", "fp16_full_eval")
LOADERS = 4
"""Maximum number of data-loader processes for a worker with a GPU: prepared rows need no more."""
LOGS_PER_EVALUATION = 4
"""Log entries between two evaluations if the space sets no `logging_steps`."""


@dataclass(frozen=True)
class Devices:
    """The devices of one trial."""

    workers: int
    """Worker processes."""
    gpu: bool
    """Whether each worker has a GPU (or a fraction of one)."""
    bf16: bool
    """Whether every worker's GPU computes in bfloat16 natively."""
    cpus: int = 1
    """CPUs of each worker."""


def argument_class(builder: Callable[..., Any]) -> type[TrainingArguments]:
    """Return the builder's argument class, or the class that its first parameter is annotated with.

    `TrainingArguments` if there is no annotation.
    """
    from transformers import TrainingArguments

    if (own := Adapted(builder).argument_class) is not None:
        return own
    found = (kind for kind in first_types(builder) if issubclass(kind, TrainingArguments))
    return next(found, TrainingArguments)


def classes_with(field: str) -> list[str]:
    """Return the names of the loaded subclasses of `TrainingArguments` that add this field."""
    from transformers import Seq2SeqTrainingArguments, TrainingArguments

    found, kinds = list[str](), [Seq2SeqTrainingArguments, *TrainingArguments.__subclasses__()]
    for kind in kinds:  # extended in the loop, to find subclasses of subclasses
        kinds += kind.__subclasses__()
        if field in vars(kind).get("__annotations__", {}) and kind.__name__ not in found:
            found.append(kind.__name__)
    return found


def argument_fields(builder: Callable[..., Any]) -> dict[str, bool]:
    """Return the fields of the builder's argument class, each with whether it accepts dotted keys.

    Fields that hold a dict do, and so does `optim_args`, which is a string.
    """
    kind = argument_class(builder)
    written: dict[str, Any] = {}  # `HfArgumentParser` puts other types into the fields (5.23)
    for each in reversed(kind.__mro__):
        written |= vars(each).get("__annotations__", {})
    return {
        field.name: "dict" in str(written[field.name]) or field.name == OPTIM_ARGS
        for field in fields(kind)
        if field.init
    }


def split_batch(total: int, workers: int, max_rows: int | None) -> tuple[int, int]:
    """Return the (rows per device, accumulation steps) that make `total` rows per optimizer step.

    Raises:
        UserError: `total` or `max_rows` is not an integer of at least 1, or `total` is not
            divisible by `workers`; the message names the nearest sizes that are.
    """
    for name, rows in ((TOTAL_BATCH, total), (MAX_ROWS, max_rows)):
        whole = isinstance(rows, int) and not isinstance(rows, bool) and rows >= 1
        if not whole and rows is not None:
            raise UserError(f"{name} = {rows!r}: must be an integer of at least 1")
    steps = 1
    if max_rows is not None:
        while workers * steps * max_rows < total or total % (workers * steps):
            steps += 1
            if workers * steps > total:
                break
    if total % (workers * steps):
        below, above = total // workers * workers, (total // workers + 1) * workers
        sizes = " or ".join(str(size) for size in (below, above) if size > 0)
        raise UserError(
            f"{TOTAL_BATCH} = {total} is not divisible by {workers} workers; nearest: {sizes}"
        )
    return total // (workers * steps), steps


def batch_problems(space: SearchSpace, workers: int) -> list[str]:
    """Return the problems with the total batch sizes that the space can yield."""
    problems = []
    for branch in branches_of(TOTAL_BATCH, space.tuned.get(TOTAL_BATCH, ())):
        problems += _batch_domain_problems(space, branch.domain, workers)
    if TOTAL_BATCH in space.fixed:
        problems += _batch_size_problems(space, [space.fixed[TOTAL_BATCH]], workers)
    return problems


def _batch_domain_problems(space: SearchSpace, domain: Domain, workers: int) -> list[str]:
    if isinstance(domain, Categorical):
        return _batch_size_problems(space, domain.categories, workers)
    assert isinstance(domain, Float | Integer)
    sampler = domain.get_sampler()
    quantum = sampler.q if isinstance(sampler, Quantized) else 1
    if isinstance(domain, Float):
        whole = "randint" if workers == 1 else f"qrandint with a multiple of {workers}"
        return [
            f"{TOTAL_BATCH}: {describe(domain)} can yield fractions; use choice([...]) or {whole}"
        ]
    if domain.lower < 1:
        return [
            f"{TOTAL_BATCH}: {describe(domain)} can yield {domain.lower}; the lower bound must be"
            " at least 1"
        ]
    # A draw is clipped to the ends of the range, so they must be multiples as well.
    ends = (domain.lower, domain.upper) if quantum > 1 else (0,)
    if all(n % workers == 0 for n in (quantum, *ends)):
        return []
    return [
        f"{TOTAL_BATCH}: {describe(domain)} can yield sizes that are not divisible by {workers}"
        f" workers; use choice([...]) or qrandint with a multiple of {workers}"
    ]


def _batch_size_problems(space: SearchSpace, totals: Sequence[Any], workers: int) -> list[str]:
    problems = []
    for total in totals:
        try:
            split_batch(total, workers, space.fixed.get(MAX_ROWS))
        except UserError as error:
            problems.append(str(error))
    return problems


def trial_values(
    space: SearchSpace, params: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the values of one trial: those of arguments, and those of builder keywords."""
    keywords = space.builder.keywords
    values = {**space.fixed, **meant_params(space, params)}
    return (
        {key: value for key, value in values.items() if key not in keywords},
        {key: value for key, value in values.items() if key in keywords},
    )


def tuned_fields(space: SearchSpace, params: Mapping[str, Any]) -> set[str]:
    """Return the fields of the arguments that a trial's params determine."""
    keys = params.keys() - space.builder.keywords
    return {field for key in keys for field in fields_of(key)}


def fields_of(key: str) -> Sequence[str]:
    """Return the argument fields that a key of a space determines."""
    return BATCH_FIELDS if key == TOTAL_BATCH else (key.partition(".")[0],)


def trial_seed(space: SearchSpace, params: Mapping[str, Any], default: int) -> int:
    """Return HF's `seed` for a trial: tuned or fixed, else the builder's, else the default."""
    own = space.builder.argument_values
    seed: int = {**own, **space.fixed, **params}.get("seed", default)
    return seed


def training_arguments(
    space: SearchSpace,
    params: Mapping[str, Any],
    *,
    devices: Devices,
    output_dir: Path,
    seed: int,
    reduced: Collection[str] = (),
) -> TrainingArguments:
    """Return the arguments of one trial; see `argument_values`."""
    values = argument_values(
        space, params, devices=devices, output_dir=output_dir, seed=seed, reduced=reduced
    )
    own = space.builder.argument_values
    return argument_class(space.build_trainer)(**nested(values, own))


def argument_values(
    space: SearchSpace,
    params: Mapping[str, Any],
    *,
    devices: Devices,
    output_dir: Path,
    seed: int,
    reduced: Collection[str] = (),
) -> dict[str, Any]:
    """Return the values of one trial's arguments, with dotted keys as the space writes them.

    A builder that creates its arguments itself also decides on precision, data loaders and its
    trackers, and reduces rows itself; other arguments that `sweeps` owns and does not set here have
    HF's default.

    Args:
        space: The space.
        params: The trial's params.
        devices: The trial's devices.
        output_dir: The trial's checkpoint folder, inside the folder of its sweep.
        seed: HF `seed`; see `trial_seed`.
        reduced: The phases (`training`, `evaluation`) that run with fewer rows per device, because
            memory ran out; the total batch is unchanged.
    """
    values, _ = trial_values(space, params)
    values |= _rows(values, devices.workers)
    own = space.builder.argument_values
    for phase in () if space.builder.makes_arguments else reduced:
        values |= fewer_rows(values, phase)
    values = {k: v for k, v in values.items() if k not in (TOTAL_BATCH, MAX_ROWS)}
    if not devices.gpu:
        values |= {key: False for key in HALF_PRECISION if key in values}
        values.pop("tf32", None)
    if own.keys().isdisjoint(("logging_steps", "logging_strategy")):
        values.setdefault("logging_steps", 1 / (LOGS_PER_EVALUATION * space.evals_per_trial))
    values.setdefault("run_name", f"{output_dir.parent.parent.name}-{output_dir.name}")
    if space.builder.makes_arguments:
        values = owned_defaults() | values
        del values["report_to"]
    else:
        _set_defaults(values, devices)
        values["report_to"] = "none"
    return {
        **values,
        "seed": seed,
        "output_dir": str(output_dir),
        "do_train": True,  # many scripts read their train rows only if it is set
        "eval_strategy": "steps",
        "eval_steps": NEVER,
        "save_strategy": "no",
        # HF would add `eval_` to any other name, but the evaluation may not return that metric.
        "metric_for_best_model": space.metric if space.metric.startswith(EVAL) else None,
        "greater_is_better": space.mode == "max",
        "use_cpu": not devices.gpu,
        "disable_tqdm": True,
        "logging_nan_inf_filter": False,
    }


def _set_defaults(values: dict[str, Any], devices: Devices) -> None:
    if devices.gpu and "bf16" not in values and "fp16" not in values:
        values["bf16"] = devices.bf16
    if devices.gpu and devices.cpus > 1:  # on a CPU, loaders would slow down training
        values.setdefault("dataloader_num_workers", min(LOADERS, devices.cpus - 1))
        if values["dataloader_num_workers"] > 0:  # kept between epochs, not forked for each
            values.setdefault("dataloader_persistent_workers", True)


def owned_defaults() -> dict[str, Any]:
    """Return HF's defaults for the arguments that `sweeps` owns."""
    from transformers import TrainingArguments

    owned = [field for field in fields(TrainingArguments) if field.name in OWNED]
    return {field.name: field.default for field in owned if field.default is not MISSING}


def _rows(values: Mapping[str, Any], workers: int) -> dict[str, int]:
    """Return the rows per device and accumulation steps for a total batch, if there is one."""
    total = values.get(TOTAL_BATCH)
    if total is None:
        return {}
    rows, steps = split_batch(total, workers, values.get(MAX_ROWS))
    return {"per_device_train_batch_size": rows, "gradient_accumulation_steps": steps}


def fewer_rows(values: Mapping[str, Any], phase: str) -> dict[str, int]:
    """Return values that halve the rows per device in a phase, or come as close as possible.

    Empty if there is only one row already. HF's default is 8 rows.
    """
    if phase == "evaluation":
        rows = int(values.get("per_device_eval_batch_size", 8))
        return {"per_device_eval_batch_size": rows // 2} if rows > 1 else {}
    rows = int(values.get("per_device_train_batch_size", 8))
    if rows == 1:
        return {}
    parts = next(n for n in range(2, rows + 1) if rows % n == 0)
    steps = int(values.get("gradient_accumulation_steps", 1))
    return {
        "per_device_train_batch_size": rows // parts,
        "gradient_accumulation_steps": steps * parts,
    }


def may_take_fewer_rows(
    space: SearchSpace, params: Mapping[str, Any], workers: int, phase: str
) -> bool:
    """Tell whether a trial can run with fewer rows per device."""
    values, _ = trial_values(space, params)
    values = space.builder.argument_values | values
    return bool(fewer_rows(values | _rows(values, workers), phase))


def half_precision_switched_off(space: SearchSpace) -> list[str]:
    """Return the half-precision arguments of the space that are turned off on a CPU."""
    return [key for key in (*HALF_PRECISION, "tf32") if key in space.tuned or space.fixed.get(key)]


def nested(values: Mapping[str, Any], under: Mapping[str, Any]) -> dict[str, Any]:
    """Return `under` updated with `values`.

    Keys such as `lr_scheduler_kwargs.num_cycles` become dict entries.
    """
    result = {**under, **{key: value for key, value in values.items() if "." not in key}}
    for key, value in values.items():
        if "." in key:
            head, tail = key.split(".", 1)
            if head == OPTIM_ARGS:
                result[head] = ",".join(filter(None, [result.get(head), f"{tail}={value}"]))
            else:
                result[head] = {**(result.get(head) or {}), tail: value}
    return result

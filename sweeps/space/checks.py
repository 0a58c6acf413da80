"""Everything that can be wrong with a search space before anything starts.

Runs in the sweep process. It must not know about the cluster or read any data.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ray.tune.search.sample import Domain

from sweeps.declared_types import settle_fields
from sweeps.errors import UserError
from sweeps.naming import nearest
from sweeps.space import domains
from sweeps.space.adapted import Adapted
from sweeps.space.arguments import BATCH_FIELDS, OPTIM_ARGS, argument_class, classes_with, fields_of
from sweeps.space.builder import DATA, STREAM
from sweeps.space.conditions import When, branches_of, describe_tunable
from sweeps.space.domain_checks import (
    GRID,
    constraint_problems,
    first_params_problems,
    tuned_problems,
)
from sweeps.space.field_values import domain_problems, value_problem, value_types
from sweeps.space.plain_values import unboxed
from sweeps.space.search_space import (
    MAX_ROWS,
    OWNED,
    TOTAL_BATCH,
    SearchSpace,
    builder_variants,
    fixed_values,
    highest,
    is_dict_key,
    valid_keys,
    with_prefix,
)

DROPPED = {
    "warmup_ratio": "use warmup_steps; a value below 1 is a fraction of all steps",
    "evaluation_strategy": OWNED["eval_strategy"],
    "per_gpu_train_batch_size": "use per_device_train_batch_size, or total_train_batch_size",
    "per_gpu_eval_batch_size": "use per_device_eval_batch_size",
    "group_by_length": "use train_sampling_strategy = 'group_by_length'",
    "adafactor": "use optim = 'adafactor'",
    "logging_dir": OWNED["report_to"],
    "overwrite_output_dir": OWNED["output_dir"],
    "no_cuda": OWNED["use_cpu"],
    "use_mps_device": OWNED["use_cpu"],
    "xpu_backend": OWNED["ddp_backend"],
    "half_precision_backend": "use bf16 or fp16",
    "fp16_backend": "use bf16 or fp16",
    "fp16_opt_level": "use bf16 or fp16",
    "include_inputs_for_metrics": "use include_for_metrics = ['inputs']",
    "include_tokens_per_second": "use include_num_input_tokens_seen",
    "split_batches": "use accelerator_config.split_batches",
    "dispatch_batches": "use accelerator_config.dispatch_batches",
    "torchdynamo": "use torch_compile_backend",
    "fsdp_min_num_params": "use fsdp_config.min_num_params",
    "fsdp_transformer_layer_cls_to_wrap": "use fsdp_config.transformer_layer_cls_to_wrap",
    "save_safetensors": "checkpoints are always saved as safetensors; remove it",
    "push_to_hub_model_id": OWNED["push_to_hub"],
    "push_to_hub_token": OWNED["push_to_hub"],
    "max_seq_length": "use max_length",
}
"""Names that an argument had before transformers 5 or trl 1, and what to use now."""
FSDP_CONFIG = "fsdp_config"
"""The field whose entries may also be written with the prefix `fsdp_`."""
HF_ADDS = ("_runtime", "_samples_per_second", "_steps_per_second")
"""Suffixes of the metrics that HF adds to every evaluation."""
ELSEWHERE = {TOTAL_BATCH, MAX_ROWS, *OWNED}
"""Keys whose values are not checked here: batch sizes are checked once the number of workers is
known, and the others are always refused."""


def check_space(space: SearchSpace, argument_fields: Mapping[str, bool], where: str) -> None:
    """Check a space's keys, domains and first params.

    Args:
        space: The space.
        argument_fields: The fields of its argument class, each with whether it accepts dotted keys.
        where: Its file and name, for the message.

    Raises:
        UserError: Lists every problem found.
    """
    if problems := settle_fields(space):  # the rest cannot be checked
        raise UserError([*_judging_problems(space), *problems], where)
    valid = valid_keys(space, argument_fields)
    problems = [
        *_judging_problems(space),
        *_key_problems("tuned", space.tuned, valid, argument_fields, space.builder),
        *_key_problems("fixed", space.fixed, valid, argument_fields, space.builder),
        *_clash_problems(space, argument_fields),
        *_ignored_problems(space),
        *_stream_problems(space),
        *_call_problems(space),
        *tuned_problems(space),
        *_fixed_problems(space),
        *_field_problems(space),
        *_tuned_value_problems(space),
    ]
    if not problems:  # the next checks draw params from the space
        problems = [
            *_metric_problems(space),
            *first_params_problems(space),
            *constraint_problems(space),
        ]
    if problems:
        raise UserError(problems, where)


def unknown(key: str, valid: Sequence[str], builder: Adapted) -> str:
    """Return the message for a key that is not valid."""
    if key in DROPPED:
        return f"no longer an argument; {DROPPED[key]}"
    if (name := builder.spellings.get(key.replace("-", "_"))) is not None:
        return f"{builder.name} calls this flag {name!r}; use that name"
    if (why := builder.not_settable.get(key)) is not None:
        return why
    if builder.makes_arguments:
        kind = argument_class(builder.own).__name__
        return f"neither a field of {kind} nor a flag of {builder.name}{nearest(key, valid)}"
    if owners := classes_with(key):
        return (
            f"a field of {' and '.join(owners)} only; annotate the first parameter of build_trainer"
            f" with the class it takes, such as args: {owners[0]}"
        )
    return f"no such TrainingArguments field or builder keyword{nearest(key, valid)}"


def _metric_problems(space: SearchSpace) -> Iterator[str]:
    """Yield a problem if the builder lists its metrics and the space's metric is not among them."""
    builder = space.builder.with_values(space.fixed)
    for values in builder_variants(space):
        names = builder.with_values(values).metric_names
        if names is None or space.metric in names or space.metric.endswith(HF_ADDS):
            continue
        hint = with_prefix(space.metric, names) or nearest(space.metric, names)
        hint = hint or f"; it returns {', '.join(names)}"
        yield f"metric = {space.metric!r}: {builder.name} does not return this metric{hint}"
        return


def _judging_problems(space: SearchSpace) -> list[str]:
    problems = []
    if isinstance(space.metric, str) and not space.metric.strip():
        problems.append(
            f"metric = {space.metric!r}: must be the name of a metric, such as 'eval_loss'"
        )
    if isinstance(space.evals_per_trial, int) and space.evals_per_trial < 1:
        problems.append(f"evals_per_trial = {space.evals_per_trial}: must be at least 1")
    if space.tuned == {}:
        problems.append("tuned is empty: there is nothing to search; add a domain")
    return problems


def _key_problems(
    part: str,
    keys: Mapping[str, Any],
    valid: Sequence[str],
    argument_fields: Mapping[str, bool],
    builder: Adapted,
) -> list[str]:
    problems = []
    for key in keys:
        if key in OWNED:
            problems.append(f"{part}[{key!r}]: {OWNED[key]}; remove it")
        elif part == "tuned" and key == MAX_ROWS:
            problems.append(
                f"tuned[{key!r}]: belongs in fixed, because it does not change the optimisation"
            )
        elif key in valid or is_dict_key(key, argument_fields):
            continue
        else:
            problems.append(f"{part}[{key!r}]: {unknown(key, valid, builder)}")
    return problems


def _clash_problems(space: SearchSpace, argument_fields: Mapping[str, bool]) -> list[str]:
    problems = [
        f"build_trainer: its keyword {name!r} is also a TrainingArguments field; rename it"
        for name in sorted(space.builder.keywords & set(argument_fields))
    ]
    both = sorted(set(space.tuned) & set(space.fixed))
    problems += [f"{key!r} is in both tuned and fixed; keep one" for key in both]
    keys = {*space.tuned, *space.fixed}
    if TOTAL_BATCH in keys:
        for other in BATCH_FIELDS:
            if other in keys:
                problems.append(
                    f"{other!r} is computed from {TOTAL_BATCH!r}; keep only one of them"
                )
    elif MAX_ROWS in keys:
        problems.append(f"{MAX_ROWS!r} requires {TOTAL_BATCH!r} in tuned or fixed")
    for key in sorted(keys):
        head = key.partition(".")[0]
        if head == key or not argument_fields.get(head):
            continue
        kind, name = (str, "a string") if head == OPTIM_ARGS else (Mapping, "a dict")
        if head in space.tuned:
            problems.append(f"{head!r} is tuned as a whole, and {key!r} is part of it; keep one")
        elif not isinstance(space.fixed.get(head), kind | None):
            problems.append(
                f"fixed[{head!r}] = {space.fixed[head]!r}: must be {name}, because {key!r} sets"
                " part of it"
            )
    setters: dict[tuple[str, str], list[str]] = {}
    for entry, setter in _entries(space, argument_fields):
        setters.setdefault(entry, []).append(setter)
    problems += [
        f"{' and '.join(found)} set the same value; keep one"
        for found in setters.values()
        if len(found) > 1
    ]
    if steps := _replaces_epochs(space):
        problems.append(f"tuned['num_train_epochs'] has no effect, because {steps}; keep one")
    return problems


def _entries(
    space: SearchSpace, argument_fields: Mapping[str, bool]
) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield each entry of a dict argument, as its field and name, with the key that sets it."""
    for key in sorted({*space.tuned, *space.fixed}):
        head, _, name = key.partition(".")
        if not argument_fields.get(head):
            continue
        if name:
            yield (head, _entry_name(head, name)), repr(key)
            continue
        whole = space.fixed.get(key)
        if isinstance(whole, str) and head == OPTIM_ARGS:
            whole = dict.fromkeys(part.partition("=")[0].strip() for part in whole.split(","))
        for name in whole if isinstance(whole, Mapping) else ():
            yield (head, _entry_name(head, str(name))), f"fixed[{key!r}][{name!r}]"


def _entry_name(head: str, name: str) -> str:
    return name.removeprefix("fsdp_") if head == FSDP_CONFIG else name


def _replaces_epochs(space: SearchSpace) -> str | None:
    """Return what sets `max_steps`, which HF uses instead of tuned epochs; None if nothing does."""
    key = "max_steps"
    if "num_train_epochs" not in space.tuned:
        return None
    steps = fixed_values(space).get(key)
    if isinstance(steps, int | float) and steps > 0:
        of_script = f", which {space.builder.name} sets," if key not in space.fixed else ""
        return f"max_steps = {steps}{of_script} overrides it"
    declared = space.tuned.get(key)
    if isinstance(declared, Domain) and all(value > 0 for value in highest(space, key)):
        return "'max_steps', which is tuned as well, overrides it"
    return None


def _ignored_problems(space: SearchSpace) -> Iterator[str]:
    ignored = space.builder.ignored_arguments
    for part, keys in (("tuned", space.tuned), ("fixed", space.fixed)):
        for key in keys:
            for field in fields_of(key):
                if field in ignored:
                    yield f"{part}[{key!r}]: {ignored[field]}"


def _stream_problems(space: SearchSpace) -> list[str]:
    """Return the problems with settings that cannot be used if prepared rows are streamed."""
    if not space.builder.prepares or STREAM not in space.builder.keywords:
        return []
    if STREAM in space.tuned:
        return [
            f"tuned[{STREAM!r}]: a worker group cannot turn streaming on or off between trials; put"
            " it in fixed"
        ]
    if not fixed_values(space).get(STREAM):
        return []
    problems = [
        f"tuned[{key!r}]: {STREAM}=True prepares the data once for all trials, but this data"
        f" depends on {key!r}; put it in fixed, or set {STREAM}=False"
        for key in sorted(space.builder.data_fields & set(space.tuned))
    ]
    if (key := "train_sampling_strategy") in {*space.tuned, *space.fixed}:
        part = "tuned" if key in space.tuned else "fixed"
        problems.append(
            f"{part}[{key!r}]: {STREAM}=True already determines the order of the rows; remove this"
            " key"
        )
    return problems


def _call_problems(space: SearchSpace) -> Iterator[str]:
    """Yield the reasons why `build_trainer` cannot be called with the values of a trial."""
    # The signature of an instance is that of its __call__ without self.
    parameters = list(inspect.signature(space.build_trainer).parameters.values())
    if not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
        yield "build_trainer: its first parameter must accept the TrainingArguments"
        return
    for parameter in parameters[1:]:
        name = parameter.name
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            continue
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            yield f"build_trainer: its parameter {name!r} cannot be passed by name; remove the '/'"
        elif parameter.default is not inspect.Parameter.empty:
            continue
        elif name == DATA and not space.builder.prepares:
            yield (
                "build_trainer: the parameter 'data' receives the result of prepare(), but the"
                " builder does not define prepare()"
            )
        elif name == DATA:
            continue
        elif space.builder.has_fields:
            yield f"build_trainer: __call__ requires {name!r}; make it a field of the builder"
        elif name not in space.tuned and name not in space.fixed:
            yield f"build_trainer requires {name!r}; put it in tuned or fixed, or give it a default"
        elif all(branch.condition for branch in branches_of(name, space.tuned.get(name, ()))) and (
            name not in space.fixed
        ):
            yield (
                f"build_trainer: {name!r} is tuned only under a condition, so it needs a default"
                " for trials where the condition is false"
            )


def _fixed_problems(space: SearchSpace) -> Iterator[str]:
    """Yield the problems with the values in `fixed`."""
    types = value_types(space.build_trainer)
    for key, value in space.fixed.items():
        if isinstance(value, Domain | When):
            yield f"fixed[{key!r}] = {describe_tunable(value)}: a domain belongs in tuned"
        elif isinstance(value, Mapping) and list(value) == [GRID]:
            yield (
                f"fixed[{key!r}] = {value!r}: not a single value; put choice({list(value[GRID])!r})"
                " in tuned"
            )
        elif key not in ELSEWHERE and (problem := value_problem(key, types.get(key, Any), value)):
            yield f"fixed[{key!r}] = {value!r}: {problem}"


def _field_problems(space: SearchSpace) -> Iterator[str]:
    """Yield the problems with the values that the fields of a builder were given."""
    types = value_types(space.build_trainer)
    for key, value in space.builder.given.items():
        if problem := value_problem(key, types.get(key, Any), unboxed(value)):
            yield f"{space.builder.name}: {key} = {value!r}: {problem}"


def _tuned_value_problems(space: SearchSpace) -> Iterator[str]:
    """Yield a problem for each domain in `tuned` with values that its argument cannot take."""
    types = value_types(space.build_trainer)
    for key, declared in space.tuned.items():
        if key not in types or key in ELSEWHERE:
            continue
        for branch in branches_of(key, declared):
            if isinstance(branch.domain, Domain) and not domains.problem_with(branch.domain):
                for problem in domain_problems(key, types[key], branch.domain):
                    yield f"tuned[{key!r}]: {problem}"

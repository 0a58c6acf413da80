"""The model process: builds a trial's trainer, loads the saved weights, and evaluates it again.

It uses the sweep's copy of the code, and evaluates as the trial did. An export starts it, because
the export itself must not import the user's code; here, that code is imported as in a worker. It
must not know what is concluded from the numbers.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sweeps.answer.own_model import fill, in_python, misfit, named_class
from sweeps.answer.results import read_results
from sweeps.errors import SweepError, UserError
from sweeps.hash_seed import hash_seed
from sweeps.records.folder import SweepFolder
from sweeps.records.readings import note_test_read
from sweeps.records.sweep_record import SweepRecord
from sweeps.records.trial import Trial

if TYPE_CHECKING:
    from transformers import Trainer

    from sweeps.space.loading import LoadedSpace

Step = Literal["loaded", "evaluated again"]
Rows = Literal["held-out", "test"]
"""The rows that a model is evaluated on."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the process reports about a saved model."""

    load: str
    """Python code that loads it, for a folder that has the code in `code/`."""
    metrics: Mapping[str, float] | None = None
    """The metrics of its evaluation; None if it was not evaluated."""
    rows: Mapping[str, Any] | None = None
    """What the judged metric was computed from: fields of a `Report`."""
    device: str | None = None
    """The device of the evaluation: the GPU's name, or `CPU`."""
    bits: int | None = None
    """The precision of the evaluation: 32, or 16 if any of it was not in 32 bits."""


class Failed(SweepError):
    """A step of the process failed.

    Args:
        step: The step that failed.
        why: The error, in one line.
    """

    def __init__(self, step: Step, why: str) -> None:
        super().__init__(why)
        self.step = step


def ask(
    folder: SweepFolder, record: SweepRecord, trial: Trial, saved: Path, *, rows: Rows | None
) -> Told:
    """Have another process build a trial's model, load what was saved, and evaluate it.

    Args:
        folder: The sweep's folder; its code is here.
        record: The sweep's record; its space has a file.
        trial: The trial.
        saved: The folder that it saved.
        rows: The rows to evaluate on; None: only load the model.

    Raises:
        Failed: The trainer cannot be built, the weights do not fit, or the evaluation fails.
    """
    started_in = Path(record.source.base)
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch) / "answer.json"
        place = [str(folder.path.resolve()), folder.storage or ""]
        words = [*place, trial.id, str(saved.resolve()), str(answer)]
        done = subprocess.run(
            [sys.executable, "-P", "-m", __name__, *words, *([rows] if rows else [])],
            cwd=started_in if started_in.is_dir() else None,
            env={**os.environ, **hash_seed()},
            capture_output=True,
            text=True,
        )
        if not answer.exists():
            said = done.stderr.strip().rsplit("\n", 1)[-1]
            step: Step = "evaluated again" if rows else "loaded"
            raise Failed(step, f"the process exited with code {done.returncode}: {said}")
        told = json.loads(answer.read_text())
    if "why" in told:
        raise Failed(**told)
    return Told(**told)


def examine(folder: SweepFolder, trial_id: str, saved: Path, *, rows: Rows | None) -> Told:
    """Do in this process what `ask` asks for."""
    from transformers import PreTrainedModel

    from sweeps.space.loading import load_copy

    results = read_results(folder)
    source = results.record.source
    assert source.file is not None
    loaded = load_copy(folder.code, source.file, source.dotted)
    names = {f"sweeps_space_{loaded.name}": loaded.name}
    trial = {**results.history.trials, **results.history.confirming}[trial_id]
    kind = None if rows else named_class(folder.code, saved)
    if kind is not None:
        assert issubclass(kind, PreTrainedModel)
        if problem := misfit(kind, saved):
            raise SweepError(problem)
        return Told(load=in_python(kind, None, names, saved))
    with _trainer(loaded, results.record, trial, folder, rows) as (trainer, script):
        if script is not None:
            names["__main__"] = script.stem
        trainer.model = trainer.model_wrapped = model = fill(trainer.model, saved)
        load = in_python(type(model), model, names, saved)
        if rows == "test":
            note_test_read(folder, trial_id)
        if not rows:
            return Told(load=load)
        metrics, judged = _evaluated(trainer, results.record)
        device, bits = _device(trainer)
        return Told(load=load, metrics=metrics, rows=judged, device=device, bits=bits)


def _evaluated(trainer: Trainer, record: SweepRecord) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the numbers and the rows of a trainer's evaluation, as a report has them.

    Raises:
        Failed: The evaluation fails, or does not return the judged metric.
    """
    from sweeps.workers.evaluation.judged_rows import JudgedRows
    from sweeps.workers.evaluation.reported_numbers import numbers_of, of_rank_0

    rows = JudgedRows(trainer, record.space.metric)
    try:
        numbers = numbers_of(of_rank_0(trainer.evaluate()), record.space.metric, ())
    except Exception as error:
        raise Failed("evaluated again", _in_a_line(error)) from error
    if record.space.metric not in numbers:
        has = ", ".join(sorted(numbers)) or "none"
        raise Failed(
            "evaluated again",
            f"the evaluation did not return {record.space.metric} (it returned: {has})",
        )
    judged = rows.take(numbers)
    return numbers, {
        "eval_rows": judged.rows,
        "right_rows": judged.right,
        "row_parts": judged.parts,
    }


def _device(trainer: Trainer) -> tuple[str, int]:
    """Return a trainer's device and precision; see `Told`."""
    import torch

    device = trainer.args.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    weights = trainer.model.parameters()
    in_32_bits = all(each.dtype in (torch.float32, torch.float64) for each in weights)
    mixed = trainer.args.bf16 or trainer.args.fp16
    return name, 32 if in_32_bits and not mixed else 16


@contextmanager
def _trainer(
    loaded: LoadedSpace,
    record: SweepRecord,
    trial: Trial,
    folder: SweepFolder,
    rows: Rows | None,
) -> Iterator[tuple[Trainer, Path | None]]:
    """Yield the trainer that the recorded builder makes, and the script that it runs."""
    import torch

    from sweeps.space.absolute_paths import with_absolute_paths
    from sweeps.space.arguments import Devices, argument_fields
    from sweeps.space.builder import STREAM
    from sweeps.space.overrides import override, settle_builder
    from sweeps.space.sharding import without_deepspeed
    from sweeps.workers.job import Job
    from sweeps.workers.training import make_trainer

    base = Path(record.source.base)
    assert loaded.file is not None
    with tempfile.TemporaryDirectory() as scratch:
        builder = loaded.space.builder.located([loaded.file.parent, folder.code, base])
        flags = {**record.space.fixed, **trial.params}
        builder = builder.tried(flags, base=base, kept=Path(scratch), note=lambda _: None)
        space = replace(loaded.space, build_trainer=builder.own)
        space, _ = override(space, record.source.assignments, argument_fields(builder.own))
        space, _ = settle_builder(
            space, tiny=record.config.tiny, assigned=set(), where=loaded.where
        )
        space = with_absolute_paths(space, base)
        if space.builder.stream:
            space = replace(space, build_trainer=space.builder.with_values({STREAM: False}).own)
        if rows == "test":
            if (on_test := space.builder.on_test()) is None:
                raise UserError(
                    f"{space.builder.name} does not define its test split; add a method on_test()"
                    " that returns a builder for evaluating that split"
                )
            space = replace(space, build_trainer=on_test.own)
        # DeepSpeed evaluates only with ZeRO-3, and would load a model in parts.
        space = replace(space, fixed=without_deepspeed(space.fixed))
        gpu = torch.cuda.is_available()
        bf16 = gpu and torch.cuda.is_bf16_supported(including_emulation=False)
        trainer = make_trainer(
            space,
            Job(
                trial=trial.id,
                attempt=1,
                params=without_deepspeed(trial.params),
                seed=trial.seed,
                checkpoint=None,
                reduced=trial.reduced,
            ),
            devices=Devices(workers=1, gpu=gpu, bf16=bf16),
            output=Path(scratch) / "output",
            prepared=folder.prepared,
        )
        for callback in list(trainer.callback_handler.callbacks):
            if type(callback).__module__.startswith("transformers.integrations."):
                trainer.remove_callback(callback)  # it would start a run in W&B or similar
        yield trainer, builder.script_file


def _in_a_line(error: Exception) -> str:
    return str(error) if isinstance(error, SweepError) else f"{type(error).__name__}: {error}"


def main() -> None:
    """Write the result to a file, or what failed and why."""
    path, storage, trial, saved, answer, *rest = sys.argv[1:]
    told: dict[str, Any]
    try:
        rows: Any = rest[0] if rest else None
        folder = SweepFolder(Path(path), storage or None)
        found = examine(folder, trial, Path(saved), rows=rows)
        told = dataclasses.asdict(found)
    except Failed as error:
        told = {"step": error.step, "why": str(error)}
    except Exception as error:
        told = {"step": "loaded", "why": _in_a_line(error)}
    Path(answer).write_text(json.dumps(told))


if __name__ == "__main__":
    main()

"""Builds a trial's model with the sweep's copy of the code, and loads its saved weights strictly.

Runs in a process of its own, where the user's code is imported as in a worker. It must not know
what the model is for.
"""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.answer.results import read_results
from sweeps.errors import SweepError
from sweeps.records.checkpoints import weight_files
from sweeps.records.folder import SweepFolder
from sweeps.records.sweep_record import SweepRecord
from sweeps.records.trial import Trial

if TYPE_CHECKING:
    from sweeps.space.loading import LoadedSpace

CODE = "code"
"""The folder of an export that holds the code."""


def prove(folder: SweepFolder, record: SweepRecord, trial: Trial, saved: Path) -> str:
    """Build and load the model of a trial in another process; return how to load it.

    Args:
        folder: The sweep's; its code is here.
        record: The sweep's; its space has a file.
        trial: The trial.
        saved: What it saved.

    Returns:
        Python for the folder of an export, which has the code in `code/`.

    Raises:
        SweepError: The model cannot be built, or the weights do not fit.
    """
    started_in = Path(record.source.base)
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch) / "answer.json"
        words = [str(folder.path.resolve()), trial.id, str(saved.resolve()), str(answer)]
        done = subprocess.run(
            [sys.executable, "-P", "-m", __name__, *words],
            cwd=started_in if started_in.is_dir() else None,
            capture_output=True,
            text=True,
        )
        if not answer.exists():
            said = done.stderr.strip().rsplit("\n", 1)[-1]
            raise SweepError(f"building it ended the process ({done.returncode}): {said}")
        told = json.loads(answer.read_text())
    if "error" in told:
        raise SweepError(told["error"])
    return str(told["load"])


def rebuild(folder: SweepFolder, trial_id: str, saved: Path) -> str:
    """Build and load the model of a trial in this process; return as `prove` does."""
    from transformers import PreTrainedModel

    from sweeps.space.loading import load_copy

    results = read_results(folder)
    source = results.record.source
    assert source.file is not None
    loaded = load_copy(folder.code, source.file, source.dotted)
    names = {f"sweeps_space_{loaded.name}": loaded.name}
    kind, model = _named_class(folder.code, saved), None
    if kind is None:
        trial = {**results.history.trials, **results.history.confirming}[trial_id]
        model, script = _built_model(loaded, results.record, trial, folder)
        kind = type(model)
        if script is not None:
            names["__main__"] = script.stem
    if not issubclass(kind, PreTrainedModel):
        _fill(model, saved)
    elif problem := misfit(kind, saved):
        raise SweepError(problem)
    return _in_python(kind, model, names, saved)


def misfit(kind: Any, saved: Path) -> str | None:
    """Load a `PreTrainedModel`; return how what was saved differs from its weights, if it does."""
    _, found = kind.from_pretrained(saved, output_loading_info=True, ignore_mismatched_sizes=True)
    wrong = [
        f"{what.replace('_', ' ')}: {', '.join(map(str, sorted(names)))}"
        for what, names in found.items()
        if names
    ]
    return f"the weights do not fit {kind.__name__}: {'; '.join(wrong)}" if wrong else None


def _named_class(code: Path, saved: Path) -> Any:
    """Return the class of the model that the saved config names, if the code has it."""
    from transformers import PreTrainedModel

    config = saved / "config.json"
    names = json.loads(config.read_text()).get("architectures") if config.is_file() else None
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if names and file and Path(file).is_relative_to(code):
            kind = getattr(module, names[0], None)
            if isinstance(kind, type) and issubclass(kind, PreTrainedModel):
                return kind
    return None


def _built_model(
    loaded: LoadedSpace, record: SweepRecord, trial: Trial, folder: SweepFolder
) -> tuple[Any, Path | None]:
    """Return the model that the recorded builder makes for a trial, and the script that it runs."""
    from sweeps.space.arguments import Devices, argument_fields
    from sweeps.space.builder import STREAM
    from sweeps.space.overrides import override, settle_builder
    from sweeps.space.search_space import with_absolute_paths
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
        trainer = make_trainer(
            space,
            Job(
                trial=trial.id,
                attempt=1,
                params=trial.params,
                seed=trial.seed or 0,
                checkpoint=None,
            ),
            devices=Devices(workers=1, gpu=False, bf16=False),
            output=Path(scratch) / "output",
            prepared=folder.prepared,
        )
        return trainer.model, builder.script_file


def _fill(model: Any, saved: Path) -> None:
    """Give a model that is no `PreTrainedModel` its saved weights, all of them.

    Raises:
        SweepError: An adapter's weights are not those of the model.
        RuntimeError: A model's are not; torch names those that differ.
    """
    import peft
    import safetensors.torch
    import torch

    state: dict[str, Any] = {}
    for file in weight_files(saved):
        if file.suffix == ".safetensors":
            state |= safetensors.torch.load_file(file)
        else:
            state |= torch.load(file, map_location="cpu", weights_only=True)
    if isinstance(model, peft.PeftModel):
        if wrong := set(peft.get_peft_model_state_dict(model)) ^ set(state):
            raise SweepError(f"the adapter does not fit the model: {', '.join(sorted(wrong))}")
        peft.set_peft_model_state_dict(model, state)
    else:
        model.load_state_dict(state)


def _in_python(kind: Any, model: Any, names: Mapping[str, str], saved: Path) -> str:
    """Return Python that loads a model, in the folder of its export; `...` is the user's to know.

    Args:
        kind: Its class.
        model: The model; None for a `PreTrainedModel`.
        names: What modules are imported as that have another name here.
        saved: What was saved.
    """
    import peft
    from transformers import PreTrainedModel

    if isinstance(model, peft.PeftModel):
        made = _made(type(model.get_base_model()), names)
        return f'import peft; {made}; model = peft.PeftModel.from_pretrained(model, ".")'
    if issubclass(kind, PreTrainedModel) and "<locals>" not in kind.__qualname__:
        return f'{_imported(kind, names)}; model = {kind.__qualname__}.from_pretrained(".")'
    steps = [_made(kind, names)]
    for file in weight_files(saved):
        module, load = "torch", f'torch.load("{file.name}", weights_only=True)'
        if file.suffix == ".safetensors":
            module, load = "safetensors.torch", f'safetensors.torch.load_file("{file.name}")'
        steps.append(f"import {module}; model.load_state_dict({load})")
    return "; ".join(steps)


def _made(kind: Any, names: Mapping[str, str]) -> str:
    """Return Python that makes a model of a class, as far as its arguments are known."""
    name = kind.__qualname__
    if "<locals>" in name:
        return "model = ..."
    arguments = "..." if inspect.signature(kind).parameters else ""
    return f"{_imported(kind, names)}; model = {name}({arguments})"


def _imported(kind: Any, names: Mapping[str, str]) -> str:
    module = names.get(kind.__module__, kind.__module__)
    name = kind.__qualname__.partition(".")[0]
    return f'import sys; sys.path.insert(0, "{CODE}"); from {module} import {name}'


def main() -> None:
    """Write to a file how the model is loaded, or why it is not."""
    folder, trial, saved, answer = sys.argv[1:]
    told: dict[str, str] = {}
    try:
        told["load"] = rebuild(SweepFolder(Path(folder)), trial, Path(saved))
    except SweepError as error:
        told["error"] = str(error)
    except Exception as error:
        told["error"] = f"{type(error).__name__}: {error}"
    Path(answer).write_text(json.dumps(told))


if __name__ == "__main__":
    main()

"""Loads saved weights strictly into a trial's model, and returns Python code that loads them.

Runs in a separate process, where the user's code is imported as in a worker; `misfit` also runs in
the exporting process. It must not know what the model is for.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeps.errors import SweepError
from sweeps.records.checkpoints import weight_files

CODE = "code"
"""The folder in an export that holds the code."""
ADAPTER = "adapter_config.json"
"""The file of a peft adapter; it names the base model."""


def misfit(kind: Any, saved: Path) -> str | None:
    """Load a `PreTrainedModel`; return how the saved weights differ from its own, if they do."""
    return _loaded(kind, saved)[1]


def _loaded(kind: Any, saved: Path) -> tuple[Any, str | None]:
    model, found = kind.from_pretrained(
        saved, output_loading_info=True, ignore_mismatched_sizes=True
    )
    wrong = [
        f"{what.replace('_', ' ')}: {', '.join(map(str, sorted(names)))}"
        for what, names in found.items()
        if names
    ]
    problem = f"the weights do not fit {kind.__name__}: {'; '.join(wrong)}" if wrong else None
    return model, problem


def named_class(code: Path, saved: Path) -> Any:
    """Return the model class that the saved config names, if the code has it."""
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


def fill(model: Any, saved: Path) -> Any:
    """Load all saved weights into a model; return it, or its base model if an adapter was merged.

    Raises:
        SweepError: The weights do not fit the model.
        RuntimeError: The weights do not fit a model that is not a `PreTrainedModel`; torch names
            those that differ.
    """
    import peft
    from transformers import PreTrainedModel

    if isinstance(model, peft.PeftModel):
        if (saved / ADAPTER).is_file():
            state = _state(saved)
            if wrong := set(peft.get_peft_model_state_dict(model)) ^ set(state):
                raise SweepError(
                    "the adapter does not fit the model; these weights differ:"
                    f" {', '.join(sorted(wrong))}"
                )
            peft.set_peft_model_state_dict(model, state)
            return model
        model = model.unload()
    if isinstance(model, PreTrainedModel):
        loaded, problem = _loaded(type(model), saved)
        if problem:
            raise SweepError(problem)
        model.load_state_dict(loaded.state_dict())
    else:
        model.load_state_dict(_state(saved))
    return model


def _state(saved: Path) -> dict[str, Any]:
    import safetensors.torch
    import torch

    state: dict[str, Any] = {}
    for file in _own_weights(saved):
        if file.suffix == ".safetensors":
            state |= safetensors.torch.load_file(file)
        else:
            state |= torch.load(file, map_location="cpu", weights_only=True)
    return state


def _own_weights(saved: Path) -> list[Path]:
    """Return the weight files that HF wrote for a model that has no folder format of its own."""
    return [file for file in weight_files(saved) if file.parent == saved]


def in_python(kind: Any, model: Any, names: Mapping[str, str], saved: Path) -> str:
    """Return Python code that loads a model in its export's folder; the user fills in `...`.

    Args:
        kind: The model's class.
        model: The model; None for a `PreTrainedModel`.
        names: The import names of modules that have another name in this process.
        saved: The saved folder.
    """
    import peft
    from transformers import PreTrainedModel

    if isinstance(model, peft.PeftModel):
        made = _made(type(model.get_base_model()), names)
        return f'import peft; {made}; model = peft.PeftModel.from_pretrained(model, ".")'
    if issubclass(kind, PreTrainedModel) and "<locals>" not in kind.__qualname__:
        return f'{_imported(kind, names)}; model = {kind.__qualname__}.from_pretrained(".")'
    steps = [_made(kind, names)]
    for file in _own_weights(saved):
        module, load = "torch", f'torch.load("{file.name}", weights_only=True)'
        if file.suffix == ".safetensors":
            module, load = "safetensors.torch", f'safetensors.torch.load_file("{file.name}")'
        steps.append(f"import {module}; model.load_state_dict({load})")
    return "; ".join(steps)


def _made(kind: Any, names: Mapping[str, str]) -> str:
    """Return Python code that makes a model of a class, as far as its arguments are known."""
    name = kind.__qualname__
    if "<locals>" in name:
        return "model = ..."
    arguments = "..." if inspect.signature(kind).parameters else ""
    return f"{_imported(kind, names)}; model = {name}({arguments})"


def _imported(kind: Any, names: Mapping[str, str]) -> str:
    module = names.get(kind.__module__, kind.__module__)
    name = kind.__qualname__.partition(".")[0]
    return f'import sys; sys.path.insert(0, "{CODE}"); from {module} import {name}'

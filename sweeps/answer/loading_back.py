"""Loads an exported folder as its user will, and merges an adapter into its base model.

Runs in the export. It must not know the sweep.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sweeps.answer.own_model import ADAPTER, misfit
from sweeps.errors import SweepError, UserError

Loaded = TypeVar("Loaded")


def load_as_a_user(folder: Path, how: Callable[[Path], Loaded]) -> Loaded:
    """Load the model and the tokenizer as a user will, by calling `how`; return its result.

    Raises:
        SweepError: The model or the tokenizer does not load.
    """
    import transformers

    verbosity = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # libraries warn about each other
            return how(folder)
    except UserError:
        raise
    except Exception as error:
        raise SweepError(
            f"nothing was exported, because the checkpoint cannot be loaded: {error}"
        ) from error
    finally:
        transformers.logging.set_verbosity(verbosity)
        if bars:
            transformers.logging.enable_progress_bar()


def from_pretrained(folder: Path) -> str | None:
    """Load a model with transformers or peft; return Python code that does the same.

    None if they lack its class, or have a different one with that name.
    """
    import transformers

    if (folder / ADAPTER).is_file():
        return _adapter_from_pretrained(folder)
    if not (folder / "config.json").is_file():
        return None
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    name = (config.get("architectures") or ["AutoModel"])[0]
    if config.get("model_type") not in transformers.CONFIG_MAPPING or name not in dir(transformers):
        return None
    if misfit(getattr(transformers, name), folder):
        return None
    if (folder / "tokenizer_config.json").is_file():
        transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return f'import transformers; model = transformers.{name}.from_pretrained(".")'


def _adapter_from_pretrained(folder: Path) -> str | None:
    """Load an adapter and, if the task type is enough to build it, its base model.

    Return Python code for this; None if the adapter names no base model.
    """
    import peft

    config = peft.PeftConfig.from_pretrained(str(folder))
    if not config.base_model_name_or_path:
        return None
    if config.task_type == "CAUSAL_LM":
        peft.AutoPeftModelForCausalLM.from_pretrained(str(folder))
        return 'import peft; model = peft.AutoPeftModelForCausalLM.from_pretrained(".")'
    # The folder does not say, for example, how many classes a classifier has.
    peft.load_peft_weights(str(folder), device="cpu")
    return 'import peft; model = peft.PeftModel.from_pretrained(..., ".")'


def merge_adapter(folder: Path) -> None:
    """Replace an adapter with the merged model, in fp32, as it was trained.

    Raises:
        UserError: The adapter is not one for a causal language model.
    """
    import peft

    config = peft.PeftConfig.from_pretrained(str(folder))
    if config.task_type != "CAUSAL_LM":
        raise UserError(
            f"--merge: an adapter for {config.task_type} does not describe its complete model; only"
            " adapters of causal language models can be merged"
        )
    adapted = peft.AutoPeftModelForCausalLM.from_pretrained(str(folder), dtype="float32")
    for file in folder.glob("adapter_*"):
        file.unlink(missing_ok=True)
    adapted.merge_and_unload().save_pretrained(folder)

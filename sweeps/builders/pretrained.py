"""Says what is wrong with a pretrained model from its small files, without loading it.

Called in the sweep process before Ray starts. Knows neither data nor trials, and not transformers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from sweeps.builders.hub import hub_answers, is_hub_name, not_on_the_hub
from sweeps.errors import UserError

TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json"),
    *("spiece.model", "sentencepiece.bpe.model", "tokenizer.model"),
)

POSITION_LIMITS = ("max_position_embeddings", "n_positions", "model_max_length")


def model_problems(model: str, max_tokens: int) -> Iterator[str]:
    """What keeps `model` from being fine-tuned on texts of `max_tokens` tokens.

    Args:
        model: Hub name or local folder.
        max_tokens: Length of the longest text, special tokens included.
    """
    try:
        config = _read_first(model, ["config.json"])
        if config is None:
            yield f"model={model!r}: no config.json, so not a Hugging Face model"
            return
        if _read_first(model, TOKENIZER_FILES) is None:
            yield f"model={model!r}: no tokenizer; save the model's own beside it"
        tokenizer_config = _read_first(model, ["tokenizer_config.json"]) or b"{}"
        settings = {**json.loads(config), **json.loads(tokenizer_config)}
    except UserError as error:
        yield from error.problems
        return
    except ValueError as error:
        yield f"model={model!r}: config.json or tokenizer_config.json is no JSON ({error})"
        return
    positions = min((settings[key] for key in POSITION_LIMITS if settings.get(key)), default=None)
    if positions is not None and positions < max_tokens:
        yield f"max_tokens={max_tokens}: model={model!r} takes at most {positions} tokens"


def _read_first(model: str, names: Sequence[str]) -> bytes | None:
    """The content of the first of these files that the model has; None if it has none of them.

    Raises:
        UserError: The folder does not exist, or the Hub does not give the repository.
    """
    if not is_hub_name(model):
        if not Path(model).is_dir():
            raise UserError(f"model={model!r}: no such folder")
        files = [Path(model, name) for name in names if Path(model, name).is_file()]
        return files[0].read_bytes() if files else None
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    for name in names:
        if isinstance(cached := try_to_load_from_cache(model, name), str):
            return Path(cached).read_bytes()
    if not hub_answers():
        raise not_on_the_hub(f"model={model!r}")
    for name in names:
        try:
            return Path(hf_hub_download(model, name)).read_bytes()
        except EntryNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise not_on_the_hub(f"model={model!r}", error) from error
    return None

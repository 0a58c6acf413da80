"""Checks a pretrained model by its small files alone, and loads its tokenizer.

Checks run in the sweep process before Ray starts, without transformers; the tokenizer is loaded
where data is prepared. It must not know about data or trials.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.builders.hub import (
    hub_answers,
    is_hub_name,
    no_folder,
    not_fetched,
    not_on_the_hub,
    reason,
)
from sweeps.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VOCABULARIES = (
    *("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json"),
    *("spiece.model", "sentencepiece.bpe.model", "tokenizer.model"),
)
TOKENIZER_FILES = (
    *VOCABULARIES,
    *("merges.txt", "added_tokens.json", "special_tokens_map.json", "chat_template.jinja"),
)
WEIGHTS = ("model*.safetensors", "*.safetensors", "pytorch_model*.bin")
"""Names of weight files; transformers loads those of the first kind that exists (5.17 to 5.23)."""

POSITION_LIMITS = ("max_position_embeddings", "n_positions", "model_max_length")
"""Keys of config.json and tokenizer_config.json; the smallest value counts."""
RELATIVE = ("t5", "mt5", "umt5", "longt5", "switch_transformers", "udop")
"""Types of models whose positions are only relative, so a text of any length has some."""
AFTER_PADDING = (
    *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "camembert", "xmod"),
    *("longformer", "mpnet", "ibert", "luke", "data2vec-text"),
)
"""Types of models that count positions from the id of the padding token plus 1 (5.17 to 5.23)."""


def model_problems(model: str, revision: str | None, tokens: int, field: str) -> Iterator[str]:
    """Yield the reasons why `model` cannot be trained on texts with this many tokens.

    Args:
        model: Hub name or local folder.
        revision: The revision of a Hub model; None: the newest.
        tokens: Length of the longest text, including special tokens.
        field: The builder's field that sets this length.
    """
    try:
        config = _read_first(model, revision, ["config.json"])
        if config is None:
            yield f"model={model!r}: has no config.json, so it is not a Hugging Face model"
            return
        read = [Path(model, name) for name in ("config.json", *TOKENIZER_FILES)]
        if not is_hub_name(model) and (problem := not_fetched(read)):
            yield problem
            return
        if _read_first(model, revision, VOCABULARIES) is None:
            yield f"model={model!r}: has no tokenizer; save its tokenizer in the same folder"
        tokenizer_config = _read_first(model, revision, ["tokenizer_config.json"]) or b"{}"
        positions = _positions(json.loads(config), json.loads(tokenizer_config))
    except UserError as error:
        yield from error.problems
        return
    except OSError as error:
        yield f"model={model!r}: cannot be read ({reason(error)})"
        return
    except ValueError as error:
        yield f"model={model!r}: config.json or tokenizer_config.json is not valid JSON ({error})"
        return
    if positions is not None and positions < tokens:
        yield f"{field}={tokens}: model={model!r} accepts at most {positions} tokens"


def _positions(config: dict[str, Any], tokenizer_config: dict[str, Any]) -> int | None:
    """Return the number of tokens that a model accepts at most; None if any number."""
    kind = config.get("model_type")
    if kind in RELATIVE or config.get("position_biased_input") is False:
        return None
    if kind in AFTER_PADDING and (rows := config.get("max_position_embeddings")):
        padding = config.get("pad_token_id")
        padding = 1 if padding is None else padding  # the default of all of them
        config = {**config, "max_position_embeddings": rows - padding - 1}
    settings = {**config, **tokenizer_config}
    return min((settings[key] for key in POSITION_LIMITS if settings.get(key)), default=None)


def weight_problems(model: str) -> Iterator[str]:
    """Yield the reasons why the weights in a local folder cannot be loaded."""
    try:
        if not is_hub_name(model) and (problem := not_fetched(_weight_files(model))):
            yield problem
    except OSError as error:
        yield f"model={model!r}: its weights cannot be read ({reason(error)})"


def has_weights(model: str) -> bool:
    """Tell whether a local folder contains weights; a Hub repository is assumed to contain some."""
    return is_hub_name(model) or bool(_weight_files(model))


def read_model_files(model: str, revision: str | None, names: Sequence[str]) -> dict[str, bytes]:
    """Return the content of the named files, by name; files that the model lacks are left out.

    Raises:
        UserError: The folder does not exist, or the Hub does not provide the repository.
    """
    found = {name: _read(model, revision, name) for name in names}
    return {name: content for name, content in found.items() if content is not None}


def load_tokenizer(model: str, revision: str | None, **options: Any) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a model.

    Args:
        model: Hub name or local folder.
        revision: The revision of a Hub model; None: the newest.
        options: Options of the tokenizer.

    Raises:
        UserError: It cannot be loaded.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            model, revision=revision or "main", trust_remote_code=False, **options
        )
    except Exception as error:  # `tokenizers` raises a plain Exception for a damaged file
        if is_hub_name(model) and isinstance(error, OSError):
            raise not_on_the_hub(f"model={model!r}", error) from error
        raise UserError(
            f"model={model!r}: its tokenizer cannot be loaded ({reason(error)})"
        ) from error
    return tokenizer


def _weight_files(model: str) -> list[Path]:
    """Return the files in a local folder that its weights are loaded from."""
    kinds = (sorted(Path(model).glob(kind)) for kind in WEIGHTS)
    return next(filter(None, kinds), [])


def _read_first(model: str, revision: str | None, names: Sequence[str]) -> bytes | None:
    contents = (_read(model, revision, name) for name in names)
    return next((content for content in contents if content is not None), None)


def _read(model: str, revision: str | None, name: str) -> bytes | None:
    """Return the content of a file; None if the model has no file of this name.

    Raises:
        UserError: The folder does not exist, or the Hub does not provide the repository.
    """
    if not is_hub_name(model):
        if not Path(model).is_dir():
            raise no_folder("model", model)
        file = Path(model, name)
        return file.read_bytes() if file.is_file() else None
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import RemoteEntryNotFoundError

    cached = try_to_load_from_cache(model, name, revision=revision)
    if isinstance(cached, str):
        return Path(cached).read_bytes()
    if cached is not None:
        return None  # known to be missing
    if not hub_answers():
        if try_to_load_from_cache(model, "config.json", revision=revision) is not None:
            return None  # the earlier download has no such file
        raise not_on_the_hub(f"model={model!r}")
    try:
        return Path(hf_hub_download(model, name, revision=revision)).read_bytes()
    except RemoteEntryNotFoundError:
        return None
    except Exception as error:  # HTTP errors are httpx's, or httpx2's since huggingface_hub 2
        raise not_on_the_hub(f"model={model!r}", error) from error

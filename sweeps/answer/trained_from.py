"""What an exported model was trained from: its base model with the licence, and its dataset.

Runs in the export. It asks the Hub for nothing but the licence. It must not know what is written
about the model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.answer.own_model import ADAPTER
from sweeps.answer.results import Results
from sweeps.builders.hub import hub_answers, is_hub_name
from sweeps.builders.revisions import DATASETS
from sweeps.records.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model or a dataset that the trial started from."""

    name: str
    """The Hub name; for a local folder, only its own name."""
    on_hub: bool
    revision: str | None
    place: str
    """The place as the builder names it."""


NONE = Source(
    name="none; the weights were initialised at random", on_hub=False, revision=None, place=""
)
"""Stands for the base model of a model that was trained from scratch."""


def base_model(folder: Path, results: Results, trial: Trial) -> Source | None:
    """Return the model that training started from; None if it is not known."""
    if results.record.space.fields.get("from_scratch"):
        return NONE
    if (found := source_of(results, trial, "model")) is not None:
        return found
    if not (folder / ADAPTER).is_file():
        return None
    config = json.loads((folder / ADAPTER).read_text())
    name = config.get("base_model_name_or_path")
    return _found(name, config.get("revision")) if name else None


def builder_fields(results: Results, trial: Trial) -> dict[str, Any]:
    """Return the builder's fields as the trial had them."""
    return {**results.record.space.fields, **trial.params}


def source_of(results: Results, trial: Trial, field: str) -> Source | None:
    """Return what a field of the builder names; None if the builder has no such field."""
    fields = builder_fields(results, trial)
    name = fields.get(field)
    if not isinstance(name, str):
        return None
    revisions = fields.get("revisions") or {}
    return _found(name, revisions.get(f"{DATASETS}{name}" if field == "dataset" else name))


def _found(name: str, revision: str | None) -> Source:
    on_hub = is_hub_name(name)
    return Source(
        name=name if on_hub else Path(name).name, on_hub=on_hub, revision=revision, place=name
    )


def licence_of(base: Source | None) -> str | None:
    """Return the licence that the base model's card names, if it can be read."""
    from huggingface_hub import HfApi, ModelCard
    from huggingface_hub.constants import REPOCARD_NAME

    if base is None or base is NONE:
        return None
    try:
        if base.on_hub:
            if not hub_answers():
                return None
            data = HfApi().model_info(base.place, revision=base.revision).card_data
        else:
            data = ModelCard.load(Path(base.place) / REPOCARD_NAME).data
    except Exception:  # such as HTTP or YAML: a missing licence must not fail an export
        return None
    found = data.get("license") if data is not None else None
    return found if isinstance(found, str) else None

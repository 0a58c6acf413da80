"""The version of a model or a dataset: a Hub commit, or the current state of the files.

Called in the sweep process, and in the workers while data is prepared. It must not know about rows
or trials.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from sweeps.builders.data.data_source import Source, Split, hub_cache, local_files
from sweeps.builders.hub import hub_answers, is_hub_name, not_on_the_hub
from sweeps.builders.pretrained import TOKENIZER_FILES, read_model_files

DATASETS = "datasets/"
"""Prefix of a dataset's name among revisions, as in the Hub's own links."""
COMMIT = re.compile("[0-9a-f]{40}")


def pinned(revisions: Mapping[str, str], model: str, dataset: str) -> dict[str, str]:
    """Return the revisions as commits, adding those of a model and a dataset that have none yet.

    Local folders have no revision. If the Hub does not answer, nothing is added, and an earlier
    download is used.

    Args:
        revisions: Branch, tag or commit by name.
        model: Hub name or local folder.
        dataset: Hub name or local folder.

    Raises:
        UserError: The Hub does not provide one of them.
    """
    keys = {model: model, dataset: f"{DATASETS}{dataset}"}
    wanted = [
        key
        for name, key in keys.items()
        if is_hub_name(name) and not COMMIT.fullmatch(revisions.get(key, ""))
    ]
    if not wanted or not hub_answers():
        return dict(revisions)
    return {**revisions, **{name: _commit(name, revisions.get(name)) for name in wanted}}


def data_version(source: Source, named: Mapping[Split, tuple[str, ...]]) -> list[str]:
    """Return what identifies the state of a dataset: its commit, or sizes and times of files.

    Args:
        source: The dataset.
        named: The splits that are read.
    """
    dataset, revision = source.dataset, source.revision
    if not is_hub_name(dataset):
        return [_stamp(file) for file in local_files(source, named)]
    if revision is None and hub_answers():
        revision = _commit(f"{DATASETS}{dataset}", None)
    if revision is not None:
        return [dataset, revision]
    cache = hub_cache(dataset)
    return [dataset, *sorted(str(path.relative_to(cache)) for path in cache.glob("*/*/*"))]


def tokenizer_version(model: str, revision: str | None) -> str:
    """Return a digest of all files that a model's tokenizer is read from."""
    digest = hashlib.sha256()
    for name, content in read_model_files(model, revision, TOKENIZER_FILES).items():
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _commit(name: str, revision: str | None) -> str:
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        if name.startswith(DATASETS):
            found = api.dataset_info(name.removeprefix(DATASETS), revision=revision).sha
        else:
            found = api.model_info(name, revision=revision).sha
    except Exception as error:  # HTTP errors are httpx's, or httpx2's since huggingface_hub 2
        kind = "dataset" if name.startswith(DATASETS) else "model"
        wanted = f"{kind}={name.removeprefix(DATASETS)!r}"
        at = "" if revision is None else f" at revision {revision!r}"
        raise not_on_the_hub(f"{wanted}{at}", error) from error
    assert found is not None
    return found


def _stamp(file: Path) -> str:
    status = file.stat()
    return f"{file.resolve()} {status.st_size} {status.st_mtime_ns}"

"""The value on a benchmark's test split, in the file format of the Hub's leaderboards.

Runs in an export that has read the test split. It must not know where the value comes from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sweeps.builders.hub import hub_answers

FOLDER = ".eval_results"
BENCHMARK = "eval.yaml"
"""The file that makes a dataset a benchmark: it lists `tasks`, each with a leaderboard."""


def write_eval_results(
    folder: Path, dataset: str, config: str | None, revision: str | None, value: float, notes: str
) -> str | None:
    """Write the value beside the model, if the dataset is a benchmark.

    Args:
        folder: The export.
        dataset: A dataset of the Hub.
        config: The configuration that was read; None: the default one.
        revision: The commit that was read.
        value: The value on the complete test split.
        notes: What kind of value it is, which a benchmark does not say.

    Returns:
        The file, relative to `folder`; None if the dataset does not have exactly one task for the
        test split of that configuration, or the Hub cannot be reached.
    """
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    tasks = [
        task
        for task in _tasks(dataset, revision)
        if task.get("split", "test") == "test"
        and task.get("config", "default") == (config or "default")
    ]
    if len(tasks) != 1:
        return None
    entry = EvalResultEntry(
        dataset_id=dataset,
        task_id=str(tasks[0]["id"]),
        value=value,
        dataset_revision=revision,
        notes=notes,
    )
    file = folder / FOLDER / f"{dataset.replace('/', '--')}.yaml"
    file.parent.mkdir()
    file.write_text(yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False))
    return file.relative_to(folder).as_posix()


def _tasks(dataset: str, revision: str | None) -> list[dict[str, Any]]:
    """Return the tasks of a benchmark; no tasks for any other dataset."""
    import yaml
    from huggingface_hub import hf_hub_download

    if not hub_answers():
        return []
    try:
        file = hf_hub_download(dataset, BENCHMARK, repo_type="dataset", revision=revision)
        found = yaml.safe_load(Path(file).read_text())
        return [task for task in found["tasks"] if "id" in task]
    except Exception:  # no file, HTTP, YAML: not worth failing an export
        return []

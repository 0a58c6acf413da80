"""The model card of an export: what the Hub reads of it, and what it says to people."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData, parse_eval_result_entries

from sweeps.answer import eval_results, evaluated_again, model_card, trained_from
from sweeps.answer.export import export_checkpoint
from sweeps.answer.model_process import Told
from sweeps.answer.results import Results, read_results
from sweeps.records import events as ev
from sweeps.records.event_log import EventLog
from sweeps.records.history import History
from sweeps.records.sweep_record import read_record, write_record
from sweeps.report import Report
from sweeps.space.builder import Pipeline
from tests.answer.test_confirmation import confirmed
from tests.answer.test_export import Made, adapter_of, make, out
from tests.written_confirmation import trial_events

__all__ = ["make", "out"]

TINY = Path(__file__).parents[2] / "sweeps" / "builders" / "tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def card_of(results: Results, out: Path, **space: Any) -> tuple[ModelCardData, str]:
    """Export with a changed record of the space; return the card's metadata and text."""
    record = read_record(results.folder)
    changed = dataclasses.replace(record, space=dataclasses.replace(record.space, **space))
    write_record(results.folder, changed)
    changed_results = dataclasses.replace(results, record=changed)
    export_checkpoint(changed_results, out, evaluate=False)
    card = ModelCard.load(out / "README.md")
    return card.data, card.text


def test_the_card_of_a_model_from_the_hub_names_what_the_hub_knows(make: Made, out: Path):
    fields = {
        "model": "google-bert/bert-base-uncased",
        "dataset": "yelp_review_full",
        "revisions": {"google-bert/bert-base-uncased": COMMIT, "datasets/yelp_review_full": "v1"},
    }
    pipeline = Pipeline(task="text-classification")
    data, text = card_of(make(), out, fields=fields, pipeline=pipeline)
    assert (data.base_model, data.base_model_relation) == (fields["model"], "finetune")
    assert (data.datasets, data.metrics) == (["yelp_review_full"], ["accuracy"])
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-classification")
    (result,) = data.eval_results
    assert (result.dataset_type, result.dataset_split) == ("yelp_review_full", None)
    assert result.task_type == "text-classification"
    assert (result.metric_type, result.metric_value) == ("accuracy", 0.9)
    assert (result.dataset_revision, data.model_name) == ("v1", "model")
    assert data.license is None
    assert "- Licence: not stated, because the licence of the base model is not known here" in text
    assert f"[{fields['model']}](https://huggingface.co/{fields['model']}) at `{COMMIT}`" in text
    assert "- Revision of datasets/yelp_review_full: `v1`" in text
    assert "- Not evaluated again after the export: it was exported with --no-evaluate" in text
    said = "- Not evaluated on the test split (exports of this sweep have not read it)"
    assert said in text


@pytest.mark.parametrize("local", [True, False])
def test_the_metadata_name_the_task_of_the_model_and_no_dataset_that_is_not_on_the_hub(
    local: bool, make: Made, out: Path, tmp_path: Path
):
    data, _ = card_of(make(), out, fields={"dataset": str(tmp_path)} if local else {})
    assert (data.eval_results, data.datasets) == (None, None)
    assert (data.pipeline_tag, data.metrics) == ("text-classification", ["accuracy"])


def test_the_card_says_how_the_model_was_found_and_how_it_is_repeated(make: Made, out: Path):
    results = make()
    _, text = card_of(results, out)
    assert (
        "This model was found by a sweep of 2 trials (0 finished, 0 stopped early, 0 failed)"
        in text
    )
    assert "| t001 | 0.9 | - | `learning_rate=3e-05` |\n| t002 | 0.6 |" in text
    why = "nothing is known of what each row adds to eval_accuracy"
    assert f"\nOf the best params: it is unknown which other params are as good: {why}." in text
    assert "seed 17\n" in text
    assert "`c0ffee`" in text
    assert f"sweeps run --from {results.folder.id} --trial t001" in text
    assert 'model = transformers.BertForSequenceClassification.from_pretrained(".")' in text
    assert "![eval_accuracy of all trials over their progress](curves.png)" in text
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_card_repeats_the_sweep_where_it_is_stored(make: Made, out: Path):
    results = make()
    config = dataclasses.replace(results.record.config, storage="elsewhere")
    write_record(results.folder, dataclasses.replace(results.record, config=config))
    _, text = card_of(read_results(results.folder), out)
    assert f"run --from {results.folder.id} --trial t001 --storage elsewhere\n" in text


def test_the_card_of_a_space_without_a_file_says_that_nothing_repeats_it(make: Made, out: Path):
    results = make()
    source = dataclasses.replace(results.record.source, file=None)
    called = dataclasses.replace(results.record, source=source, command="sweeps.run")
    write_record(results.folder, called)
    _, text = card_of(read_results(results.folder), out)
    assert "started from Python (`sweeps.run`) with a space that has no file" in text
    assert "cannot be repeated from its record" in text
    assert "--from" not in text


def test_the_card_tells_values_apart_that_six_digits_do_not(make: Made, out: Path):
    folder = make().folder
    log = EventLog(folder.events_file, ())
    metrics = {"eval_accuracy": 0.90000004}
    log.append(
        ev.Reported(
            report=Report(
                trial="t002", number=2, step=40, max_steps=80, epoch=1, metrics=metrics, train_s=1.0
            )
        )
    )
    log.close()
    export_checkpoint(read_results(folder), out, trial_id="t001", evaluate=False)
    text = (out / "README.md").read_text()
    assert "| t002 | 0.90000004 | - |" in text
    assert "| t001 | 0.9 | - |" in text


def test_params_that_only_failed_are_not_among_the_best_of_the_card():
    """Their value is the highest, but no model has it."""
    history = History("eval_score", "max")
    for trial, value, end in (("t001", 0.8, "finished"), ("t002", 0.9, "failed")):
        begun, job, report, _ = trial_events(trial, value)
        for event in (begun, job, report, ev.TrialEnded(trial=trial, status=end)):
            history.apply(event)
    assert [line for line in model_card._best(history) if "t00" in line] == [
        "| t001 | 0.8 | - | `height=1` |"
    ]


def test_the_card_says_of_a_confirmation_what_results_say():
    near = [0.81234562, 0.81234565, 0.81234563, 0.81234562, 0.81234566, 0.81234564]
    said = "\n".join(model_card._verdict(confirmed([0.1, 0.9], {"t002": [0.9] * 6, "t001": near})))
    assert "\nThe params in the next table ran again with 6 fresh seeds each. Is the" in said
    assert "| t002 | 0.9 | every run has this value, so no interval |" in said
    assert "| t001 | 0.81234564 | 0.81234562 to 0.81234565 |" in said, "as far from its ends"
    assert "Verdict: **better**.\n" in said
    said = "\n".join(model_card._verdict(confirmed([0.9, 0.1], {"t001": [0.9], "t002": [0.8]})))
    assert "Verdict: **none**, because the search's winner is the baseline itself.\n" in said
    assert "| t001 | 0.9 | - |" in said


@pytest.mark.parametrize(
    ("adapted", "task", "answers"),
    [
        (None, "text-classification", {"label", "score"}),
        ("causal_model", "text-generation", {"generated_text"}),
        ("causal_model", None, None),
    ],
)
def test_the_python_of_the_card_runs_where_the_model_is(
    adapted: str | None,
    task: str | None,
    answers: set[str] | None,
    make: Made,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    results = make(adapter_of(TINY / adapted)) if adapted else make()
    _, text = card_of(results, out, pipeline=Pipeline(task=task) if task else None)
    monkeypatch.chdir(out)
    load, *pipe = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(load, names)
    assert names["tokenizer"]("some text")["input_ids"]
    assert len(pipe) == (answers is not None)
    for example in pipe:
        printed: list[Any] = []
        exec(example, {"print": printed.append})
        assert set(printed[0][0]) == answers


def test_of_local_folders_the_card_has_their_own_name_and_the_licence_that_they_state(
    make: Made, out: Path, tmp_path: Path
):
    base = tmp_path / "my-bert"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    data, text = card_of(make(), out, fields={"model": str(base), "dataset": str(tmp_path)})
    assert data.license == "apache-2.0"
    assert (data.base_model, data.datasets) == (None, None)
    assert "- Base model: `my-bert`, a local folder" in text
    assert str(tmp_path) not in (out / "README.md").read_text()


def test_a_card_of_the_base_model_that_cannot_be_read_gives_no_licence(
    make: Made, out: Path, tmp_path: Path
):
    (tmp_path / "README.md").write_text("---\nlicense: mit: or so\n---\n")
    data, text = card_of(make(), out, fields={"model": str(tmp_path)})
    assert data.license is None
    assert "- Licence: not stated, because the licence of the base model is not known here" in text


def test_a_licence_is_not_worth_an_export_when_the_hub_breaks_off(
    make: Made, out: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(trained_from, "hub_answers", lambda: True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    data, _ = card_of(make(), out, fields={"model": "google-bert/bert-base-uncased"})
    assert data.license is None


def test_a_value_on_the_test_split_that_is_not_finite_is_said(
    make: Made, out: Path, monkeypatch: pytest.MonkeyPatch
):
    results = make()
    results = dataclasses.replace(
        results,
        record=dataclasses.replace(
            results.record,
            source=dataclasses.replace(results.record.source, file="mine.py"),
            space=dataclasses.replace(results.record.space, fields={"dataset": "ada/reviews"}),
        ),
    )
    metrics = {"eval_accuracy": math.nan, "eval_loss": 0.5}
    monkeypatch.setattr(evaluated_again, "ask", lambda *_, **__: Told(load="", metrics=metrics))
    told = export_checkpoint(results, out, evaluate=False, test=True)
    assert told["test"]["metrics"] == {"eval_accuracy": None, "eval_loss": 0.5}
    card = ModelCard.load(out / "README.md")
    assert "on the test split (exports of this sweep have not read it): **not finite**" in card.text
    assert [result.dataset_split for result in card.data.eval_results] == [None]


def test_the_card_of_an_adapter_replaces_the_empty_one_of_peft(make: Made, out: Path):
    results = make(adapter_of(TINY / "causal_model"))
    peft = (results.folder.checkpoints / "t001" / "best-40" / "README.md").read_text()
    assert "[More Information Needed]" in peft
    data, text = card_of(results, out)
    assert data.library_name == "peft"
    assert "[More Information Needed]" not in text
    assert "- Base model: `causal_model`, a local folder" in text


@pytest.mark.parametrize("scratch", [True, False])
def test_a_model_that_was_trained_from_scratch_has_no_base_model(
    scratch: bool, make: Made, out: Path
):
    fields = {"model": "gpt2", "from_scratch": scratch}
    data, text = card_of(make(), out, fields=fields)
    assert data.base_model == (None if scratch else "gpt2")
    assert ("- Base model: none; the weights were initialised at random" in text) == scratch


BENCHMARK = """
name: reviews
tasks:
  - id: stars
    config: default
  - {id: words, split: train}
"""


@pytest.mark.parametrize(
    ("metric", "tasks", "written"),
    [
        ("eval_accuracy", BENCHMARK, True),
        ("eval_accuracy", BENCHMARK.replace("default", "other"), False),
        ("eval_accuracy", f"{BENCHMARK}  - id: more\n", False),
        ("eval_accuracy", "tasks: [", False),
        ("eval_accuracy", None, False),
        ("eval_loss", BENCHMARK, False),
    ],
    ids=[
        "a benchmark",
        "of another configuration",
        "two tasks",
        "broken",
        "no benchmark",
        "a loss",
    ],
)
def test_a_value_on_the_test_split_of_a_benchmark_is_written_for_its_leaderboard(
    metric: str,
    tasks: str | None,
    written: bool,
    make: Made,
    out: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    def download(*words: str, **options: str) -> str:
        assert (words, options) == (
            ("ada/reviews", "eval.yaml"),
            {"repo_type": "dataset", "revision": COMMIT},
        )
        if tasks is None:
            raise FileNotFoundError
        (tmp_path / "eval.yaml").write_text(tasks)
        return str(tmp_path / "eval.yaml")

    monkeypatch.setattr(eval_results, "hub_answers", lambda: True)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    results = make()
    record = dataclasses.replace(
        results.record,
        space=dataclasses.replace(
            results.record.space,
            metric=metric,
            mode="min" if metric == "eval_loss" else "max",
            fields={"dataset": "ada/reviews", "revisions": {"datasets/ada/reviews": COMMIT}},
        ),
        source=dataclasses.replace(results.record.source, file="mine.py"),
    )
    write_record(results.folder, record)
    metrics = {"eval_accuracy": 0.8, "eval_loss": 0.5}
    monkeypatch.setattr(evaluated_again, "ask", lambda *_, **__: Told(load="", metrics=metrics))
    export_checkpoint(read_results(results.folder), out, trial_id="t001", evaluate=False, test=True)
    said = "- Entry for the leaderboard of ada/reviews: `.eval_results/ada--reviews.yaml`"
    assert (said in (out / "README.md").read_text()) == written
    assert (out / ".eval_results").exists() == written
    if written:
        [entry] = parse_eval_result_entries(
            yaml.safe_load((out / ".eval_results" / "ada--reviews.yaml").read_text())
        )
        assert (entry.dataset_id, entry.task_id, entry.value) == ("ada/reviews", "stars", 0.8)
        assert (entry.dataset_revision, entry.notes) == (
            COMMIT,
            "eval_accuracy, computed by Trainer.evaluate",
        )

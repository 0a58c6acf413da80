"""Export: a folder that loads, says where it comes from, and is there whole or not at all."""

from __future__ import annotations

import dataclasses
import errno
import functools
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.answer import export
from sweeps.answer.results import Results, read_results
from sweeps.cli.export_command import print_exported
from sweeps.errors import SweepError, UserError
from sweeps.records import events as ev
from sweeps.records.checkpoints import finish_checkpoint
from sweeps.records.event_log import EventLog
from sweeps.records.folder import SweepFolder
from sweeps.records.object_storage import upload_checkpoint
from sweeps.records.upload import Upload
from sweeps.report import Report
from tests.conftest import CommandLine
from tests.s3_server import s3_server
from tests.written_confirmation import confirmation_events
from tests.written_record import put_record

TINY = Path(__file__).parents[2] / "sweeps" / "builders" / "tiny"
SWEEP = "bert_yelp-20261122-0741-k3f9"
RECORD: dict[str, Any] = {
    "space": "bert_yelp",
    "metric": "eval_accuracy",
    "builder": "TextClassification(model='m')",
    "fixed": {"weight_decay": 0.01},
    "versions": {"transformers": "5.23.0"},
}

Made = Callable[..., Results]
export_checkpoint = functools.partial(export.export_checkpoint, evaluate=False)
"""The records here name no code that runs; `test_evaluated_again.py` evaluates."""


@pytest.fixture
def make(tmp_path: Path, tiny_bert: Path) -> Made:
    """A sweep: t001 with a checkpoint, t002 without; `spoil` works on t001's before it is whole."""

    def made(
        spoil: Callable[[Path], None] = lambda _: None, metrics: dict[str, float] | None = None
    ) -> Results:
        folder = SweepFolder(tmp_path / "results" / SWEEP)
        best = folder.checkpoints / "t001" / "best-40"
        best.mkdir(parents=True)
        for file in tiny_bert.iterdir():
            if file.name != "optimizer.pt":
                (best / file.name).write_bytes(file.read_bytes())
        spoil(best)
        sha256 = finish_checkpoint(best, trial="t001", number=2, step=40)
        put_record(folder, **RECORD)
        log = EventLog(folder.events_file, ())
        log.append(ev.SweepStarted(sweep=SWEEP))
        for trial, values in {"t001": (0.5, 0.9, 0.7), "t002": (0.6,)}.items():
            params = {"learning_rate": 3e-5}
            log.append(ev.TrialSuggested(trial=trial, params=params, origin="searcher", seed=17))
            for number, value in enumerate(values, 1):
                report = Report(
                    trial=trial,
                    number=number,
                    step=number * 20,
                    max_steps=80,
                    epoch=number / 2,
                    metrics={"eval_accuracy": value, "eval_loss": 0.1, **(metrics or {})},
                    train_s=1.0,
                )
                log.append(ev.Reported(report=report))
        path = str(best.relative_to(folder.path))
        log.append(
            ev.CheckpointSaved(trial="t001", number=2, kind="best", path=path, sha256=sha256)
        )
        log.close()
        return read_results(folder)

    return made


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where to export to; its parent is not there yet."""
    return tmp_path / "exports" / "model"


def source(results: Results) -> Path:
    return results.folder.checkpoints / "t001" / "best-40"


def names(folder: Path) -> list[str]:
    """All that is there, hidden files too."""
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


def message(kind: type[SweepError], results: Results, out: Path, **options: Any) -> str:
    with pytest.raises(kind) as raised:
        export_checkpoint(results, out, **options)
    assert type(raised.value) is kind
    return str(raised.value)


def test_the_export_is_a_folder_that_hf_loads(make: Made, out: Path):
    import torch
    import transformers
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    results = make()
    for file in source(results).iterdir():
        file.chmod(0o600)  # as safetensors writes them
    transformers.logging.set_verbosity_info()
    transformers.logging.enable_progress_bar()
    export_checkpoint(results, out)
    assert transformers.logging.get_verbosity() == transformers.logging.INFO, "as it was"
    assert transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_warning()
    added = {"provenance.json", "README.md", "curves.png"}
    assert names(out) == sorted({*names(source(results)), *added} - {"checkpoint.json"})
    assert names(out.parent) == ["model"]
    modes = {file.stat().st_mode for file in out.iterdir()}
    assert modes == {(out / "provenance.json").stat().st_mode}, "others may read it as well"
    model = AutoModelForSequenceClassification.from_pretrained(out)
    saved = AutoModelForSequenceClassification.from_pretrained(source(results))
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, saved.state_dict()[name])
    rows = AutoTokenizer.from_pretrained(out)(["good", "bad"], return_tensors="pt")
    assert model(**rows).logits.shape == (2, 2)


def saved_run(results: Results, run: str) -> ev.CheckpointSaved:
    """A run of the confirmation has saved the model of its only report."""
    best = results.folder.checkpoints / run / "best-8"
    shutil.copytree(source(results), best)
    (best / "checkpoint.json").unlink()
    sha256 = finish_checkpoint(best, trial=run, number=1, step=8)
    path = str(best.relative_to(results.folder.path))
    return ev.CheckpointSaved(trial=run, number=1, kind="best", path=path, sha256=sha256)


def test_after_a_confirmation_the_best_run_of_the_best_arm_is_exported_with_its_interval(
    make: Made, out: Path
):
    results = make()
    folder = results.folder
    arms = {"t001": [0.7, 0.6, 0.8] * 2, "t002": [0.4, 0.5, 0.4] * 2}
    saved = saved_run(results, "c001")
    *runs, end = confirmation_events(arms, baseline="t002", metric="eval_accuracy")
    log = EventLog(folder.events_file, ())
    log.append(*runs)
    log.append(ev.OfConfirmation(inner=saved))
    log.close()
    export_checkpoint(read_results(folder), out)
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["trial"] == "t001", "it has not ended"
    assert "confirmed" not in provenance
    log = EventLog(folder.events_file, ())
    log.append(end)
    log.close()
    export_checkpoint(read_results(folder), out, force=True)
    provenance = json.loads((out / "provenance.json").read_text())
    assert (provenance["trial"], provenance["seed"], provenance["value"]) == ("c001", 100, 0.7)
    confirmed = provenance["confirmed"]
    assert (confirmed["params_of"], confirmed["n"], confirmed["verdict"]) == ("t001", 6, "better")
    assert (confirmed["mean"], confirmed["sd"]) == pytest.approx((0.7, 0.0894), abs=1e-3)
    assert confirmed["low"] == pytest.approx(0.6061, abs=1e-4)
    assert provenance["answer"]["confirmation"]["comparisons"][0]["p_sign_flip"] == 0.03125
    card = (out / "README.md").read_text()
    assert f"- Sweep `{SWEEP}`, trial c001 (a run of the params of t001), seed 100" in card
    assert "better than the baseline t002? Verdict: **better**" in card
    assert "| t001 | 0.7 | 0.606" in card
    export_checkpoint(read_results(folder), out, trial_id="t001", force=True)
    assert json.loads((out / "provenance.json").read_text())["trial"] == "t001"
    dropped = ev.CheckpointDropped(trial="c001", kind="best", path=saved.path)
    log = EventLog(folder.events_file, ())
    log.append(ev.OfConfirmation(inner=dropped))
    log.close()
    assert message(UserError, read_results(folder), out, force=True) == (
        "no run of t001, the best confirmed params, has a checkpoint; to export another trial,"
        " pass --trial; trials with a checkpoint: t001"
    )
    assert message(UserError, read_results(folder), out, trial_id="c001", force=True) == (
        "c001 has no checkpoint: only the best run of each params set keeps one; runs"
        " with a checkpoint: none"
    )


def test_of_a_run_that_failed_later_the_export_says_so_and_has_the_one_mean_that_counts(
    make: Made, out: Path, capsys: pytest.CaptureFixture[str]
):
    results = make()
    *runs, end = confirmation_events(
        {"t001": [0.7, 0.6, 0.8] * 2 + [0.9], "t002": [0.4, 0.5, 0.4] * 2 + [None]},
        baseline="t002",
        metric="eval_accuracy",
    )
    log = EventLog(results.folder.events_file, ())
    log.append(*runs, ev.OfConfirmation(inner=saved_run(results, "c013")))
    failed = ev.TrialEnded(trial="c013", status="failed", failure="error")
    log.append(ev.OfConfirmation(inner=failed), end)
    log.close()
    found = read_results(results.folder)
    done = export_checkpoint(found, out)
    assert (done["trial"], done["failure"], done["value"]) == ("c013", "error", 0.9)
    assert (done["confirmed"]["n"], done["confirmed"]["mean"]) == (6, pytest.approx(0.7))
    assert "mean" not in done, "that of all seven"
    print_exported(found.answer, done, out)
    which = "c013 (a run of the params of t001; it failed later)"
    assert f"exported {which} of {SWEEP}," in capsys.readouterr().out
    assert f"trial {which}, seed" in (out / "README.md").read_text()


def adapter_of(model: Path) -> Callable[[Path], None]:
    """Puts a LoRA adapter of a model in place of what a folder holds."""

    def put(folder: Path) -> None:
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM, AutoTokenizer

        for file in folder.iterdir():
            file.unlink()
        config = LoraConfig(
            task_type="CAUSAL_LM", r=2, init_lora_weights=False, fan_in_fan_out=True
        )
        get_peft_model(AutoModelForCausalLM.from_pretrained(model), config).save_pretrained(folder)
        AutoTokenizer.from_pretrained(model).save_pretrained(folder)

    return put


def test_an_adapter_is_exported_as_it_is_and_loads_with_the_model_it_belongs_to(
    make: Made, out: Path
):
    from peft import AutoPeftModelForCausalLM

    results = make(adapter_of(TINY / "causal_model"))
    export_checkpoint(results, out)
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= set(names(out))
    assert "model.safetensors" not in names(out)
    model, saved = (
        AutoPeftModelForCausalLM.from_pretrained(folder).state_dict()
        for folder in (out, source(results))
    )
    adapter = [name for name in model if "lora_B" in name]
    assert len(adapter) == 2
    assert all(model[name].any() and model[name].equal(saved[name]) for name in adapter)


def test_a_merged_adapter_is_a_whole_model_that_says_the_same(make: Made, out: Path):
    import torch
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM

    results = make(adapter_of(TINY / "causal_model"))
    export_checkpoint(results, out, merge=True)
    assert {"model.safetensors", "config.json", "tokenizer.json", "provenance.json"} <= set(
        names(out)
    )
    assert not any(name.startswith("adapter") for name in names(out))
    assert json.loads((out / "provenance.json").read_text())["merged"]
    adapted = AutoPeftModelForCausalLM.from_pretrained(source(results)).eval()
    merged, base = (
        AutoModelForCausalLM.from_pretrained(folder).eval()
        for folder in (out, TINY / "causal_model")
    )
    tokens = torch.tensor([[3, 5, 7, 11]])
    with torch.no_grad():
        expected = adapted(tokens).logits
        torch.testing.assert_close(merged(tokens).logits, expected, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(base(tokens).logits, expected, atol=1e-3)


def test_there_is_nothing_to_merge_in_a_whole_model(make: Made, out: Path):
    assert message(UserError, make(), out, merge=True) == (
        "--merge: t001 trained a full model, not an adapter; omit --merge"
    )
    assert not out.exists()


def test_a_test_split_that_no_builder_names_is_refused_before_anything_is_loaded(
    make: Made, out: Path
):
    results = make()
    space = dataclasses.replace(results.record.space, has_test_split=False)
    record = dataclasses.replace(results.record, space=space)
    notes: list[str] = []
    results = dataclasses.replace(results, record=record)
    said = message(UserError, results, out, test=True, note=notes.append)
    assert said.startswith("--test: sweeps does not know the test rows")
    assert notes == names(out.parent) == []


def test_an_adapter_whose_model_is_gone_is_not_exported(make: Made, out: Path, tmp_path: Path):
    shutil.copytree(TINY / "causal_model", tmp_path / "base")
    results = make(adapter_of(tmp_path / "base"))
    shutil.rmtree(tmp_path / "base")
    assert message(SweepError, results, out).startswith(
        "nothing was exported, because the checkpoint cannot be loaded: "
    )
    assert names(out.parent) == []


def test_the_provenance_says_where_the_model_comes_from(make: Made, out: Path):
    results = make()
    told = export_checkpoint(results, out)
    written = json.loads((out / "provenance.json").read_text())
    assert told == written
    exported = written.pop("exported")
    assert len(exported) == len("2026-11-22T07:41:00+0000")
    assert written == {
        "sweep": SWEEP,
        "space": "bert_yelp",
        "trial": "t001",
        "metric": "eval_accuracy",
        "mode": "max",
        "value": 0.9,
        "metrics": {"eval_accuracy": 0.9, "eval_loss": 0.1},
        "epoch": 1.0,
        "step": 40,
        "progress": 0.5,
        "params": {"learning_rate": 3e-5},
        "seed": 17,
        "failure": None,
        "answer": results.answer.in_json(),
        "fixed": {"weight_decay": 0.01},
        "builder": "TextClassification(model='m')",
        "weights_sha256": results.history.trials["t001"].checkpoints["best"].sha256,
        "merged": False,
        "versions": {"transformers": "5.23.0"},
        "git": {"commit": "c0ffee", "branch": "main", "dirty": False, "url": ""},
        "test": {"value": None, "reads": 0},
        "evaluated_again": {"value": None, "why_not": "it was exported with --no-evaluate"},
        "load": "import transformers;"
        ' model = transformers.BertForSequenceClassification.from_pretrained(".")',
    }


def test_the_provenance_is_strict_json_when_another_metric_is_not_finite(make: Made, out: Path):
    export_checkpoint(make(metrics={"eval_f1": math.nan}), out)

    def no_such_number(text: str) -> None:
        raise AssertionError(f"{text} is not JSON")

    json.loads((out / "provenance.json").read_text(), parse_constant=no_such_number)


def test_a_trial_may_be_named(make: Made, out: Path):
    assert export_checkpoint(make(), out, trial_id="t001")["trial"] == "t001"


def test_what_the_users_code_wrote_beside_the_checkpoints_goes_along_and_is_said(
    make: Made, out: Path, command_line: CommandLine
):
    results = make()
    trial = results.folder.checkpoints / "t001"
    (trial / "runs" / "today").mkdir(parents=True)
    (trial / "runs" / "today" / "events").write_text("curves")
    (trial / "predictions.csv").write_text("1,2")
    (trial / "checkpoint-60").mkdir()
    where = ("--storage", str(results.folder.path.parent), "--out", str(out))
    said = command_line("export", "bert_yelp", "--no-evaluate", *where)
    assert (said.code, said.err) == (0, "")
    assert (
        f"the files that the trial's code wrote to args.output_dir are in {out}/files\n" in said.out
    )
    assert names(out / "files") == ["predictions.csv", "runs"]
    assert (out / "files" / "runs" / "today" / "events").read_text() == "curves"


def test_an_empty_folder_is_filled(make: Made, out: Path):
    out.mkdir(parents=True)
    export_checkpoint(make(), out)
    assert "config.json" in names(out)


def test_a_folder_that_is_not_empty_is_left_alone_without_force(make: Made, out: Path):
    out.mkdir(parents=True)
    (out / "thesis.tex").write_text("years")
    results = make()
    assert (
        message(UserError, results, out)
        == f"{out} exists and is not an empty folder; --force (in Python, force=True) replaces it"
    )
    assert names(out) == ["thesis.tex"]
    assert names(out.parent) == ["model"]


def test_a_folder_that_is_not_empty_is_replaced_with_force(make: Made, out: Path):
    out.mkdir(parents=True)
    (out / "old-model.safetensors").write_text("")
    export_checkpoint(make(), out, force=True)
    assert "old-model.safetensors" not in names(out)
    assert "config.json" in names(out)
    assert names(out.parent) == ["model"]


def test_a_file_in_the_way_is_left_alone_without_force(make: Made, out: Path):
    out.parent.mkdir()
    out.write_text("a file")
    assert (
        message(UserError, make(), out)
        == f"{out} exists and is not an empty folder; --force (in Python, force=True) replaces it"
    )
    assert out.read_text() == "a file"


def test_a_file_in_the_way_is_replaced_with_force(make: Made, out: Path):
    out.parent.mkdir()
    out.write_text("a file")
    export_checkpoint(make(), out, force=True)
    assert "config.json" in names(out)


def test_the_working_folder_is_filled_or_refused_with_a_message(
    make: Made, out: Path, monkeypatch: pytest.MonkeyPatch
):
    out.mkdir(parents=True)
    results = make()
    monkeypatch.chdir(out)
    try:
        export_checkpoint(results, Path("."))
    except UserError:
        return
    assert "config.json" in names(out)


def test_force_does_not_replace_the_sweep_that_is_exported(make: Made):
    results = make()
    message(UserError, results, results.folder.path, force=True)
    assert results.folder.events_file.exists()
    assert (source(results) / "model.safetensors").exists()


def test_a_trial_that_is_not_there_is_answered_with_those_that_are(make: Made, out: Path):
    assert message(UserError, make(), out, trial_id="t009") == (
        f"no trial named 't009' in {SWEEP}; available: t001 to t002; did you mean 't002' or 't001'?"
    )
    assert not out.parent.exists()


@pytest.mark.parametrize("trial", ["../..", "t001/../../..", "/", "", "."])
def test_no_trial_id_leads_out_of_the_sweep(make: Made, out: Path, trial: str):
    assert message(UserError, make(), out, trial_id=trial) == (
        f"no trial named {trial!r} in {SWEEP}; available: t001 to t002"
    )
    assert not out.parent.exists()


def test_a_trial_without_a_checkpoint_is_answered_with_those_that_have_one(make: Made, out: Path):
    assert message(UserError, make(), out, trial_id="t002") == (
        "t002 has no checkpoint: with --keep-checkpoints 3, only the best trials keep one; trials"
        " with a checkpoint: t001"
    )
    assert not out.parent.exists()


def test_a_trial_without_a_checkpoint_is_told_why_it_has_none(make: Made, out: Path):
    """Whether it never reported, lost what it saved, is still saving, or was pushed out."""
    results = make()
    log = EventLog(results.folder.events_file, ())

    def why(trial: str) -> str:
        return message(UserError, read_results(results.folder), out, trial_id=trial)

    def reported(trial: str, value: float) -> list[ev.Event]:
        report = Report(
            trial=trial,
            number=1,
            step=20,
            max_steps=80,
            epoch=0.5,
            metrics={"eval_accuracy": value},
            train_s=1.0,
        )
        decided = ev.Decided(
            trial=trial, number=1, decision="continue", save_best=True, save_state=False
        )
        params = {"learning_rate": 1e-5}
        suggested = ev.TrialSuggested(trial=trial, params=params, origin="searcher", seed=17)
        return [suggested, ev.Reported(report=report), decided]

    log.append(*reported("t003", math.nan))
    log.append(*reported("t004", 0.8))
    never = "t003 has no checkpoint: it has not reported a finite eval_accuracy; trials with a"
    assert why("t003").startswith(never)
    assert "t004 has no checkpoint: its checkpoint is not complete yet; trials" in why("t004")
    log.append(ev.TrialEnded(trial="t004", status="failed", failure="error"))
    assert "t004 has no checkpoint: it ended before its checkpoint was complete;" in why("t004")
    path = "checkpoints/t005/best-20"
    log.append(*reported("t005", 0.7))
    log.append(ev.CheckpointSaved(trial="t005", number=1, kind="best", path=path, sha256="0"))
    log.append(ev.CheckpointDropped(trial="t005", kind="best", path=path))
    log.close()
    assert "t005 has no checkpoint: with --keep-checkpoints 3, only the best trials" in why("t005")


def test_a_sweep_without_a_report_has_nothing_to_export(tmp_path: Path, out: Path):
    folder = SweepFolder(tmp_path / SWEEP)
    folder.path.mkdir()
    put_record(folder, **RECORD)
    log = EventLog(folder.events_file, ())
    log.append(ev.SweepStarted(sweep=SWEEP))
    log.close()
    assert message(UserError, read_results(folder), out) == (
        f"{SWEEP} has no reports yet, so there is nothing to export"
    )
    assert message(UserError, read_results(folder), out, trial_id="t001") == (
        f"no trial named 't001' in {SWEEP}: there are no trials yet"
    )


# Nothing half-written.


def test_weights_that_changed_by_one_byte_are_refused(make: Made, out: Path):
    results = make()
    weights = source(results) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert message(SweepError, results, out) == (
        f"{source(results)} is damaged: its weights differ from those that were saved"
    )
    assert not out.parent.exists()


@pytest.mark.parametrize("lost", ["checkpoint.json", "model.safetensors"])
def test_a_checkpoint_that_is_not_whole_is_refused(make: Made, out: Path, lost: str):
    results = make()
    (source(results) / lost).unlink()
    assert (
        message(SweepError, results, out)
        == {
            "checkpoint.json": "the checkpoint of t001 is missing or incomplete:"
            f" {source(results)}",
            "model.safetensors": f"{source(results)} is damaged: its weights differ from those that"
            " were saved",
        }[lost]
    )
    assert not out.parent.exists()


@pytest.mark.parametrize("lost", ["config.json", "tokenizer.json"])
def test_a_checkpoint_that_does_not_load_leaves_nothing_behind(make: Made, out: Path, lost: str):
    results = make()
    (source(results) / lost).write_text("{")
    assert message(SweepError, results, out).startswith(
        "nothing was exported, because the checkpoint cannot be loaded: "
    )
    assert names(out.parent) == []


def test_what_was_there_before_stays_when_the_new_one_does_not_load(make: Made, out: Path):
    out.mkdir(parents=True)
    (out / "old").write_text("old")
    results = make()
    (source(results) / "config.json").write_text("{")
    message(SweepError, results, out, force=True)
    assert names(out) == ["old"]
    assert names(out.parent) == ["model"]


def test_a_copy_that_fails_leaves_nothing_behind(make: Made, out: Path):
    results = make()
    (source(results) / "merges.txt").symlink_to(out / "nowhere")
    with pytest.raises(Exception, match=r"merges\.txt"):
        export_checkpoint(results, out)
    assert names(out.parent) == []


def test_what_an_export_that_was_killed_left_behind_does_not_get_into_the_next(
    make: Made, out: Path
):
    for name in (".model.partial", ".model.replaced", "model"):
        (out.parent / name).mkdir(parents=True)
        (out.parent / name / "half.safetensors").write_text("")
    (out.parent / ".model.lock").touch()
    export_checkpoint(make(), out, force=True)
    assert "half.safetensors" not in names(out)
    assert names(out.parent) == ["model"]


def test_while_an_export_runs_a_second_one_to_the_same_folder_is_refused(
    make: Made, out: Path, monkeypatch: pytest.MonkeyPatch
):
    results, said, write_card = make(), list[str](), export.write_card

    def second(*card: Any) -> None:
        said.append(message(UserError, results, out, force=True))
        write_card(*card)

    monkeypatch.setattr(export, "write_card", second)
    export_checkpoint(results, out)
    assert said == [f"another export to {out} is running; wait for it to end"]
    assert "model.safetensors" in names(out)
    assert names(out.parent) == ["model"]


def test_a_folder_that_another_export_has_filled_meanwhile_is_not_replaced_without_force(
    make: Made, out: Path, monkeypatch: pytest.MonkeyPatch
):
    results, whole = make(), export.whole_checkpoint

    def slow(*found: Any) -> Path:
        monkeypatch.setattr(export, "whole_checkpoint", whole)
        export_checkpoint(results, out, trial_id="t001")
        return whole(*found)

    monkeypatch.setattr(export, "whole_checkpoint", slow)
    assert "exists and is not an empty folder" in message(UserError, results, out)


def test_the_checkpoint_itself_is_not_touched_by_an_export(make: Made, out: Path):
    results = make()
    before = {file.name: file.read_bytes() for file in source(results).iterdir()}
    export_checkpoint(results, out)
    assert {file.name: file.read_bytes() for file in source(results).iterdir()} == before


def test_a_sweep_on_object_storage_is_exported_from_a_folder_that_has_nothing(
    make: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_line: CommandLine
):
    made = make()
    with s3_server(monkeypatch) as uri:
        folder = SweepFolder(made.folder.path, uri)
        upload_checkpoint(folder, source(made))
        upload = Upload(folder)
        upload.put_definition()
        upload.close()
        (tmp_path / "elsewhere").mkdir()
        words = ("export", "bert_yelp", "--storage", uri, "--out", "model", "--no-evaluate")
        said = command_line(*words, folder=tmp_path / "elsewhere")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"exported t001 of {SWEEP}, eval_accuracy 0.9")
    assert "model.safetensors" in names(tmp_path / "elsewhere" / "model")


def test_of_a_checkpoint_that_is_lost_the_next_best_is_named_and_not_taken(make: Made, out: Path):
    results = make()
    other = results.folder.checkpoints / "t002" / "best-20"
    shutil.copytree(source(results), other)
    (other / "checkpoint.json").unlink()
    sha256 = finish_checkpoint(other, trial="t002", number=1, step=20)
    path = str(other.relative_to(results.folder.path))
    log = EventLog(results.folder.events_file, ())
    log.append(ev.CheckpointSaved(trial="t002", number=1, kind="best", path=path, sha256=sha256))
    log.close()
    shutil.rmtree(source(results))
    assert message(SweepError, read_results(results.folder), out) == (
        f"the checkpoint of t001 is missing or incomplete: {source(results)}\n"
        "  the best trial with a checkpoint is now t002 (eval_accuracy 0.6); to export it, pass"
        " --trial t002"
    )
    assert not out.parent.exists()


@pytest.mark.parametrize("where", ["copytree", "put_in_place"])
def test_a_disk_that_is_full_leaves_what_was_there_and_no_half_of_the_new(
    make: Made, out: Path, where: str, monkeypatch: pytest.MonkeyPatch
):
    out.mkdir(parents=True)
    (out / "old").write_text("old")

    def full(one: Path, other: Path, **_: Any) -> None:
        if where == "copytree":
            other.mkdir()
            (other / "config.json").write_text("{")
        raise OSError(errno.ENOSPC, "No space left on device", "model.safetensors")

    results = make()
    monkeypatch.setattr(export.shutil if where == "copytree" else export, where, full)
    assert message(SweepError, results, out, force=True) == (
        f"cannot write {out} (nothing was left behind):"
        " [Errno 28] No space left on device: 'model.safetensors'"
    )
    assert names(out) == ["old"]
    assert names(out.parent) == ["model"]


def test_a_checkpoint_older_than_the_best_report_is_said_to_be_that(make: Made, out: Path):
    """The trial is still saving the newer one, or its process died before it was complete."""
    results, said = make(), list[str]()
    log = EventLog(results.folder.events_file, ())
    report = dataclasses.replace(results.history.reports[2], number=4, step=80)
    better = dataclasses.replace(report, metrics={"eval_accuracy": 0.95, "eval_loss": 0.1})
    log.append(ev.Reported(report=better))
    log.close()
    done = export_checkpoint(read_results(results.folder), out, note=said.append)
    assert (done["step"], done["value"]) == (40, 0.9)
    assert said[0] == (
        "t001 reported its best eval_accuracy, 0.95, at step 80, but has no complete checkpoint of"
        " that step; its checkpoint of step 40 is exported"
    )
    export_checkpoint(results, out, force=True, note=said.append)
    assert len(said) == 1, "the older log has none"


def test_the_best_so_far_of_a_sweep_that_runs_is_said_to_be_that(make: Made, tmp_path: Path):
    results = dataclasses.replace(make(), status="running")
    said: list[str] = []
    export_checkpoint(results, tmp_path / "best", note=said.append)
    line = f"{SWEEP} is still running: t001 is the best so far"
    assert line in said
    said.clear()
    export_checkpoint(results, tmp_path / "named", trial_id="t001", note=said.append)
    ended = dataclasses.replace(results, status="finished")
    export_checkpoint(ended, tmp_path / "over", note=said.append)
    assert line not in said

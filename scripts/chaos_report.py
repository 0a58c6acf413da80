"""Reports what `chaos.py` killed and what was lost: `python scripts/chaos_report.py STORAGE`.

Reads the event logs, the notes of `chaos.py` and of the killer, and MLflow. Prints tables, and the
same as JSON. Exit code 0: nothing was lost and nothing is left.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from chaos_killer import MOMENTS, TITLES
from mlflow import MlflowClient

from sweeps.answer.results import Results, read_results
from sweeps.records import events as ev
from sweeps.records.event_log import read_events
from sweeps.records.folder import SweepFolder
from sweeps.records.history import History

TIMINGS = ("_runtime", "_per_second")
"""Suffixes of metric names whose values differ from run to run."""


def sweep_in(storage: Path) -> Results:
    """Return the only sweep of a storage folder."""
    (log,) = storage.glob("*/events.jsonl")
    return read_results(SweepFolder(log.parent))


def course(results: Results) -> list[tuple[Any, ...]]:
    """Return params, reports with their metrics, decisions and ends, in log order."""
    found: list[tuple[Any, ...]] = []
    for event, _ in read_events(results.folder.events_file):
        match event:
            case ev.TrialSuggested():
                found.append(("params", event.trial, dict(event.params)))
            case ev.Reported():
                report = event.report
                metrics = {k: v for k, v in report.metrics.items() if not k.endswith(TIMINGS)}
                found.append(("report", report.trial, report.number, report.step, metrics))
            case ev.Decided():
                found.append(
                    ("decision", event.trial, event.number, event.decision, event.save_best)
                )
            case ev.TrialEnded():
                found.append(("end", event.trial, event.status, event.failure))
    return found


def weights(results: Results) -> dict[tuple[str, int], set[str]]:
    """Return the digests of all saved weights, by trial and report."""
    found: dict[tuple[str, int], set[str]] = {}
    for event, _ in read_events(results.folder.events_file):
        if isinstance(event, ev.CheckpointSaved):
            found.setdefault((event.trial, event.number), set()).add(event.sha256)
    return found


def intervals_redone(results: Results) -> list[int]:
    """Return for each attempt after a trial's first how many reported intervals it redid."""
    history = History(results.history.metric, results.history.mode)
    redone = []
    for event, _ in read_events(results.folder.events_file):
        if isinstance(event, ev.JobStarted) and event.attempt > 1:
            trial = history.trials[event.trial]
            state = trial.checkpoints.get("state")
            reported = max((report.number for report in trial.reports), default=0)
            redone.append(reported - (state.number if state else 0))
        history.apply(event)
    return redone


def mlflow_runs(results: Results) -> tuple[int, int]:
    """Return how many runs the sweep has in MLflow, and how many of them are open."""
    client = MlflowClient(results.record.tracking_uri)
    experiment = client.get_experiment_by_name(results.record.space.name)
    runs: list[Any] = []
    token = None
    while True:
        page = client.search_runs([experiment.experiment_id], page_token=token)
        runs += page
        token = page.token
        if not token:
            break
    return len(runs), sum(run.info.status in ("RUNNING", "SCHEDULED") for run in runs)


def find_out(storage: Path) -> dict[str, Any]:
    """Collect everything that the tables show."""
    facts = json.loads((storage / "chaos.json").read_text())
    notes = storage / "kills.jsonl"
    kills = [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []
    unbroken, chaos = sweep_in(storage / "unbroken"), sweep_in(storage / "chaos")
    expected, happened = course(unbroken), course(chaos)
    saved, calm = weights(chaos), weights(unbroken)
    redone = intervals_redone(chaos)
    runs, not_closed = mlflow_runs(chaos)
    decisions = [entry for entry in expected if entry[0] == "decision"]
    ended = {trial.id for trial in chaos.history.trials.values() if trial.ended}
    failed = [t.id for t in chaos.history.trials.values() if t.status == "failed"]
    first = next(
        (i for i, pair in enumerate(zip(expected, happened, strict=False)) if pair[0] != pair[1]),
        min(len(expected), len(happened)),
    )
    return {
        "commands": facts["commands"],
        "versions": chaos.record.versions,
        "kills": len(kills),
        "kills_by_kind": {
            kind: {
                moment: sum(k["kind"] == kind and k["moment"] == moment for k in kills)
                for moment in MOMENTS
            }
            for kind in TITLES
        },
        "status": chaos.status,
        "trials": len(unbroken.history.trials),
        "trials_lost": len(set(unbroken.history.trials) - ended) + len(failed),
        "attempts": len(redone) + len(chaos.history.trials),
        "attempt_ends": dict(
            Counter(a.outcome for t in chaos.history.trials.values() for a in t.attempts)
        ),
        "intervals": len(unbroken.history.reports),
        "intervals_redone": sum(redone),
        "most_intervals_redone_at_once": max(redone, default=0),
        "decisions": len(decisions),
        "decisions_equal": expected == happened,
        "first_difference": None
        if expected == happened
        else [expected[first : first + 2], happened[first : first + 2]],
        "weights_compared": len(saved.keys() & calm.keys()),
        "weights_different": sum(saved[key] != calm[key] for key in saved.keys() & calm.keys()),
        "processes_left": facts["left"],
        "processes_that_outlived_a_sweep_process": facts["outlived"],
        "joined_ray": facts["joined"],
        "mlflow_runs": runs,
        "mlflow_runs_not_closed": not_closed,
        "mlflow_runs_missing_or_double": abs(runs - 1 - len(chaos.history.trials)),
        "foreign_ray_processes_ended": facts["foreign_ended"]
        if facts["arguments"]["foreign_ray"]
        else None,
        "unbroken_s": facts["unbroken_s"],
        "disturbed_s": facts["disturbed_s"],
    }


def faults(found: dict[str, Any], kills: int) -> list[str]:
    """Return the conditions that are not met."""
    joined = found["joined_ray"]
    must = {
        f"{kills} kills": found["kills"] >= kills,
        "the sweep is finished": found["status"] == "finished",
        "no trial lost": found["trials_lost"] == 0,
        "decisions equal": found["decisions_equal"],
        "weights equal": found["weights_different"] == 0,
        "no process left": found["processes_left"] == 0,
        "no process outlives a sweep process": not found["processes_that_outlived_a_sweep_process"],
        "all MLflow runs closed": found["mlflow_runs_not_closed"] == 0,
        "one MLflow run per trial": found["mlflow_runs_missing_or_double"] == 0,
        "the foreign Ray is untouched": not found["foreign_ray_processes_ended"],
    }
    if joined:  # otherwise they ended with the sweep's local Ray instance
        must["no placement group left"] = joined["placement_groups"] == 0
        must["no actor left"] = joined["actors"] == []
    return [what for what, is_so in must.items() if not is_so]


def as_markdown(found: dict[str, Any]) -> str:
    """Return the tables."""
    lines = [f"| killed | {' | '.join(MOMENTS)} | all |", "| --- |" + " --- |" * 6]
    for kind, moments in found["kills_by_kind"].items():
        counts = " | ".join(map(str, moments.values()))
        lines.append(f"| {kind} | {counts} | {sum(moments.values())} |")
    joined, foreign = found["joined_ray"], found["foreign_ray_processes_ended"]
    rows = {
        "kills": found["kills"],
        "trials": found["trials"],
        "trials lost": found["trials_lost"],
        "evaluation intervals": found["intervals"],
        "evaluation intervals redone": found["intervals_redone"],
        "most of these in one restart": found["most_intervals_redone_at_once"],
        f"params, reports and ends, and {found['decisions']} decisions, equal to those of the"
        " undisturbed sweep": "yes" if found["decisions_equal"] else "NO",
        f"saved weights that differ, of {found['weights_compared']} compared": found[
            "weights_different"
        ],
        "processes left": found["processes_left"],
        "processes still there a minute after the sweep process was killed": found[
            "processes_that_outlived_a_sweep_process"
        ],
        **(
            {
                "placement groups left": joined["placement_groups"],
                "actors left": ", ".join(joined["actors"]) or 0,
            }
            if joined
            else {}
        ),
        "MLflow runs": found["mlflow_runs"],
        "MLflow runs not closed": found["mlflow_runs_not_closed"],
        "MLflow runs missing or duplicated": found["mlflow_runs_missing_or_double"],
        **({"processes of the foreign Ray ended": foreign} if foreign is not None else {}),
        "undisturbed, from command to end": f"{found['unbroken_s']:.0f} s",
        "with kills and resumes": f"{found['disturbed_s']:.0f} s",
    }
    lines += ["", "| | |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("storage", type=Path)
    parser.add_argument(
        "--kills", type=int, default=0, help="Number of kills that must have taken place."
    )
    args = parser.parse_args()
    found = find_out(args.storage.resolve())
    wrong = faults(found, args.kills)
    (args.storage / "report.json").write_text(json.dumps(found, indent=2) + "\n")
    print(as_markdown(found))
    print("\n" + json.dumps(found))
    for what in wrong:
        print(f"FAILED: {what}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""What follows from the end of an attempt."""

from __future__ import annotations

from typing import Any

import pytest

from sweeps.driver.verdicts import common_bug, end_of_course, verdict
from sweeps.records import events as ev
from sweeps.records.history import History
from sweeps.records.trial import Trial
from sweeps.report import Report

FRAMES = '  File "space.py", line 9, in build\n    raise ValueError(rows)\n'


def traceback(text: str = "ValueError: bad rows", frames: str = FRAMES) -> str:
    return f"Traceback (most recent call last):\n{frames}{text}\n"


def ended(outcome: ev.AttemptOutcome, **fields: Any) -> ev.AttemptEnded:
    whole: dict[str, Any] = {"trial": "t001", "attempt": 1, "train_s": 1.0, "device_s": 1.0}
    return ev.AttemptEnded(outcome=outcome, **whole | fields)


def after(
    *attempts: ev.AttemptEnded, max_failures: int = 2, rows: bool = True
) -> tuple[str, str | None] | None:
    """The trial's end after these attempts, or None where it runs again."""
    trial = Trial(id="t001", params={}, origin="searcher", seed=0)
    trial.attempts += attempts[:-1]
    end = verdict(
        trial, attempts[-1], max_failures=max_failures, may_take_fewer_rows=lambda _: rows
    )
    return (end.status, end.failure) if end else None


def error(text: str) -> ev.AttemptEnded:
    return ended("error", traceback=traceback(text))


def test_an_error_is_tried_again_as_often_as_allowed_then_fails_with_its_kind():
    one, two, three = (error(f"OSError: host {i} is gone") for i in range(3))
    assert after(one) is None
    assert after(one, two) is None
    assert after(one, two, three) == ("failed", "error")
    assert after(one, two, ended("stalled")) == ("failed", "stalled")
    assert after(ended("stalled"), ended("stalled"), max_failures=1) == ("failed", "stalled")
    assert after(one, max_failures=0) == ("failed", "error")


def test_the_same_traceback_twice_in_a_row_is_not_tried_a_third_time():
    assert after(error("ValueError: <Row at 0x7f01>"), error("ValueError: <Row at 0x7f99>")) == (
        "failed",
        "error",
    )
    assert after(error("ValueError: a"), ended("preempted"), error("ValueError: a")) is not None
    assert after(error("ValueError: a"), error("ValueError: b")) is None


def test_a_rank_that_died_without_a_traceback_is_no_repeated_bug():
    died = ended("error", message="rank 1 died: WorkerHealthCheckFailedError")
    assert after(died, died) is None
    assert after(died, died, died) == ("failed", "error")


def test_what_is_not_the_trials_fault_is_never_held_against_it():
    others = [ended("preempted"), ended("interrupted")] * 20
    assert after(*others) is None
    assert after(*others, error("OSError: once")) is None


@pytest.mark.parametrize("phase", ["training", "evaluation"])
def test_out_of_memory_is_tried_once_more_with_fewer_rows_in_each_phase(phase: ev.Phase):
    other: ev.Phase = "evaluation" if phase == "training" else "training"
    ran_out = ended("out_of_memory", phase=phase)
    assert after(ran_out) is None
    assert after(ran_out, rows=False) == ("failed", "out_of_memory")
    assert after(ran_out, ran_out) == ("failed", "out_of_memory")
    assert after(ended("out_of_memory", phase=other), ran_out) is None


def test_running_out_of_memory_does_not_use_up_the_tries_for_errors():
    assert after(ended("out_of_memory", phase="training"), error("a"), error("b")) is None


def made(number: int, decision: ev.Decision = "continue", **fields: Any) -> Trial:
    """A trial whose newest report is this one, of 8."""
    whole: dict[str, Any] = {"epoch": 1.0, "metrics": {"eval_score": 0.5}, "train_s": 1.0}
    report = Report(trial="t001", number=number, step=number, max_steps=8, **whole | fields)
    decided = ev.Decided(
        trial="t001", number=number, decision=decision, save_best=False, save_state=False
    )
    trial = Trial(id="t001", params={}, origin="searcher", seed=0)
    trial.reports.append(report)
    trial.decisions[number] = decided
    return trial


def end_of(trial: Trial) -> tuple[str, str | None] | None:
    end = verdict(trial, ended("done"), max_failures=2, may_take_fewer_rows=lambda _: True)
    return (end.status, end.failure) if end else None


def test_a_trial_that_its_own_code_ended_after_a_report_has_finished():
    assert end_of(made(3)) == ("finished", None), "since the report: a time limit"
    own = made(3, ends_itself=True)
    assert end_of(own) == ("finished", None)
    end = end_of_course(own)
    assert end is not None
    assert end.status == "finished", "a resume needs no attempt to know it"
    assert end_of_course(made(3)) is None
    assert end_of(made(3, "stop")) == ("stopped_early", None)
    assert end_of(Trial(id="t001", params={}, origin="searcher", seed=0)) == ("failed", "error")


def history(*ends: tuple[str, ev.AttemptEnded]) -> History:
    found = History("eval_score", "max")
    for number, (status, attempt) in enumerate(ends, 1):
        failure = attempt.outcome if status == "failed" else None
        found.trials[f"t{number:03}"] = Trial(
            id=f"t{number:03}",
            params={},
            origin="searcher",
            status=status,  # type: ignore[arg-type]
            failure=failure,  # type: ignore[arg-type]
            attempts=[attempt],
            seed=0,
        )
    return found


def bug_of(found: History, trials: int) -> ev.AttemptEnded | None:
    return common_bug(found, trials, list(found.trials.values())[trials - 1])


def test_first_trials_that_all_fail_at_the_same_line_are_one_bug_whatever_the_text_says():
    bugs = [("failed", error(f"ValueError: rows {i}")) for i in range(3)]
    found = bug_of(history(*bugs), 3)
    assert found is not None
    assert found.traceback == traceback("ValueError: rows 2")
    assert bug_of(history(*bugs, ("finished", ended("done"))), 4) is None


def test_a_common_bug_is_told_once_so_a_resume_with_the_bug_mended_goes_on():
    mended = history(*[("failed", error("ValueError: rows"))] * 3, ("finished", ended("done")))
    assert common_bug(mended, 3, mended.trials["t003"]) is not None
    assert common_bug(mended, 3, mended.trials["t004"]) is None


def test_one_params_set_that_fails_with_every_seed_is_no_common_bug():
    bug = ("failed", error("ValueError: rows"))
    one, more = history(bug, bug, bug), history(bug, bug, bug, bug)
    one.repeats = more.repeats = 3
    assert common_bug(one, 2, one.trials["t003"]) is None
    assert common_bug(more, 2, more.trials["t004"]) is not None, "of a second one, too"


def test_one_success_among_the_first_or_another_line_is_no_common_bug():
    bug = ("failed", error("ValueError: rows"))
    done = ("finished", ended("done"))
    elsewhere = ("failed", ended("error", traceback=traceback(frames='  File "x.py", line 1\n')))
    other_kind = ("failed", error("KeyError: rows"))
    died = ("failed", ended("error", message="rank 0 died"))
    for stranger in (done, elsewhere, other_kind, died):
        assert bug_of(history(stranger, bug, bug), 3) is None
        assert bug_of(history(bug, bug, stranger), 3) is None
    assert bug_of(history(done, bug, bug, bug), 3) is None

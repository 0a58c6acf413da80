"""Tables as people read them."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from sweeps import SweepConfig
from sweeps.cli.tables import noise_lines, results_table, trials_in_words


def lines(results: dict[str, Any], top: int = 10) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=200).print(results_table(results, top))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def results(**more: Any) -> dict[str, Any]:
    trial = {
        "trial": "t002",
        "value": 0.9,
        "status": "finished",
        "failure": None,
        "progress": 0.5,
        "params": {"learning_rate": 1e-4},
        "train_s": 61.0,
        "checkpoint": "there",
        "checkpoint_gone": False,
    }
    return {
        "sweep": "s",
        "status": "finished",
        "metric": "eval_score",
        "answer": {"not_told_apart": ["t003"], "row_noise": None},
        "trials": [trial | more],
    }


def test_a_trial_stands_in_a_row():
    assert lines(results()) == [
        "s: finished, 1 trial",
        "trial  eval_score  status    best at  learning_rate  train  checkpoint",
        "t002          0.9  finished      50%         0.0001  1m 1s  kept",
    ]


def test_a_checkpoint_that_somebody_deleted_is_not_said_to_be_kept():
    assert lines(results(checkpoint_gone=True))[-1].endswith("  gone")


def test_values_have_the_digits_that_tell_them_apart():
    found = results()
    others = [0.91234, 0.91231, 0.5, None]
    found["trials"] = [found["trials"][0] | {"value": value} for value in others]
    assert [line.split()[1] for line in lines(found)[2:]] == ["0.91234", "0.91231", "0.5", "-"]


def test_a_long_table_tells_its_best_apart_and_not_any_two_of_its_values():
    found = results()
    values = [0.9 - 0.001 * place for place in range(30)]
    values[20] = values[19] - 1e-8
    found["trials"] = [found["trials"][0] | {"value": value} for value in values]
    shown = [line.split()[1] for line in lines(found, top=30)[2:]]
    assert shown[:3] == ["0.9", "0.899", "0.898"]
    assert shown[19] == shown[20] == "0.881"


def test_what_cannot_be_told_from_the_best_is_marked_and_noise_has_its_share():
    found = results(trial="t003")
    assert lines(found)[-1].startswith("t003 ≈  ")
    noise = {"trials": 12, "lead": 0.0123, "by_noise": 0.02}
    found["answer"]["row_noise"] = noise
    assert noise_lines(found, top=1) == [
        "≈: this sweep cannot tell it from the best",
        "the best is 0.0123 better than the mean of the 12 finished trials; of 12 equally good"
        " trials, the best would lead by about 0.02, by chance in the evaluation rows",
    ]
    found["answer"] = {"not_told_apart": None, "row_noise": None}
    assert noise_lines(found, top=1) == []


def test_a_table_without_all_trials_says_so_and_explains_no_mark_that_it_lacks():
    found = results()
    found["trials"].append(found["trials"][0] | {"trial": "t003"})
    assert lines(found, top=2)[0] == "s: finished, 2 trials"
    assert lines(found, top=1)[0] == "s: finished, 2 trials, best 1 shown"
    assert noise_lines(found, top=1) == []
    assert noise_lines(found, top=2) == ["≈: this sweep cannot tell it from the best"]


def test_a_trial_of_repeated_params_has_their_mean_and_its_error_beside_it():
    assert lines(results(repeat_of="t001", mean=0.875, mean_error=0.025)) == [
        "s: finished, 1 trial",
        "trial  eval_score   mean  error  repeat of  status    best at  learning_rate  train"
        "  checkpoint",
        "t002          0.9  0.875  0.025       t001  finished      50%         0.0001  1m 1s  kept",
    ]


def test_all_seeds_of_params_like_the_best_are_marked():
    found = results(repeat_of=None, mean=0.8, mean_error=0.1)
    again = {"trial": "t004", "repeat_of": "t003"}
    found["trials"] = [found["trials"][0] | each for each in ({}, {"trial": "t003"}, again)]
    assert [line.split()[:2] for line in lines(found)[2:]] == [
        *(["t002", "0.9"], ["t003", "≈"], ["t004", "≈"])
    ]


def test_the_mark_says_that_a_stopped_trial_is_compared_as_far_as_it_trained():
    found = results(trial="t003")
    found["trials"].append(found["trials"][0] | {"trial": "t004", "status": "stopped_early"})
    assert noise_lines(found, top=2) == [
        "≈: this sweep cannot tell it from the best; trials that did not finish are compared as"
        " far as they trained"
    ]


def test_what_the_trials_are_made_of_is_said_where_params_are_repeated():
    assert trials_in_words(SweepConfig()) == "32 trials"
    assert trials_in_words(SweepConfig(repeats=4)) == "32 trials: 8 params x 4 seeds"
    assert trials_in_words(SweepConfig(num_trials=1)) == "1 trial"

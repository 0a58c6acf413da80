"""An export that is another model than its trial reported, seen by its losses or by its rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sweeps.answer.same_model import Conditions, check_same_model
from sweeps.errors import SweepError
from sweeps.report import Report
from tests.answer.test_row_noise import report

ON_CPU = Conditions(devices="CPU", workers=1, device="CPU", bits=32)
RIGHT = np.arange(400) % 4 > 0


def with_loss(right: Any, loss: float = 0.5, **changes: Any) -> Report:
    found = report(right)
    return replace(found, metrics={**found.metrics, "eval_loss": loss}, **changes)


def compared(again: Report, conditions: Conditions = ON_CPU) -> Any:
    return check_same_model(with_loss(RIGHT), again, "eval_accuracy", conditions)


def test_a_loss_tells_models_of_equal_accuracy_apart():
    assert compared(with_loss(RIGHT, 0.500001)) == {"eval_accuracy": 0.01, "eval_loss": 1e-5}
    with pytest.raises(SweepError) as raised:
        compared(with_loss(RIGHT, 0.5003))
    assert str(raised.value).startswith(
        "the exported model does not match what t001 reported: evaluated again, its eval_loss is"
        " 0.5003, not 0.5 (a difference of 0.001% is allowed)\n"
    )
    assert compared(with_loss(RIGHT, 0.5003), replace(ON_CPU, bits=16))["eval_loss"] == 5e-3


def test_rows_tell_models_of_equal_accuracy_apart():
    several = replace(ON_CPU, workers=2)
    assert compared(with_loss(RIGHT, 0.6), several) == {"eval_accuracy": 0.01}
    with pytest.raises(SweepError) as raised:
        compared(with_loss(np.roll(RIGHT, 1)), several)
    assert "of 400 rows, 100 changed from right to wrong and 100 from wrong to right" in str(
        raised.value
    )
    one_other = RIGHT.copy()
    one_other[:2] = ~one_other[:2]
    compared(with_loss(one_other), several)


@pytest.mark.parametrize(
    ("again", "conditions"),
    [
        (with_loss(np.roll(RIGHT, 1), 0.6), replace(ON_CPU, devices="H100")),
        (with_loss(np.roll(RIGHT, 1), 0.6), replace(ON_CPU, device="NVIDIA H100 80GB HBM3")),
        (with_loss(np.roll(RIGHT, 1), 0.6), replace(ON_CPU, devices=None)),
        (with_loss(RIGHT, 0.6, right_rows=None), ON_CPU),
        (with_loss(RIGHT, 0.6, right_rows=f"ffffffff:{0:0100x}"), ON_CPU),
    ],
    ids=["from a GPU", "on a GPU", "old log", "rows unknown", "other rows"],
)
def test_elsewhere_and_on_other_rows_the_metric_alone_counts(again: Report, conditions: Conditions):
    assert compared(again, conditions) == {"eval_accuracy": 0.01}
    with pytest.raises(SweepError, match=r"is 0\.7, not 0\.75 \(a difference of 1% is"):
        compared(replace(again, metrics={"eval_accuracy": 0.7, "eval_loss": 0.6}), conditions)


@pytest.mark.parametrize(("metric", "share"), [("eval_perplexity", 1e-5), ("eval_f1", 0.01)])
def test_a_mean_over_rows_is_compared_closely_whatever_the_batches(metric: str, share: float):
    parts = with_loss(RIGHT, right_rows=None, row_parts="0a1b2c3d::")
    best = replace(parts, metrics={metric: 0.5, "eval_loss": 0.6})
    again = replace(parts, metrics={metric: 0.500001, "eval_loss": 0.7})
    assert check_same_model(best, again, metric, replace(ON_CPU, workers=2)) == {metric: share}


def test_on_the_same_kind_of_gpu_the_loss_counts():
    gpu = replace(ON_CPU, devices="H100", device="NVIDIA H100 80GB HBM3", bits=16)
    assert compared(with_loss(RIGHT, 0.5003), gpu)["eval_loss"] == 5e-3
    with pytest.raises(SweepError, match="its eval_loss is"):
        compared(with_loss(RIGHT, 0.504), gpu)

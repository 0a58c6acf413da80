"""The saved view of MLflow's page that compares one sweep's trials, and the link to it.

The tracker's process stores the view; `ui` makes the link. It must not know MLflow's client: a view
is the value of an experiment tag, in the format of MLflow's own front end (3.17.2), which
`test_mlflow_browser.py` opens in a browser.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any
from urllib.parse import quote

from sweeps.records.folder import SweepFolder
from sweeps.records.sweep_record import SweepRecord
from sweeps.trackers.base import SWEEP
from sweeps.trackers.mlflow.ids import sweep_in_mlflow
from sweeps.trackers.mlflow.names import NAME_LENGTH, clean
from sweeps.trackers.updates import RANK

CHARTED_TRIALS = 100
"""MLflow's page loads 100 runs at a time, and would chart 10 of them."""
PARALLEL_PARAMS = 6
"""More axes than these cannot be read in parallel coordinates."""
SECTION = "sweep"
TAG = "mlflow.sharedViewState."
"""The prefix of a view's tag."""
TRAINING = "workflowType=machine_learning"
"""Without it, the pages of logged models have the menu for generative AI."""


def view_key(sweep: str) -> str:
    """Return the name of the sweep's view in a link."""
    return clean(sweep, NAME_LENGTH - len(TAG))


def saved_view(record: SweepRecord, parent: str, started: float) -> tuple[str, str]:
    """Return the experiment tag, name and value, that holds the sweep's view.

    Args:
        record: `sweep.json`.
        parent: MLflow id of the sweep's own run.
        started: Unix time of the sweep's start.
    """
    metric, best = clean(record.space.metric), clean(f"best_{record.space.metric}")
    params = [clean(name) for name in record.space.tuned]
    columns = [
        "attributes.`Models`",
        "attributes.`Duration`",
        "metrics.`train_s`",  # unlike the duration, without the time in which nothing ran
        f"metrics.`{best}`",
        f"metrics.`{metric}`",
        *(f"params.`{name}`" for name in params),
        f"tags.`{RANK}`",
        "tags.`sweep.best`",
        "tags.`sweep.status`",
    ]
    charts = [
        _line("over-step", metric, x=None),
        _line("over-progress", metric, x="progress"),
        {
            **_chart("params", "PARALLEL"),
            "selectedParams": params[:PARALLEL_PARAMS],
            "selectedMetrics": [best],
            "showAllRuns": True,
        },
        _line("loss", "loss", x=None),
        {**_line("learning-rate", "learning_rate", x=None), "scaleType": "log"},
    ]
    state = {
        "searchFilter": _of_sweep(parent),
        "orderByKey": f"tags.`{RANK}`",  # sorted by value alone, ties would be newest first
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": [],
        "columnWidths": {},
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": charts,
        "compareRunSections": [
            {
                "uuid": SECTION,
                "name": f"Sweep {record.sweep}",
                "display": True,
                "isReordered": True,
                "deleted": False,
                "isGenerated": False,
            }
        ],
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {
            "xAxisKey": "step",
            "lineSmoothness": 0,
            "selectedXAxisMetricKey": "",
        },
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    value = {
        "name": f"Sweep {record.sweep}",
        "createdAt": round(started * 1000),
        "updatedAt": round(started * 1000),
        "state": f"deflate;{packed}",
    }
    return f"{TAG}{view_key(record.sweep)}", json.dumps(value)


def _chart(uuid: str, kind: str) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "type": kind,
        "runsCountToCompare": CHARTED_TRIALS,
        "metricSectionId": SECTION,
        "deleted": False,
        "isGenerated": False,
    }


def _line(uuid: str, metric: str, x: str | None) -> dict[str, Any]:
    """Return a line chart of a metric over the step, or over the metric `x`."""
    return {
        **_chart(uuid, "LINE"),
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "xAxisKey": "metric" if x else "step",
        "selectedXAxisMetricKey": x or "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "lineSmoothness": 0,
        "scaleType": "linear",
        "xAxisScaleType": "linear",
        "range": {},
        "ignoreOutliers": False,
        "useGlobalXaxisKey": False,
        "useGlobalLineSmoothing": True,
    }


def sweep_link(folder: SweepFolder, base_url: str) -> str:
    """Return the address of the page that compares the trials of this sweep.

    Args:
        folder: The sweep's folder.
        base_url: The MLflow server's URL: what `serve` yields, or an `http` tracking URI.

    Raises:
        UserError: The sweep has no run in MLflow.
    """
    ids = sweep_in_mlflow(folder)
    if ids.view:
        shown = f"viewStateShareKey={quote(ids.view, safe='')}"
    else:
        shown = f"searchFilter={quote(_of_sweep(ids.runs[SWEEP]), safe='')}"
    return (
        f"{base_url.rstrip('/')}/#/experiments/{ids.experiment}/runs"
        f"?{shown}&compareRunsMode=CHART&{TRAINING}"
    )


def model_links(folder: SweepFolder, base_url: str) -> list[str]:
    """Return the addresses of the logged models, and of the best one once it is logged.

    Args:
        folder: The folder of a sweep that is in MLflow.
        base_url: See `sweep_link`.
    """
    ids = sweep_in_mlflow(folder)
    models = f"{base_url.rstrip('/')}/#/experiments/{ids.experiment}/models"
    pages = [models, f"{models}/{ids.model}"] if ids.model else [models]
    return [f"{page}?{TRAINING}" for page in pages]


def _of_sweep(parent: str) -> str:
    """Return MLflow's filter for the trials of a sweep."""
    return f"tags.mlflow.parentRunId = '{parent}'"

"""A metric as `evaluate.load` finds it on disk."""

import datasets
import evaluate
import numpy as np


class Share(evaluate.Metric):
    def _info(self):
        features = {name: datasets.Value("int64") for name in ("predictions", "references")}
        return evaluate.MetricInfo(
            description="", citation="", features=datasets.Features(features)
        )

    def _compute(self, predictions, references):
        return {"share": float(np.mean(np.array(predictions) == np.array(references)))}

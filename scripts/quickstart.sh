#!/usr/bin/env bash
# A complete example on a CPU, with no network except the package index: a sweep of 8 trials on a
# tiny model, its results, the export of the best checkpoint, and a prediction with it.
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
.venv/bin/python -m sweeps run bert_yelp --tiny --num-trials 8
.venv/bin/python -m sweeps results bert_yelp
.venv/bin/python -m sweeps export bert_yelp --out "$out/model"
.venv/bin/python - "$out/model" <<'PYTHON'
import sys

from transformers import pipeline

classify = pipeline("text-classification", model=sys.argv[1], device=-1)
# The tiny model knows no words but those of its own reviews.
review = "the food was excellent. our waiter was really friendly! my dessert was perfect."
print(f"{review!r} -> {classify(review)[0]['label']}")
PYTHON

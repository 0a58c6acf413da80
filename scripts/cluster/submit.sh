#!/usr/bin/env bash
# Submits a sweep to a running Ray cluster as a Ray job, and shows its output until it ends.
#
#   export RAY_API_SERVER_ADDRESS=http://127.0.0.1:8265  # the cluster's dashboard, through a tunnel
#   STORAGE=/mnt/shared/results scripts/cluster/submit.sh --num-trials 64
#
# More flags and KEY=VALUE are passed to `python -m sweeps run`. STORAGE is a folder that all nodes
# share. For a space of your own, give the folder of its file as working folder, and its file as name.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

ray job submit --working-dir search_spaces -- \
    python -m sweeps run bert_yelp \
    --storage "${STORAGE:?a folder that all nodes share}" \
    --max-concurrent 4 --workers-per-trial 2 --gpus-per-worker 1 "$@"

#!/usr/bin/env bash
# Lint, types and all tests, in .venv. Arguments go to pytest: scripts/test.sh -m "not slow".
# Without arguments, everything runs at the same time, since much of it only waits. The tests that
# need Ray run one at a time: each is a dozen processes, whose starts have time limits. The other
# tests run in two processes at the lowest priority, since Ray gives its workers a low one (15), and
# with a longer timeout.
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"
unset PYTHONDONTWRITEBYTECODE  # a hundred processes would each compile the same code

.venv/bin/ruff check .
.venv/bin/ruff format --check .
status=0
if [ $# -gt 0 ]; then
    .venv/bin/mypy
    .venv/bin/python -m pytest "$@" || status=$?
else
    .venv/bin/mypy &
    types=$!
    others=$(mktemp)
    nice -n 19 .venv/bin/python -m pytest -m "not ray" -n 2 --timeout 300 >"$others" 2>&1 &
    tests=$!
    mapfile -t files < <(grep -rl --include "test_*.py" "mark\.ray" tests | sort)
    .venv/bin/python -m pytest -m ray "${files[@]}" || status=$?
    wait "$types" || status=$?
    wait "$tests" || status=$?
    cat "$others"
    rm "$others"
fi
if ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null; then
    echo "not run, because a system package is missing: the tests of MLflow's page in a browser" \
        "(Debian: apt-get install chromium chromium-driver)"
fi
exit "$status"

#!/usr/bin/env bash
# Lint, types and all tests, in .venv. Arguments go to pytest: scripts/test.sh -m "not slow".
# Without arguments the tests that need no Ray run beside those that do, in the time that these wait:
# at the lowest priority, since Ray gives its workers a low one (15), and with time for it. Those that
# need Ray run in two processes, each with a Ray of its own: a file stays in one. The others have two
# processes as well, for the time after that.
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
status=0
if [ $# -gt 0 ]; then
    .venv/bin/python -m pytest "$@" || status=$?
else
    plain=$(mktemp)
    nice -n 19 .venv/bin/python -m pytest -m "not ray" -n 2 --timeout 300 \
        >"$plain" 2>&1 &
    .venv/bin/python -m pytest -m ray -n 2 --dist loadfile --no-loadscope-reorder ||
        status=$?
    wait $! || status=$?
    cat "$plain"
    rm "$plain"
fi
if ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null; then
    echo "not run, because a system package is missing: the tests of MLflow's page in a browser" \
        "(Debian: apt-get install chromium chromium-driver)"
fi
exit "$status"

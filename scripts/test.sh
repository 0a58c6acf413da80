#!/usr/bin/env bash
# Lint, types and all tests, in .venv. Arguments go to pytest: scripts/test.sh -m "not slow".
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
status=0
.venv/bin/python -m pytest "$@" || status=$?
if ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null; then
    echo "not run, because a system package is missing: the tests of MLflow's page in a browser" \
        "(Debian: apt-get install chromium chromium-driver)"
fi
exit "$status"

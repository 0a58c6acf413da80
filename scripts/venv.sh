# Creates .venv in the project's folder with the tested versions; sourced by the other scripts.
# Needs only Python 3.11 to 3.13 with pip. PYTHON selects another interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then  # none yet, or incomplete
    "${PYTHON:-python3}" -m venv .venv
fi
stamp=.venv/installed.txt
wanted="$(cat pyproject.toml constraints.txt | cksum) $(pwd)"
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "installing into .venv (takes some minutes the first time)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile \
        --constraint constraints.txt --editable '.[test]'
    # pip would compile on one core. Some packages contain files for other versions of Python. Their
    # tests and nearly all of transformers' models are never imported.
    .venv/bin/python -m compileall -qq -j 0 -x '/tests?/|/transformers/models/' .venv/lib || true
    echo "$wanted" >"$stamp"
fi

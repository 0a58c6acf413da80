"""A worker is set up as Ray's own program sets it up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
import ray

from sweeps.workers.processes import setup_worker

OURS = setup_worker.__file__
RAYS_OWN = str(Path(ray.__file__).parent / "_private" / "workers" / "setup_worker.py")
DESCRIBE = """
import json, os, sys
print(json.dumps({"words": sys.argv, "folder": os.getcwd(), "environment": dict(os.environ)}))
"""
OTHER = """#!/usr/bin/env bash
export STARTED_BY=other
exec {python} "$@"
"""


def set_up(program: str, context: dict[str, object], worker: Path) -> dict[str, object]:
    """Start a worker by this program, with the words that the raylet adds; return what it has."""
    given = [
        str(worker),
        "--node-ip-address=127.0.0.1",
        "--temp-dir=/a folder",
        "--language=PYTHON",
    ]
    if context is not None:
        given.append(f"--serialized-runtime-env-context={json.dumps(context)}")
    ran = subprocess.run(
        [sys.executable, program, *given, "--startup-token=3"],
        env={**os.environ, "KNOWN": "known", "CHANGED": "before"},
        capture_output=True,
        check=True,
        text=True,
    )
    found: dict[str, object] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize("kind", ["sweep", "override"])
def test_a_worker_gets_what_rays_own_program_gives_it(kind: str, tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(DESCRIBE)
    other = tmp_path / "other python"
    other.write_text(OTHER.format(python=sys.executable))
    other.chmod(0o755)
    (tmp_path / "the code").mkdir()
    variables = {
        "CHANGED": "${CHANGED} and after",
        "PATHS": "/code:${KNOWN}:${UNKNOWN}:$KNOWN",
        "QUOTED": 'it\'s "$5" a b',
    }
    contexts: dict[str, dict[str, object]] = {
        "sweep": {
            "command_prefix": ["cd", f"'{tmp_path}/the code'", "&&"],
            "env_vars": variables,
            "py_executable": f"'{other}' -B",
            "override_worker_entrypoint": None,
            "java_jars": [],
        },
        "override": {"env_vars": variables, "override_worker_entrypoint": str(worker)},
    }
    ours, rays = (set_up(each, contexts[kind], worker) for each in (OURS, RAYS_OWN))
    assert ours == rays
    if kind == "sweep":
        assert ours["folder"] == str(tmp_path / "the code")
        assert cast("dict[str, str]", ours["environment"])["STARTED_BY"] == "other"

"""A dry run: a script runs once up to `train()`, on the CPU, to find out what it would train.

`dry_run` is called in the sweep process; it starts a separate process, which leaves nothing behind.
It must not know about the space: it receives the values or domains of a few flags.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import importlib.metadata
import json
import logging
import operator
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune.search.sample import Domain

from sweeps.builders.scripts.program import Flag, Program
from sweeps.durable import make_cache, write_whole
from sweeps.errors import UserError
from sweeps.hash_seed import hash_seed
from sweeps.space import domains
from sweeps.space.code_copy import own_files
from sweeps.space.user_code import shown

if TYPE_CHECKING:
    from transformers import TrainingArguments

_LIBRARIES = ("torch", "transformers", "accelerate", "datasets", "evaluate", "peft", "trl")
_VERSIONS = ("sweeps", *_LIBRARIES)
"""The packages whose versions a dry run depends on."""
_SMALL_BYTES = 100_000
"""Maximum size in bytes of a file on the command line that a dry run depends on."""
_PATIENCE = 10.0
"""Seconds after which a message says that a dry run is still running."""
_TYPES = {kind.__name__: kind for kind in (int, float, str, bool, list, dict, type(None))}


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a dry run found out about a script."""

    trainer: str
    """The class of its trainer."""
    arguments: str
    """The class of its arguments."""
    known_class: tuple[str, str]
    """Module and name of that class, or of its nearest base class that can be imported."""
    own_fields: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """The fields that it has in addition to that class, each with the names of its types."""
    parameters_of_init: tuple[str, ...] = ()
    """The parameters of its own `__init__` that are not fields."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Arguments that the script sets itself."""
    ignored: Mapping[str, str] = field(default_factory=dict)
    """Arguments that its own optimizer or schedule ignores, each with the reason."""
    flags: Mapping[str, Flag] = field(default_factory=dict)
    """The options of its command line, by name."""
    flag_values: Mapping[str, Any] = field(default_factory=dict)
    """The script's own values of the tuned flags, where known."""
    tried_values: Mapping[str, Any] = field(default_factory=dict)
    """The values that the tuned flags had in the dry run."""
    line: int | None = None
    """The line on which it calls `train()`."""
    blocks: tuple[str, ...] = ()
    """The `with` blocks around that line, each with its own line."""
    parameters: int = 0
    """Number of parameters in its model."""
    train_rows: int | None = None
    eval_rows: int | None = None
    eval_sets: Mapping[str, int | None] = field(default_factory=dict)
    """The rows of each evaluation set, by name, if there are several."""
    metrics: tuple[str, ...] | None = None
    """Its metrics, if they are known."""
    seconds: float = 0.0
    """Seconds from its first line to `train()`, including imports."""

    @property
    def argument_class(self) -> type[TrainingArguments]:
        """The class of its arguments, or one with the same fields."""
        return _argument_class(self.known_class, self.arguments, self.own_fields)


@functools.cache
def _argument_class(known: tuple[str, str], name: str, own: Any) -> type[TrainingArguments]:
    kind: Any = getattr(importlib.import_module(known[0]), known[1])
    if not own:
        return kind  # type: ignore[no-any-return]
    # A factory: the default of an own field is not known, only its value is.
    fields = [
        (field, _type(names), dataclasses.field(default_factory=type(None))) for field, names in own
    ]
    return dataclasses.make_dataclass(name, fields, bases=(kind,))


def _type(names: Sequence[str]) -> Any:
    kinds = [_TYPES[name] for name in names]
    return functools.reduce(operator.or_, kinds) if kinds else Any


def dry_run(
    program: Program,
    words: Sequence[str],
    flags: Mapping[str, Any],
    *,
    base: Path,
    kept: Path,
    where: str,
    copy_code: Callable[[Path], Path] | None = None,
) -> Found:
    """Return the findings of a dry run; those of an earlier one with the same inputs are reused.

    Args:
        program: The script.
        words: Its command line.
        flags: Values or domains for those of its options that have these names. Of a domain, the
            script's own value is used if the domain contains it, otherwise another value.
        base: The folder that trials run in.
        kept: The folder in which findings are cached, under a digest of everything they depend on.
        where: What messages call the script.
        copy_code: Copies the script and what a worker has of its folder; see `space.builder`. A
            worker runs a copy, too, so something that only the folder itself has is missed here
            already.

    Raises:
        UserError: The script cannot be tuned.
    """
    asked = {
        "file": str(program.file),
        "module": program.module,
        "is_own": program.is_own,
        "words": list(words),
        "flags": {name: each for name, each in flags.items() if not isinstance(each, Domain)},
        "domains": {
            name: domains.describe(each) for name, each in flags.items() if isinstance(each, Domain)
        },
    }
    base = base if base.is_dir() else Path.cwd()  # the folder may be missing on resume
    file = kept / f"{_key(program, asked, base)}.json"
    if file.is_file():
        return _read(json.loads(file.read_text()), where)
    with tempfile.TemporaryDirectory(prefix="sweeps-") as scratch:
        place = Path(scratch).resolve()
        mirror = str(place / "copy")
        if copy_code is not None:
            asked |= {"file": str(copy_code(Path(mirror))), "mirror": mirror}
        (place / "asked.json").write_text(json.dumps(asked, default=str))
        # -P: as in a worker, files in `base` do not hide libraries of the same name.
        command = [sys.executable, "-P", "-m", "sweeps.builders.scripts.dry_run_process", scratch]
        waiting = f"{where}: waiting for its dry run, which runs the script up to train()"
        late = threading.Timer(_PATIENCE, logging.getLogger("sweeps").warning, [waiting])
        late.start()
        try:
            done = subprocess.run(
                command,
                cwd=base,
                env={**os.environ, **hash_seed()},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
            )
        finally:
            late.cancel()
        if not (place / "found.json").is_file():
            raise UserError(_failed(done), where)
        text = (place / "found.json").read_text().replace(mirror, "")
        found = _read(json.loads(text), where)
        make_cache(kept)
        write_whole(file, text)
    return found


def _failed(run: subprocess.CompletedProcess[str]) -> str:
    """Return the message for a dry run that ended without recording anything."""
    if run.returncode < 0:
        name = signal.Signals(-run.returncode).name
        why = " (out of memory?)" if name == "SIGKILL" else ""
        return f"the dry run was killed by {name}{why}; run the script on its own to see why"
    lines = [line.strip() for line in run.stderr.splitlines() if line.strip()]
    last = lines[-1] if lines else "nothing on stderr; run the script on its own to see its output"
    return f"the dry run ended with exit code {run.returncode}: {last}"


def _key(program: Program, asked: Mapping[str, Any], base: Path) -> str:
    """Return a digest of everything that a dry run depends on, except data and models."""
    digest = hashlib.sha256(json.dumps([asked, str(base)], default=str).encode())
    modules = [program.file]
    if program.is_own:
        modules = sorted(file for file in own_files(program.root) if file.suffix == ".py")
    ours = sorted(Path(__file__).parent.glob("*.py"))
    for each in (*ours, *modules, *_small_files(asked["words"], base)):
        digest.update(each.read_bytes())
    for package in _VERSIONS:
        try:
            digest.update(f"{package} {importlib.metadata.version(package)}".encode())
        except importlib.metadata.PackageNotFoundError:
            continue
    return digest.hexdigest()[:20]


def _small_files(words: Sequence[str], base: Path) -> Iterator[Path]:
    """Yield the files named on a command line, such as a config file, except large data files."""
    for word in words:
        for part in (word, word.partition("=")[2]):
            with suppress(OSError):  # too long for the name of a file
                file = base / part
                if part and file.is_file() and file.stat().st_size <= _SMALL_BYTES:
                    yield file


def _read(data: dict[str, Any], where: str) -> Found:
    if problems := data.get("problems"):
        file = data.get("where")
        raise UserError(problems, str(shown(Path(file))) if file else where)
    flags = {name: Flag(**flag) for name, flag in data.pop("flags").items()}
    own = tuple((name, tuple(names)) for name, names in data.pop("own_fields"))
    known, metrics = tuple(data.pop("known_class")), data.pop("metrics")
    blocks, parameters = (tuple(data.pop(name)) for name in ("blocks", "parameters_of_init"))
    return Found(
        **data,
        flags=flags,
        own_fields=own,
        known_class=known,
        blocks=blocks,
        parameters_of_init=parameters,
        metrics=None if metrics is None else tuple(metrics),
    )

"""Warnings about what a space's own code does, found in its source text.

Runs in the sweep process before the first trial. It must not run the code, nor refuse anything.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

from sweeps.planning.request import Request
from sweeps.planning.rows import judged_set
from sweeps.space.search_space import fixed_values

SEEDERS = ("set_seed", "enable_full_determinism", "torch.manual_seed", "torch.cuda.manual_seed_all")
"""Functions that seed the generators of new weights; HF sets the trial's seed again only later."""
ON_TEST = "trials are judged on the test split, so nothing is left for a final test"


def split_warnings(request: Request) -> Iterator[str]:
    """Yield the places where the space or its code names the test split for evaluation."""
    for key, value in fixed_values(request.space).items():
        if (
            isinstance(value, str)
            and re.search(r"eval|valid|split", key)
            and re.search(r"(^|[^a-z])test($|[^a-z])", value.lower())
        ):
            yield f"{key} = {value!r}: {ON_TEST}"
    for line, text in _lines(request, partial(_test_reads, request.space.metric)):
        yield f"{line}: {text}: {ON_TEST}"


def _test_reads(metric: str, tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the keywords that read a test split, other than rows that the code splits off itself.

    `train_test_split` names those `test`. Of several evaluation sets, the judged one counts.
    """
    own = _split_off(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.keyword) or node.arg not in ("eval_dataset", "split"):
            continue
        inner = list(ast.walk(_judged(metric, node.value)))
        allowed = [
            each.slice for each in inner if isinstance(each, ast.Subscript) and own(each.value)
        ]
        if any(_names_test(each) and each not in allowed for each in inner):
            yield node


def _judged(metric: str, value: ast.expr) -> ast.expr:
    """Return the evaluation set that trials are judged on, if the code lists several by name."""
    pairs = zip(value.keys, value.values, strict=True) if isinstance(value, ast.Dict) else ()
    sets = {str(key.value): rows for key, rows in pairs if isinstance(key, ast.Constant)}
    return sets.get(judged_set(metric, sets) or "", value)


def _split_off(tree: ast.Module) -> Callable[[ast.AST], bool]:
    """Return a function that tells whether a value comes from a call of `train_test_split`."""
    names: set[str] = set()

    def holds(value: ast.AST) -> bool:
        inner = list(ast.walk(value))
        if any(isinstance(each, ast.Name) and each.id in names for each in inner):
            return True
        splits = any(
            isinstance(each, ast.Attribute) and each.attr == "train_test_split" for each in inner
        )
        return splits and not any(map(_names_test, inner))

    assigned = [
        (target.id, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    ]
    while found := {name for name, value in assigned if name not in names and holds(value)}:
        names |= found
    return holds


def _names_test(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.match(r"test($|[^a-z])", node.value.lower()) is not None
    )


def seed_warnings(request: Request) -> Iterator[str]:
    """Yield the places where the code itself sets a constant seed."""
    # The top level of a space's file runs before the trial is seeded, so a seed that is set there
    # has no effect. A script runs after that.
    runs_whole = request.space.builder.script_folder is not None

    def wanted(node: ast.AST) -> bool:
        return _sets_a_seed(node) and (runs_whole or node.col_offset > 0)

    for line, text in _lines(request, lambda tree: filter(wanted, ast.walk(tree))):
        yield (
            f"{line}: {text}: all trials draw the same new weights, whatever their seed, so"
            " --repeats and confirm show too little noise; use args.seed"
        )


def _sets_a_seed(node: ast.AST) -> TypeGuard[ast.Call]:
    return (
        isinstance(node, ast.Call)
        and ast.unparse(node.func).removeprefix("transformers.") in SEEDERS
        and any(isinstance(value, ast.Constant) for value in node.args)
    )


def early_stopping_warnings(request: Request) -> Iterator[str]:
    """Yield the places where the code lets a callback end trials."""
    for line, _ in _lines(request, lambda tree: filter(_stops_early, ast.walk(tree))):
        yield (
            f"{line}: EarlyStoppingCallback ends trials on its own, so progress and rungs are"
            " fractions of a length that trials never reach; let the scheduler stop trials instead"
        )


def _stops_early(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).endswith("EarlyStoppingCallback")


def _lines(
    request: Request, find: Callable[[ast.Module], Iterable[ast.AST]]
) -> list[tuple[str, str]]:
    """Return location and text of the nodes found in the files of the space and its builder."""
    builder = request.space.builder
    home = builder.module
    files = {request.loaded.file} if request.loaded.text is None else set()
    if builder.script_folder is not None:
        files.add(builder.script_file)
    place = getattr(home, "__file__", None)  # the __main__ of a notebook has none
    if home is not None and place and home.__name__.split(".")[0] != "sweeps":
        files.add(Path(place))
    found: list[tuple[str, str]] = []
    for file in sorted(file for file in files if file is not None):
        nodes: list[Any] = list(find(ast.parse(file.read_text())))
        found += [(f"{file.name}, line {node.lineno}", ast.unparse(node)) for node in nodes]
    return found

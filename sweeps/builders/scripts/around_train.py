"""What stands around a script's call of `train()`: further trainings, and `with` blocks.

Runs where a script runs, at that call, and reads only the source text. It must not know what is
trained.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from traceback import FrameSummary
from typing import Any, NamedTuple

from sweeps.errors import UserError
from sweeps.space.user_code import problem_at

_TRAIN = "train"
_TRAINER = "Trainer"
"""How the names of HF's and TRL's trainer classes end."""
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def trained_again(frames: Sequence[FrameSummary]) -> UserError | None:
    """Return the error for a script that trains again after a call of `train()`.

    Args:
        frames: The script's frames at that call, outermost first.
    """
    names = [frame.name for frame in frames[1:]] + [_TRAIN]
    for frame, called in reversed([*zip(frames, names, strict=True)]):
        tree = _tree(frame)
        if (line := _again(tree, _path(tree, frame.lineno or 0), called)) is not None:
            where = FrameSummary(frame.filename, line, frame.name)
            return problem_at(
                where,
                f"the script trains more than once (its first train() is on line"
                f" {frames[-1].lineno}), but sweeps can tune only one training; keep the one to"
                " tune, and load from a file what an earlier one has trained",
            )
    return None


def blocks_around(frames: Sequence[FrameSummary]) -> list[str]:
    """Return the `with` statements that a call of `train()` stands in, each with its line.

    Args:
        frames: As for `trained_again`.
    """
    return [
        f"line {node.lineno}: with {', '.join(map(ast.unparse, node.items))}"
        for frame in frames
        for step in _path(_tree(frame), frame.lineno or 0)
        if isinstance(node := step.node, ast.With | ast.AsyncWith)
    ]


def _tree(frame: FrameSummary) -> ast.Module:
    with suppress(OSError, SyntaxError, ValueError):
        return ast.parse(Path(frame.filename).read_bytes())
    return ast.Module([], [])


class _Step(NamedTuple):
    """A statement that a line is part of."""

    node: ast.AST
    repeats: bool = False
    """Whether the line is in the body of a loop, and this is the loop."""
    following: Sequence[ast.stmt] = ()
    """What runs in this statement after the part that the line is in."""


def _path(tree: ast.Module, line: int) -> list[_Step]:
    """Return the statements of the innermost function that a line is part of, outermost first."""
    path: list[_Step] = []
    node: ast.AST = tree
    while (step := _step(node, line)) is not None:
        node, inner = step
        path = [inner] if isinstance(inner.node, _SCOPES) else [*path, inner]
    return [*path, _Step(node)]


def _step(node: ast.AST, line: int) -> tuple[ast.AST, _Step] | None:
    """Return the part of a statement that a line is in, and what is known about the statement."""
    for field in ("body", "handlers", "cases", "orelse", "finalbody"):
        parts = getattr(node, field, ())
        if not isinstance(parts, list):  # the body of a lambda
            continue
        for i, part in enumerate(parts):
            if not _first(part) <= line <= _last(part):
                continue
            following = [] if field in ("handlers", "cases") else parts[i + 1 :]
            if isinstance(node, ast.Try | ast.TryStar):
                following += node.orelse if field == "body" else []
                following += node.finalbody if field != "finalbody" else []
            repeats = isinstance(node, _LOOPS) and field == "body"
            return part, _Step(node, repeats, following)
    return None


def _first(part: Any) -> Any:
    return part.pattern.lineno if isinstance(part, ast.match_case) else part.lineno


def _last(part: Any) -> Any:
    return (part.body[-1] if isinstance(part, ast.match_case) else part).end_lineno


def _again(tree: ast.Module, path: Sequence[_Step], called: str) -> int | None:
    """Return the line that repeats the call at the end of a path; None if no line does.

    A line in another branch does not: `if resumes: train(checkpoint)`, `else: train()`.
    """
    statement: Any = path[-1].node
    if any(isinstance(e, _COMPREHENSIONS) and any(_calls(e, called)) for e in _walk(statement)):
        return int(statement.lineno)
    alike = {ast.unparse(each.func) for each in _calls(statement, called)}
    if called == _TRAIN:
        alike |= {f"{trainer}.{_TRAIN}" for trainer in _trainers(tree)}
    breaks = False
    for step in reversed(path[:-1]):
        for each in step.following:
            for call in _calls(each, called):
                if ast.unparse(call.func) in alike or _of_new_trainer(call):
                    return call.lineno
            if isinstance(each, ast.Return | ast.Raise):
                return None
            breaks |= isinstance(each, ast.Break)
            if isinstance(each, ast.Break | ast.Continue):
                break
        if step.repeats:
            if not breaks:
                return int(getattr(step.node, "lineno", 0))
            breaks = False
    return None


def _of_new_trainer(call: ast.Call) -> bool:
    """Tell whether this is `SomeTrainer(...).train()`."""
    made = call.func.value if isinstance(call.func, ast.Attribute) else None
    return isinstance(made, ast.Call) and _name(made.func).endswith(_TRAINER)


def _calls(node: ast.AST, name: str) -> Iterator[ast.Call]:
    """Yield the calls of a function or method of that name."""
    for each in _walk(node):
        if isinstance(each, ast.Call) and _name(each.func) == name:
            yield each


def _trainers(tree: ast.Module) -> Iterator[str]:
    """Yield the names of variables that hold a trainer anywhere in a file."""
    own = {
        each.name
        for each in ast.walk(tree)
        if isinstance(each, ast.ClassDef) and any(_name(b).endswith(_TRAINER) for b in each.bases)
    }
    for each in ast.walk(tree):
        if isinstance(each, ast.Assign) and isinstance(each.value, ast.Call):
            kind = _name(each.value.func)
            if kind.endswith(_TRAINER) or kind in own:
                yield from map(ast.unparse, each.targets)


def _name(function: ast.AST) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and what runs with it, not the functions and classes that it defines."""
    yield node
    if not isinstance(node, _SCOPES):
        for each in ast.iter_child_nodes(node):
            yield from _walk(each)

"""Ray's domains: converting them to and from text, their values and their problems.

Used wherever a space is checked, printed, overridden or drawn from. It must not know about the
searcher.
"""

from __future__ import annotations

import ast
import inspect
import json
import math
import re
from collections.abc import Sequence
from random import Random
from typing import Any

from ray import tune
from ray.tune.search.sample import Categorical, Domain, Float, Integer

from sweeps.declared_types import is_number
from sweeps.space.domain_data import DomainData
from sweeps.space.ranges import Range, on_grid, range_of, range_problem

NAMES = (
    "uniform",
    "quniform",
    "loguniform",
    "qloguniform",
    "randint",
    "qrandint",
    "lograndint",
    "qlograndint",
    "choice",
)


MOST_VALUES = 100_000
"""Maximum number of values of a quantized range that are enumerated."""


def describe(domain: Domain) -> str:
    """Return the call that creates this domain, such as `loguniform(1e-05, 0.0001)`."""
    if isinstance(domain, Categorical):
        return f"choice({list(domain.categories)!r})"
    found = range_of(domain)
    return f"a {type(domain).__name__} domain" if found is None else str(found)


def domain_data(domain: Domain) -> DomainData:
    """Return a searchable domain as plain data."""
    if isinstance(domain, Categorical):
        return DomainData(kind="choice", choices=_plain(domain.categories))
    found = range_of(domain)
    assert found is not None
    lower, upper, quantum = _plain([found.lower, found.upper, found.quantum])
    return DomainData(
        kind="int" if found.whole else "float",
        lower=lower,
        upper=upper,
        log=found.log,
        quantum=quantum,
    )


def _plain(values: Sequence[Any]) -> list[Any]:
    """Return the values as JSON would return them, with numpy floats as Python floats."""
    plain: list[Any] = json.loads(json.dumps(list(values), allow_nan=False))
    return plain


def problem_with(domain: Domain) -> str | None:
    """Return why a sweep cannot search this domain; None if it can."""
    if isinstance(domain, Categorical):
        try:
            plain = _plain(domain.categories)
        except (TypeError, ValueError):
            plain = []
        if plain != list(domain.categories):
            return "the choices must be strings, finite numbers, booleans, None, or lists of these"
        if not plain:
            return "a choice needs at least one value"
        twice = [choice for i, choice in enumerate(plain) if _among(choice, plain[:i])]
        return f"{twice[0]!r} is listed twice; keep one" if twice else None
    found = range_of(domain)
    if found is None:
        return f"sweeps cannot search this domain; use one of {', '.join(NAMES)}"
    return range_problem(found)


def _among(value: Any, others: list[Any]) -> bool:
    return any(value == other and type(value) is type(other) for other in others)


def values(domain: Domain) -> Sequence[Any] | None:
    """Return every value that the domain can yield.

    None if there are infinitely many or too many.
    """
    if isinstance(domain, Categorical):
        return list(domain.categories)
    found = range_of(domain)
    assert found is not None
    if found.quantum is None:
        return range(found.lower, found.upper) if found.whole else None
    first, last = (round(bound / found.quantum) for bound in (found.lower, found.upper))
    if last - first > MOST_VALUES:
        return None
    steps = [min(max(k * found.quantum, found.lower), found.upper) for k in range(first, last + 1)]
    return steps if found.whole else list(map(float, steps))


def draw(domain: Domain, generator: Random) -> Any:
    """Return a random value of the domain."""
    if isinstance(domain, Categorical):
        return generator.choice(list(domain.categories))
    found = range_of(domain)
    assert found is not None
    lower, upper = (math.log(n) if found.log else n for n in (found.lower, found.upper))
    drawn = generator.uniform(lower, upper)
    value = math.exp(drawn) if found.log else drawn
    if found.quantum is not None:
        value = round(value / found.quantum) * found.quantum
    elif found.whole:  # randint and lograndint exclude their upper bound
        value = math.floor(value)
    value = min(max(value, found.lower), found.last)
    return int(value) if found.whole else float(value)


def contains(domain: Domain, value: Any) -> bool:
    """Tell whether the domain can yield this value; True if sweeps cannot search the domain."""
    if isinstance(domain, Categorical):
        return value in domain.categories
    if (found := range_of(domain)) is None:
        return True
    if not is_number(value) or (found.whole and not isinstance(value, int)):
        return False
    if not found.lower <= value <= found.last:
        return False
    return found.quantum is None or found.log or on_grid(value, found.quantum)


def member(domain: Domain, value: Any) -> Any:
    """Return the value as the domain yields it, such as 3 for 3.0.

    Raises:
        ValueError: The domain cannot yield it.
    """
    if isinstance(domain, Categorical):
        for choice in domain.categories:
            if choice == value and isinstance(choice, bool) == isinstance(value, bool):
                return choice
    if isinstance(domain, Integer) and isinstance(value, float) and value.is_integer():
        value = int(value)
    if not contains(domain, value) or isinstance(domain, Categorical):
        raise ValueError(f"outside {describe(domain)}")
    return float(value) if isinstance(domain, Float) else value


def some_value(domain: Domain, *preferred: Any) -> Any:
    """Return the first preferred value that the domain contains, else its first one, None last."""
    for value in preferred:
        try:
            return member(domain, value)
        except ValueError:
            continue
    if isinstance(domain, Categorical):
        return next(iter(sorted(domain.categories, key=lambda value: value is None)), None)
    found = range_of(domain)
    return None if found is None else found.lower


def ends(domain: Domain) -> list[Any]:
    """Return all choices, or both ends of a range."""
    if isinstance(domain, Categorical):
        return list(domain.categories)
    found = range_of(domain)
    return [] if found is None else [found.lower, found.last]


def parse(text: str) -> Any:
    """Return the meaning of a command-line value: a domain, a Python literal, or the string itself.

    Nothing is evaluated: a call must be to one of Ray's domains, with literal arguments.

    Raises:
        ValueError: It looks like a domain but is not one.
    """
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        name, parenthesis, _ = text.removeprefix("tune.").partition("(")
        if parenthesis and name in NAMES:
            raise ValueError(f"{text}: cannot be read as a domain: {error.msg}") from None
        return text
    if text in ("true", "false"):  # as strings, both would count as true
        return text == "true"
    if not isinstance(tree, ast.Call):
        try:
            return ast.literal_eval(tree)
        except (ValueError, TypeError):
            return text
    name = ast.unparse(tree.func).removeprefix("tune.")
    if name not in NAMES:
        raise ValueError(f"{name} is not a domain; use one of {', '.join(NAMES)}")
    try:
        if problem := call_problem(tree):
            raise ValueError(problem)
        positional = [_literal(argument) for argument in tree.args]
        named = {str(k.arg): _literal(k.value) for k in tree.keywords}
        if name == "choice" and len(positional) > 1:
            positional = [positional]
        if name == "choice" and positional and not isinstance(positional[0], list | tuple):
            raise ValueError(f"choice needs a list; write choice([{positional[0]!r}])")
        return getattr(tune, name)(*positional, **named)
    except ValueError as error:
        raise ValueError(f"{text}: {error}") from None
    except TypeError:
        needs = ", ".join(inspect.signature(getattr(tune, name)).parameters)
        raise ValueError(f"{text}: the arguments are wrong; write {name}({needs})") from None


def bare_words(text: str) -> list[str]:
    """Return the entries of a list without quotes, such as `[q_proj, v_proj]`; else nothing."""
    if re.fullmatch(r"\[[^][]*\]", text) is None or parse(text) != text:
        return []
    return [word.strip(" '\"") for word in text[1:-1].split(",")]


def _literal(node: ast.expr) -> Any:
    """Return the value of a domain's argument.

    Raises:
        ValueError: It is not a literal; a shell may have removed its quotes.
    """
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        bare = next((ast.unparse(n) for n in ast.walk(node) if isinstance(n, ast.Name)), None)
        text = ast.unparse(node) if bare is None else bare
        raise ValueError(f"{text} must be a number or a quoted string") from None


def call_problem(call: ast.Call) -> str | None:
    """Return what is wrong with the literal bounds of a call such as `tune.loguniform(0, 1)`.

    None if they are right, or if the call is not a range with literal bounds. Ray rejects some of
    these itself, but one at a time and without suggesting a fix.
    """
    name = ast.unparse(call.func).rpartition(".")[2]
    if name not in NAMES or name == "choice":
        return None
    try:
        values = map(ast.literal_eval, call.args)
        given = dict(zip(("lower", "upper", "quantum"), values, strict=False))
        given |= {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
    except (ValueError, TypeError):
        return None
    given |= {"quantum": given.pop("q")} if "q" in given else {}
    wanted = {"lower", "upper", *(["quantum"] if name.startswith("q") else [])}
    return range_problem(Range(name, **given)) if set(given) == wanted else None

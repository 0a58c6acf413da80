"""Domains as text, from text, and what they hold; text is never run as code."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray import tune
from ray.tune.search.sample import Domain

from sweeps.space import domains

EXAMPLES = {
    "uniform(0.0, 0.1)": tune.uniform(0.0, 0.1),
    "quniform(0.0, 1.0, 0.25)": tune.quniform(0.0, 1.0, 0.25),
    "loguniform(1e-05, 0.0001)": tune.loguniform(1e-5, 1e-4),
    "qloguniform(0.0001, 0.1, 0.0001)": tune.qloguniform(1e-4, 1e-1, 1e-4),
    "randint(1, 9)": tune.randint(1, 9),
    "qrandint(8, 64, 8)": tune.qrandint(8, 64, 8),
    "lograndint(1, 1000)": tune.lograndint(1, 1000),
    "qlograndint(8, 64, 8)": tune.qlograndint(8, 64, 8),
    "choice(['linear', 0.5, None, True, [1, 2]])": tune.choice(["linear", 0.5, None, True, [1, 2]]),
}


@pytest.mark.parametrize("text", EXAMPLES)
def test_a_domain_is_shown_as_the_call_that_makes_it(text: str):
    assert domains.describe(EXAMPLES[text]) == text


@pytest.mark.parametrize("text", EXAMPLES)
def test_a_shown_domain_is_read_back_as_the_same_one(text: str):
    parsed = domains.parse(text)
    assert isinstance(parsed, Domain)
    assert type(parsed) is type(EXAMPLES[text])
    assert domains.describe(parsed) == text
    assert domains.problem_with(parsed) is None


def test_the_examples_have_every_domain_that_may_be_written():
    assert {text.partition("(")[0] for text in EXAMPLES} == set(domains.NAMES)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-1e-3", -0.001),
        ("True", True),
        ("None", None),
        ("'3'", "3"),
        ("[1, 'a']", [1, "a"]),
        ("{'num_cycles': 2}", {"num_cycles": 2}),
        ("cosine", "cosine"),
        ("", ""),
        ("org/name", "org/name"),
        ("/data/my reviews", "/data/my reviews"),
        ("a=b", "a=b"),
        ("1 + 1", "1 + 1"),
        ("x if y", "x if y"),
    ],
)
def test_a_value_is_a_python_literal_or_else_its_own_text(text: str, value: Any):
    parsed = domains.parse(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_a_domain_may_be_written_with_its_module_and_by_keyword():
    assert domains.describe(domains.parse("tune.uniform(0, upper=2)")) == "uniform(0, 2)"


NAMES = (
    "uniform, quniform, loguniform, qloguniform, randint, qrandint, lograndint, qlograndint, choice"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lognormal(0, 1)", f"lognormal is not a domain; use one of {NAMES}"),
        (
            "loguniform(1e-3 1e-4)",
            "loguniform(1e-3 1e-4): cannot be read as a domain: invalid syntax. Perhaps you forgot"
            " a comma?",
        ),
        (
            "tune.choice([1, 2]",
            "tune.choice([1, 2]: cannot be read as a domain: '(' was never closed",
        ),
        ("sample_from(f)", f"sample_from is not a domain; use one of {NAMES}"),
        ("tune.tune.choice([1])", f"tune.choice is not a domain; use one of {NAMES}"),
        ("choice(1)", "choice(1): choice needs a list; write choice([1])"),
        ("choice()", "choice(): the arguments are wrong; write choice(categories)"),
        ("choice(a, b)", "choice(a, b): a must be a number or a quoted string"),
        ("choice(['a', b])", "choice(['a', b]): b must be a number or a quoted string"),
        ("uniform(0, 2*3)", "uniform(0, 2*3): 2 * 3 must be a number or a quoted string"),
        (
            "uniform(1)",
            "uniform(1): the arguments are wrong; write uniform(lower, upper)",
        ),
    ],
)
def test_a_call_that_makes_no_domain_is_refused(text: str, message: str):
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        domains.parse(text)
    assert str(raised.value) == message


HOSTILE = (
    "__import__('os').system('touch {file}')",
    "open('{file}', 'w')",
    "choice([open('{file}', 'w')])",
    "choice(*[open('{file}', 'w')])",
    "uniform(**open('{file}', 'w'))",
    "uniform(0, upper=open('{file}', 'w'))",
    "(lambda: open('{file}', 'w'))()",
    "[open('{file}', 'w') for _ in (1,)]",
    "{{open('{file}', 'w'): 1}}",
    "f\"{{open('{file}', 'w')}}\"",
    "getattr(choice, '__globals__')",
    "choice.__globals__",
    "tune.choice([1]).__class__.__mro__",
    "(x := open('{file}', 'w'))",
    "open('{file}', 'w') or 1",
)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_code_on_the_command_line_stays_text_or_is_refused(hostile: str, tmp_path: Path):
    file = tmp_path / "was-run"
    text = hostile.format(file=file)
    with suppress(ValueError):
        assert domains.parse(text) == text
    assert not file.exists()


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.text(alphabet="abc01.,'\"=+-*/ ()", max_size=12))
def test_any_text_is_a_value_or_a_value_error(text: str):
    try:
        value = domains.parse(text)
    except ValueError:
        return
    assert value == text or not isinstance(value, str) or value in text


@pytest.mark.parametrize("text", ["{[1]: 2}", "{{1}}", "choice({[1]: 2})"])
def test_a_literal_that_python_cannot_build_is_text_or_a_value_error(text: str):
    with suppress(ValueError):
        assert domains.parse(text) == text


# What a domain holds.

CONTAINS = [
    (tune.uniform(0.0, 1.0), [0.0, 0.5, 1.0, 1], [-0.1, 1.1, "0.5", None, True]),
    (tune.loguniform(1e-5, 1e-3), [1e-5, 1e-4, 1e-3], [0.0, 1e-6, 0.1]),
    (tune.randint(1, 4), [1, 2, 3], [0, 4, 2.5, True]),
    (tune.qrandint(8, 64, 8), [8, 64], [0, 72]),
    (tune.quniform(0.0, 1.0, 0.25), [0.25, 1], [0.3, float("nan"), float("inf")]),
    (tune.choice(["a", 1, None]), ["a", 1, None], ["b", 2, ""]),
]


@pytest.mark.parametrize(
    ("domain", "inside", "outside"), CONTAINS, ids=[domains.describe(d) for d, _, _ in CONTAINS]
)
def test_a_domain_holds_what_it_can_give(domain: Domain, inside: list, outside: list):
    assert [value for value in inside if not domains.contains(domain, value)] == []
    assert [value for value in outside if domains.contains(domain, value)] == []


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.data())
def test_a_domain_without_a_quantum_holds_whatever_ray_draws_from_it(data: st.DataObject):
    low = data.draw(st.integers(1, 100))
    high = data.draw(st.integers(low + 1, 1000))
    name = data.draw(st.sampled_from(("uniform", "loguniform", "randint", "lograndint")))
    domain = getattr(tune, name)(low, high)
    assert domains.problem_with(domain) is None
    assert all(domains.contains(domain, domain.sample()) for _ in range(20))


def test_a_range_of_integers_needs_whole_numbers():
    assert domains.problem_with(tune.randint(0.5, 2.5)) is not None


@pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False), ("True", True)])
def test_a_truth_value_may_be_written_small(text: str, value: bool):
    assert domains.parse(text) is value

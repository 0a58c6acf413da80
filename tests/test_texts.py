"""Texts of other people's code, in a form that can be written anywhere."""

from __future__ import annotations

from sweeps.texts import encodable, shortened


def test_a_lone_surrogate_is_spelled_out_and_any_other_text_stays():
    assert encodable("bad \udc80") == "bad \\udc80"
    assert encodable("rés 日本 😀\n\x00") == "rés 日本 😀\n\x00"


def test_a_text_that_is_too_long_keeps_both_ends_and_says_what_is_left_out():
    assert shortened("x" * 100, 100, "the file") == "x" * 100
    text = "ab" * 600_000
    cut = shortened(text, 100, "the file")
    assert cut == f"{text[:75]} … (1,199,900 characters left out; see the file) … {text[-25:]}"

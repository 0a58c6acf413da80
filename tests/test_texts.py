"""Texts of other people's code, in a form that can be written anywhere."""

from __future__ import annotations

from sweeps.texts import encodable


def test_a_lone_surrogate_is_spelled_out_and_any_other_text_stays():
    assert encodable("bad \udc80") == "bad \\udc80"
    assert encodable("rés 日本 😀\n\x00") == "rés 日本 😀\n\x00"

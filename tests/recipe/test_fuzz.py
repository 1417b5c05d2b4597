"""Spoilt recipes: each is read or refused, soon and in words that can be shown."""

from tests.spoilt_recipes import fuzz_recipes


def test_some_hundred_spoilt_recipes_are_read_or_refused():
    counts = fuzz_recipes(200, seed=1)
    assert counts.shown == []
    assert (counts.injected, counts.crashes) == (200, 0)
    assert counts.accepted > 10
    assert counts.refused > 10

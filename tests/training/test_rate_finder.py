"""The learning-rate range test: what it reads from a curve of losses, and what it trains to get one."""

import dataclasses
import io
import json
import math
import random
import tempfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from finetune.errors import SettingError
from finetune.evaluation.record import read_history
from finetune.recipe import load_recipe
from finetune.training import rate_finder
from finetune.training.rate_curve import RateSearch, read_curve
from finetune.training.rate_finder import find_rate
from finetune.training.trainer import ScheduledTrainer

UPDATES = 100
RATES = np.geomspace(1e-7, 1.0, UPDATES)
DECADES = np.log10(RATES)


def logistic(centre, width):
    return 1 / (1 + np.exp(-(DECADES - centre) / width))


# From 0.7 down to 0.2, fastest at 1e-4; then up again around 1e-2.
LEARNING = 0.7 - 0.5 * logistic(-4, 0.3) + 0.6 * logistic(-2, 0.2)


def read(losses, *, rates=RATES, updates=UPDATES):
    losses = [float(loss) if math.isfinite(loss) else None for loss in losses]
    return read_curve(0, rates[: len(losses)].tolist(), losses, updates=updates)


def noise(deviation, seed):
    return np.random.default_rng(seed).normal(0, deviation, UPDATES)


def test_the_suggestion_is_where_the_loss_falls_fastest():
    curve = read(LEARNING)
    assert curve.suggestion == pytest.approx(1e-4, rel=0.2)  # updates are a factor of 1.18 apart
    assert curve.reason is None
    assert not curve.diverged


def test_a_tenth_of_the_least_is_found_too():
    lowest = RATES[np.argmin(LEARNING)]
    assert read(LEARNING).tenth_of_least == pytest.approx(lowest / 10, rel=0.2)


@pytest.mark.parametrize("seed", range(5))
def test_noise_of_single_batches_moves_the_suggestion_little(seed):
    suggestion = read(LEARNING + noise(0.05, seed)).suggestion
    assert 1 / 2 < suggestion / 1e-4 < 2  # of a range of 1e7


def test_losses_are_smoothed_by_weights_that_fall_on_either_side():
    losses = LEARNING + noise(0.05, 0)
    weights = np.exp(-20 / UPDATES) ** np.abs(np.subtract.outer(np.arange(UPDATES), np.arange(UPDATES)))
    assert read(losses).smoothed_losses == pytest.approx((weights @ losses / weights.sum(axis=1)).tolist())


@given(st.floats(1e-3, 1e3))
def test_the_suggestion_moves_with_the_rates(factor):
    losses = LEARNING + noise(0.02, 1)
    assert read(losses, rates=RATES * factor).suggestion == pytest.approx(factor * read(losses).suggestion)


@given(st.floats(1e-3, 1e3))
def test_the_suggestion_is_the_same_in_any_unit_of_loss(factor):
    losses = LEARNING + noise(0.02, 1)
    assert read(losses * factor).suggestion == pytest.approx(read(losses).suggestion)


@pytest.mark.parametrize("updates", [10, 11, 29, 30, 57, 1000])
def test_any_number_of_updates_can_be_read(updates):
    rates = np.geomspace(1e-7, 1.0, updates)
    losses = np.interp(np.log(rates), np.log(RATES), LEARNING)
    step = 10 ** (7 / (updates - 1))
    assert 1e-4 / (1.2 * step) < read(losses, rates=rates, updates=updates).suggestion < 1e-4 * 1.2 * step


NOTHING = [
    ("a flat loss", np.full(UPDATES, 0.7), "doesn't fall by more than its noise: raise most"),
    ("noise alone", 0.7 + noise(0.1, 0), "doesn't fall by more than its noise: raise most"),
    ("a fall of 4%", 0.7 - 0.028 * logistic(-4, 0.3), "doesn't fall by more than its noise"),
    ("a rise at once", 0.7 + 0.5 * logistic(-6, 0.3), "rises from the start of the range: lower least"),
    ("a rise after a while", 0.7 + 0.5 * logistic(-4, 0.3), "before it has fallen by much: give more updates"),
    ("an end before a fall", [0.7] * 60 + [math.nan], "before it has fallen by much: give more updates"),
    ("a fall before the range", 0.7 - 0.5 * logistic(-7, 0.5), "falls fastest at the start of the range: lower least"),
    ("a fall beyond the range", 0.7 - 0.6 * logistic(0.5, 0.5), "falls fastest at the end of the range: raise most"),
    ("an end at once", [0.7, 0.7, math.nan], "diverges within the first updates: lower least"),
    ("no loss at all", [math.nan], "diverges within the first updates: lower least"),
    (
        "a fall cut off",
        [*(0.7 - 0.6 * logistic(-2, 0.2))[:71], math.inf],
        "right before it diverges: give more updates",
    ),
]


@pytest.mark.parametrize(("losses", "reason"), [case[1:] for case in NOTHING], ids=[case[0] for case in NOTHING])
def test_where_there_is_nothing_to_suggest_the_reason_says_what_to_change(losses, reason):
    curve = read(losses)
    assert curve.suggestion is None
    assert reason in curve.reason


def test_a_loss_that_falls_to_the_end_has_no_least():
    curve = read(0.7 - 0.5 * logistic(-2, 1))
    assert curve.suggestion == pytest.approx(1e-2, rel=0.2)
    assert curve.tenth_of_least is None


def test_a_loss_beyond_four_times_the_least_ends_the_curve():
    losses = [1.0] * 60 + [100.0] * 40
    # With d = e^(−20/100), the mean over the past after k losses of 100 and 60 of 1 is about 1 + 99(1 − d^k).
    assert 1 + 99 * (1 - math.exp(-0.2)) > 4
    curve = read(losses)
    assert curve.diverged
    assert curve.losses == (*[1.0] * 60, 100.0)
    assert len(curve.rates) == len(curve.smoothed_losses) == 61


def test_a_loss_that_is_not_finite_ends_the_curve():
    curve = read([*LEARNING[:80], math.nan, 0.3])
    assert curve.diverged
    assert curve.losses == tuple(LEARNING[:80])
    assert curve.suggestion == pytest.approx(1e-4, rel=0.2)


def test_noise_around_a_loss_near_zero_is_no_divergence():
    losses = 0.7 - 0.699 * logistic(-4, 0.1)
    losses[90:] = 0.05
    curve = read(losses)
    assert not curve.diverged
    assert len(curve.losses) == UPDATES


def test_an_explosion_at_the_end_does_not_move_the_suggestion():
    assert read([*LEARNING[:80], 1e6]).suggestion == read(LEARNING[:80]).suggestion


def test_a_loss_that_falls_back_from_a_peak_beyond_the_least_does_not_count():
    peak = 0.9 * np.exp(-(((DECADES + 1.2) / 0.25) ** 2))  # it falls from there more steeply than at 1e-4
    curve = read(0.7 - 0.5 * logistic(-4, 0.3) + 0.05 * logistic(-2, 0.2) + peak)
    assert not curve.diverged
    assert curve.suggestion == pytest.approx(1e-4, rel=0.2)


def test_a_rate_that_waits_for_an_update_skipped_in_fp16_is_no_slope():
    rates = np.array([RATES[0]] * 4 + RATES[4:].tolist())
    assert read(LEARNING, rates=rates).suggestion == read(LEARNING).suggestion
    still = np.full(10, 1e-3)
    assert read(np.linspace(0.7, 0.2, 10), rates=still, updates=10).suggestion is None


def search_of(*suggestions):
    curves = tuple(
        dataclasses.replace(
            read(LEARNING), seed=seed, suggestion=rate, tenth_of_least=rate, reason=None if rate else "the reason"
        )
        for seed, rate in enumerate(suggestions)
    )
    return RateSearch(least=1e-7, most=1.0, updates=UPDATES, curves=curves)


def test_seeds_are_pooled_by_the_geometric_mean():
    search = search_of(1e-4, None, 1e-2)
    assert search.suggestion.value == pytest.approx(1e-3)
    assert (search.suggestion.least, search.suggestion.greatest) == (1e-4, 1e-2)
    assert search.suggestion.seeds == (0, 2)
    assert search.reason is None


def test_without_any_seeds_suggestion_the_reason_is_given_once():
    search = search_of(None, None)
    assert search.suggestion is None
    assert search.tenth_of_least is None
    assert search.reason == "the reason"


def test_a_search_can_be_written_as_json():
    for search in (search_of(1e-4, 1e-3), search_of(None)):
        written = json.loads(json.dumps(search.to_dict(), allow_nan=False))
        assert written["curves"][0]["losses"] == list(search.curves[0].losses)
        assert (written["suggestion"] is None) == (search.suggestion is None)
        assert "not its answer" in written["limits"]


@pytest.fixture
def find(small_recipe):
    """Searches with the small recipe and overrides; returns the search and what was shown."""

    def find(*overrides, least=1e-6, most=1.0, updates=40, seeds=1):
        recipe = load_recipe(small_recipe, [f"output={small_recipe.parent / 'runs'}", *overrides])
        out = io.StringIO()
        console = Console(file=out, width=120)
        return find_rate(recipe, least=least, most=most, updates=updates, seeds=seeds, console=console), out.getvalue()

    return find


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"least": 0.0}, "least: 0 must be a rate above 0"),
        ({"least": -1e-3}, "least: -0.001 must be a rate above 0"),
        ({"least": math.nan}, "least: nan must be a rate above 0"),
        ({"most": math.inf}, "most: inf must be a rate above 0, and finite"),
        ({"least": 1.0}, "least: 1 must be below most, 1"),
        ({"updates": 9}, "updates: 9 are too few"),
        ({"seeds": 0}, "seeds: 0 must be at least 1"),
    ],
)
def test_what_makes_no_search_is_refused_before_anything_is_read(find, monkeypatch, settings, message):
    monkeypatch.setattr(rate_finder, "Library", lambda: pytest.fail("data was read"))
    with pytest.raises(SettingError) as error:
        find(**settings)
    assert str(error.value).startswith(message)
    assert error.value.field == message.partition(":")[0]


def test_seeds_stay_below_the_greatest(find):
    with pytest.raises(SettingError, match="seeds: 2 from training"):
        find(f"training.seed={2**32 - 1}", seeds=2)


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002


@pytest.mark.slow
def test_a_search_climbs_learns_and_leaves_no_trace(find, small_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(ScheduledTrainer, "predict_split", lambda *args: pytest.fail("it evaluated"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    expected = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002

    search, out = find(seeds=2)

    assert draw() == expected
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert after.keys() == before.keys()
    first, second = search.curves
    assert (first.seed, second.seed) == (0, 1)
    for curve in search.curves:
        assert curve.rates == pytest.approx(np.geomspace(1e-6, 1.0, 40)[: len(curve.rates)].tolist(), rel=1e-12)
        assert len(curve.losses) == len(curve.rates)
    assert first.losses[:5] != second.losses[:5]
    # At 1e-6 the head gives even odds, ln 2; the tiny model learns at about 1e-2 (test_fine_tuning trains it there).
    assert first.smoothed_losses[0] == pytest.approx(math.log(2), abs=0.05)
    assert 1e-3 < search.suggestion.value < 1e-1
    assert f"suggestion  {search.suggestion.value:.1e}" in out
    assert out.count("\n  seed") == 2

    alone, _ = find("training.seed=1")
    assert alone.curves == (second,)


@pytest.mark.slow
def test_a_search_is_complete_where_nothing_diverges(find):
    search, out = find(least=1e-12, most=1e-11, updates=15)
    assert search.curves[0].rates == pytest.approx(np.geomspace(1e-12, 1e-11, 15).tolist(), rel=1e-12)
    assert "raise most" in search.reason
    assert f"none: {search.reason}" in out


@pytest.mark.slow
def test_a_search_starts_as_a_run_does(find, train):
    steady = ("schedule=constant", "schedule.warmup=0", "optimizer.learning_rate=1e-6", "training.duration=2")
    _, run = train(*steady, "training.seed=3")
    search, _ = find("training.seed=3", least=1e-6, updates=10)
    assert search.curves[0].losses[:2] == tuple(row["loss"] for row in read_history(run) if "rates" in row)


@pytest.mark.slow
def test_a_search_that_diverges_stops_early(find, monkeypatch):
    made = []
    original = ScheduledTrainer.training_step

    def count(self, *args, **kwargs):
        made.append(original(self, *args, **kwargs))
        return made[-1]

    monkeypatch.setattr(ScheduledTrainer, "training_step", count)
    search, out = find(most=1e6)
    (curve,) = search.curves
    assert curve.diverged
    assert all(math.isfinite(loss) for loss in made)  # so it is the limit that stopped it
    assert len(curve.losses) <= len(made) < 40
    assert "diverged at" in out


@pytest.mark.slow
def test_only_the_main_process_speaks(find, monkeypatch):
    original = rate_finder.layout_of
    monkeypatch.setattr(rate_finder, "layout_of", lambda recipe: dataclasses.replace(original(recipe), rank=1))
    monkeypatch.setattr(rate_finder, "_train", lambda *args, **kwargs: (RATES.tolist(), LEARNING.tolist()))
    assert find(updates=UPDATES)[1] == ""

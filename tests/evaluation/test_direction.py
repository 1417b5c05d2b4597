"""Metrics of which less is better, such as an error or a perplexity: ranked, timed, worded and written as such."""

import json
import re

import pytest

from finetune.errors import RecordError
from finetune.evaluation.across import across_contexts
from finetune.evaluation.analysis import analyse
from finetune.evaluation.claims import measure, measures_of, peak_points
from finetune.evaluation.direction import Direction
from finetune.evaluation.exports import write_markdown
from finetune.evaluation.record import RECORD, read_record, write_record

MORE, LESS = Direction(), Direction(greater_is_better=False)


def test_the_best_is_the_least_where_less_is_better():
    assert (MORE.best([0.2, 0.5, 0.3]), LESS.best([0.2, 0.5, 0.3])) == (0.5, 0.2)


@pytest.mark.parametrize(("direction", "reached"), [(MORE, [False, True, True]), (LESS, [True, True, False])])
def test_a_bar_is_reached_from_the_worse_side(direction, reached):
    assert [direction.reaches(score, 0.5) for score in (0.4, 0.5, 0.6)] == reached


@pytest.mark.parametrize(
    ("direction", "best", "bar"), [(MORE, 0.8, 0.76), (MORE, -0.8, -0.84), (LESS, 20.0, 21.0), (LESS, -20.0, -19.0)]
)
def test_what_is_near_the_best_is_worse_by_5_percent_of_its_size(direction, best, bar):
    assert direction.near(best, 0.95) == pytest.approx(bar)
    assert direction.reaches(best, direction.near(best, 0.95))


def test_the_direction_is_recorded_where_less_is_better_alone(tmp_path, make_record):
    write_record(tmp_path, make_record(metric="mse"))
    assert json.loads((tmp_path / RECORD).read_text())["results"]["greater_is_better"] is False
    assert read_record(tmp_path).results.greater_is_better is False
    write_record(tmp_path, make_record())
    assert "greater_is_better" not in json.loads((tmp_path / RECORD).read_text())["results"]
    assert read_record(tmp_path).results.greater_is_better is True


def test_runs_that_contradict_each_other_on_the_direction_are_refused(make_record, save, compared):
    one, other = save(make_record(metric="mse"), "one"), save(make_record("step", metric="mse"), "other")
    results = other.record.results.model_copy(update={"greater_is_better": True})
    altered = save(other.record.model_copy(update={"results": results}), "altered")
    with pytest.raises(RecordError) as caught:
        compared([one, altered])
    assert str(caught.value) == (
        f"{altered.path / RECORD}: says that more mse is better, and {one.path / RECORD} that less is; one of them was "
        "altered or has another metric of that name, so run it again"
    )


def test_rows_come_in_ascending_order_and_those_that_all_diverged_last(study, make_record, only):
    records = study({"cosine": [0.4], "step": [0.2], "linear": [0.3]}, metric="mse")
    comparison = only([make_record("wsd", metric="mse", diverged=True), *records])
    assert [row.label for row in comparison.rows] == ["step", "linear", "cosine", "wsd"]


def test_the_best_is_said_to_have_the_lowest(study, analysed):
    scores = {"cosine": [31.5 + seed / 100 for seed in range(8)], "step": [31.4 - seed / 100 for seed in range(8)]}
    assert analysed(study(scores, metric="perplexity")).conclusion == (
        "step has the lowest test perplexity, and is shown to differ from every other (8 seeds).",
    )


def test_of_too_few_seeds_the_lowest_mean_is_described(study, analysed):
    (sentence,) = analysed(study({"cosine": [31.4, 31.6], "step": [29.1, 29.3]}, metric="perplexity")).conclusion
    assert sentence.startswith(
        "step has the lowest mean test perplexity, 29.20, and cosine comes next with 31.50; 2 seeds can't tell that"
    )


def test_a_negative_difference_is_better_and_a_positive_one_worse(study, analysed):
    seeds = range(8)
    scores = {
        "cosine": [0.5 + seed / 1000 for seed in seeds],
        "step": [0.4 + seed / 900 for seed in seeds],
        "wsd": [0.6 + seed / 900 for seed in seeds],
    }
    analysis = analysed(study(scores, metric="mse"), reference="cosine")
    better, worse = analysis.conclusion
    assert re.fullmatch(r"shown to be better than cosine in test mse \(8 seeds\): step \(-0\.0996\)\.", better)
    assert re.fullmatch(r"shown to be worse than cosine in test mse \(8 seeds\): wsd \(\+0\.1004\)\.", worse)


def test_what_flatters_an_error_makes_it_too_low(make_record, only):
    untested = {"metric": "mse", "splits": ("validation",)}
    cautions = only([make_record(**untested), make_record(seed=1, diverged=True, **untested)]).cautions
    assert "There is no test split: scores are of the split that chose the model, and so too low." in cautions
    assert any("so too low for a schedule that can diverge" in caution for caution in cautions)


def curve(*scores):
    """An evaluation each 10 updates, a second each."""
    return [(10 * place, float(place), score) for place, score in enumerate(scores, start=1)]


@pytest.fixture
def measured(make_record, save, only):
    """A function that measures runs of a perplexity, given the curve of each schedule."""

    def measured(curves, best, target=None):
        runs = [
            save(make_record(schedule, best, metric="perplexity"), evaluations=curve(*scores))
            for schedule, scores in curves.items()
        ]
        return measure(only(runs), target=target)

    return measured


def test_a_target_is_reached_at_the_first_evaluation_that_is_no_greater(measured):
    found = measured({"cosine": [40.0, 25.0, 26.0, 20.0]}, best=20.0, target=25.0)["cosine"]
    assert (found["updates_to_target"].value.estimate, found["seconds_to_target"].value.estimate) == (20, 2.0)


def test_the_best_is_neared_at_105_percent_of_it(measured):
    # The best is 20, so that the bar is 21.
    found = measured({"cosine": [40.0, 21.5, 20.9, 20.0], "step": [40.0, 39.0, 38.0, 21.1]}, best=20.0)
    assert found["cosine"]["updates_to_95"].value.estimate == 30
    assert found["step"]["updates_to_95"].note == "never reached"


def test_the_best_mean_of_a_context_is_its_lowest(make_record, save, only):
    # The lowest mean is 20, of step: the bar is 21, which cosine reaches at its end.
    runs = [
        save(make_record("cosine", best=30.0, metric="perplexity"), evaluations=curve(31.0, 21.0)),
        save(make_record("step", best=20.0, metric="perplexity"), evaluations=curve(20.0, 20.0)),
    ]
    assert measure(only(runs), target=None)["cosine"]["updates_to_95"].value.estimate == 20


def test_a_run_without_a_finite_score_is_no_best_one(make_record, save, only):
    lost = make_record("step", metric="perplexity")
    evaluated = lost.results.best.model_copy(update={"validation": {"perplexity": None, "loss": None}})
    lost = lost.model_copy(update={"results": lost.results.model_copy(update={"best": evaluated})})
    runs = [save(make_record("cosine", 20.0, metric="perplexity"), evaluations=curve(30.0, 20.0)), save(lost)]
    comparison = only(runs)
    assert measure(comparison, target=None)["cosine"]["updates_to_95"].value.estimate == 20
    (step,) = (row for row in comparison.rows if row.label == "step")
    assert [point.score for point in peak_points(step, comparison)] == [None]


def test_what_columns_mean_follows_the_direction(make_record, only):
    columns = measures_of(only([make_record(metric="perplexity")]))
    assert {key: columns[key].better for key in ("score", "area", "updates_to_95", "spread_over_peaks")} == {
        "score": "less",
        "area": "less",
        "updates_to_95": "less",
        "spread_over_peaks": "less",
    }
    assert columns["updates_to_95"].title == "updates to 105%"
    assert "at most the declared target" in columns["updates_to_target"].meaning
    columns = measures_of(only([make_record()]))
    assert (columns["score"].better, columns["area"].better) == ("more", "more")
    assert columns["updates_to_95"].title == "updates to 95%"


def test_a_spread_over_peaks_is_never_negative(final, tried, only):
    runs = tried({(1e-4, 0): 0.2, (3e-4, 0): 0.3, (1e-3, 0): 0.9}, metric="mse")
    (measures,) = measure(only([final(metric="mse"), *runs]), target=None).values()
    assert measures["spread_over_peaks"].value.estimate == pytest.approx(0.7)


def test_over_contexts_the_lowest_mean_ranks_first(make_record, compared, monkeypatch, printed):
    monkeypatch.setattr("finetune.evaluation.across.DRAWS", 50)
    scores = {("cosine", "adamw"): 0.4, ("step", "adamw"): 0.3, ("cosine", "sgd"): 0.6, ("step", "sgd"): 0.5}
    records = [
        make_record(schedule, score, metric="mse", changes={"optimizer": {"name": name, "learning_rate": 1e-4}})
        for (schedule, name), score in scores.items()
    ]
    found = across_contexts(compared(records))
    assert [(each.schedule, each.mean_rank.estimate) for each in found] == [("step", 1.0), ("cosine", 2.0)]
    assert found[0].spreads["optimizers"].value.estimate == pytest.approx(0.2)
    assert "spread: worst less best score, seed by seed" in printed(records)


@pytest.mark.parametrize(
    ("metric", "scores", "cells"),
    [
        ("perplexity", [31.4, 31.6], "31.50 [31.40–31.60]"),
        ("mse", [0.0003, 0.00032], "0.0003100 [0.0003000–0.0003200]"),
        ("mse", [0.3, 0.32], "0.3100 [0.3000–0.3200]"),
        ("mse", [2.3e-8, 2.5e-8], "2.400e-08 [2.300e-08–2.500e-08]"),
        ("perplexity", [52310.0, 52312.0], "52311 [52310–52312]"),
        ("accuracy", [0.0, 0.0], "0.0000 [0.0000–0.0000]"),
        ("accuracy", [1.0, 0.9], "0.9500 [0.9000–1.0000]"),
    ],
)
def test_scores_are_written_with_the_digits_that_they_take(study, printed, metric, scores, cells):
    assert cells in printed(study({"cosine": scores, "step": scores}, metric=metric))


def test_differences_are_written_with_the_digits_of_the_scores(study, printed):
    text = printed(study({"cosine": [0.0003, 0.00032], "step": [0.0004, 0.00044]}, metric="mse"))
    assert "-0.0001100 [-0.0002371, +0.0000171]" in text
    assert "less is better, so a difference below 0 speaks for the first." in text


@pytest.mark.parametrize("metric", ["mse", "perplexity"])
def test_no_other_metric_is_named(study, save, printed, tmp_path, metric):
    scores = {"cosine": [0.3 + seed / 100 for seed in range(6)], "step": [0.4 + seed / 90 for seed in range(6)]}
    runs = [save(record, evaluations=curve(0.9, 0.5)) for record in study(scores, metric=metric)]
    write_markdown(analyse(runs), tmp_path / "runs.md")
    for text in (printed(runs), (tmp_path / "runs.md").read_text()):
        assert f"test {metric}" in text
        assert "accuracy" not in text

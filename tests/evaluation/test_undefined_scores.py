"""Runs that ended with a model, but without a finite score: a perplexity that overflowed, a correlation of constants."""

import json
import math

import pytest

from finetune.evaluation.record import RECORD, Score, finite, read_record, write_record


@pytest.fixture
def unscored(make_record):
    """A function that makes the record of a run whose test score isn't finite."""

    def unscored(schedule="cosine", **changes):
        record = make_record(schedule, metric="perplexity", **changes)
        lost = record.results.splits["test"].model_copy(
            update={"metrics": {"perplexity": Score(value=None, standard_error=None)}}
        )
        results = record.results.model_copy(update={"splits": record.results.splits | {"test": lost}})
        return record.model_copy(update={"results": results})

    return unscored


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e101])
def test_what_is_not_finite_is_recorded_as_null(tmp_path, make_record, value):
    assert (finite(value), finite(0.5)) == (None, 0.5)
    record = make_record()
    record.results.splits["test"].metrics["roc_auc"] = Score(value=finite(value), standard_error=finite(value))
    write_record(tmp_path, record)
    plain = json.loads((tmp_path / RECORD).read_text())
    assert plain["results"]["splits"]["test"]["metrics"]["roc_auc"] == {"value": None, "standard_error": None}
    assert read_record(tmp_path) == record
    assert read_record(tmp_path).has_scores


def test_a_run_without_a_finite_score_counts_as_diverged(unscored, make_record, only, printed):
    records = [
        make_record("cosine", 20.0, metric="perplexity"),
        unscored(seed=1),
        make_record("step", 30.0, metric="perplexity"),
    ]
    comparison = only(records)
    cosine = comparison.rows[0]
    assert (cosine.label, cosine.diverged, cosine.scores("test")) == ("cosine", 1, (20.0,))
    assert "cosine: 1 of its 2 runs have no finite score, and count as diverged." in comparison.cautions
    assert "2, 1 diverged" in printed(records)


def test_a_run_without_a_finite_score_is_no_pair(unscored, make_record, analysed):
    scored = [
        make_record(schedule, 20.0, seed=seed, metric="perplexity")
        for schedule in ("cosine", "step")
        for seed in (0, 1)
    ]
    analysis = analysed([*scored, unscored("cosine", seed=2), make_record("step", 20.0, seed=2, metric="perplexity")])
    assert [contrast.seeds for contrast in analysis.contrasts] == [(0, 1)]


def test_a_row_without_any_score_stands_last(unscored, make_record, printed, only):
    records = [unscored("cosine"), make_record("step", 30.0, metric="perplexity")]
    assert [row.label for row in only(records).rows] == ["step", "cosine"]
    assert "1, 1 diverged" in printed(records)


def test_predictions_of_a_run_without_a_score_say_nothing(unscored, save):
    assert save(unscored(), right=[True] * 10).example_scores("test") is None


def test_a_standard_error_that_is_not_known_is_left_out(make_record, printed):
    record = make_record(metric="perplexity", accuracy=31.4)
    record.results.splits["test"].metrics["perplexity"] = Score(value=31.4, standard_error=None)
    assert " 31.40  " in printed([record])

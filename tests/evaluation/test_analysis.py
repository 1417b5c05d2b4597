"""What is concluded in words, and what is not: clear cases, unclear ones, and those that can't be judged."""

import math

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from finetune.errors import RecordError, SettingError
from finetune.evaluation.analysis import Question, analyse

WOBBLE = np.array([0.03, -0.03] * 4)
# Over eight seeds: flat; above it by 0.02 and below it by as much; as good as it, within 0.0005; and all over the place.
FLAT = [0.85] * 8
ABOVE, BELOW = [0.87] * 8, [0.83] * 8
ALIKE = [0.8505, 0.8495] * 4
WILD = (0.85 + WOBBLE).round(4).tolist()


@pytest.fixture
def concluded(analysed):
    """A function that returns the conclusion on records of one data set, with the question as keywords."""
    return lambda records, **question: list(analysed(records, **question).conclusion)


def seeds_for(effect, *, tests):
    """The seeds that a paired t test needs to find `effect` among WOBBLE at 5%, shared by `tests`, with power 0.8."""
    size = effect / WOBBLE.std(ddof=1)
    return math.ceil(TTestPower().solve_power(effect_size=size, alpha=0.05 / tests, power=0.8))


def test_a_clear_winner_is_named(study, concluded):
    assert concluded(study({"step": BELOW, "cosine": ABOVE, "linear": FLAT})) == [
        "cosine has the highest test accuracy, and is shown to differ from every other (8 seeds)."
    ]


def test_leaders_that_can_not_be_told_apart_are_named_together(study, concluded):
    group, *rest = concluded(study({"cosine": ABOVE, "step": ABOVE, "linear": BELOW}))
    assert group == "none is shown to be best in test accuracy: cosine and step lead, indistinguishable (8 seeds)."
    assert rest == [
        "undecided, with the number of seeds that would find the difference seen with power 0.8: "
        "cosine − step (none seen)."
    ]


def test_groups_overlap_where_only_the_ends_are_told_apart(study, analysed):
    # WILD reaches beyond both of the others, which differ in every seed.
    (finding,) = analysed(study({"cosine": ABOVE, "step": WILD, "linear": BELOW})).findings
    assert finding.names == ("cosine", "step", "linear")
    assert finding.groups == (("cosine", "step"), ("step", "linear"))


@pytest.mark.parametrize("equivalence", [None, 0.01])
def test_two_schedules_that_did_the_same_are_indistinguishable(study, analysed, equivalence):
    analysis = analysed(study({"constant": WILD, "step": WILD}), equivalence=equivalence)
    (contrast,) = analysis.contrasts
    assert (contrast.p_value, contrast.is_shown) == (1.0, False)
    assert analysis.findings[0].groups == (("constant", "step"),)
    first, second = analysis.conclusion
    assert first == "none is shown to be better in test accuracy: constant and step are indistinguishable (8 seeds)."
    assert second == (
        "shown to be equivalent, within ±0.01: constant and step."
        if equivalence
        else "undecided, with the number of seeds that would find the difference seen with power 0.8: "
        "constant − step (none seen)."
    )


@pytest.mark.parametrize("equivalence", [None, 0.01])
def test_two_schedules_that_differ_by_luck_alone_are_indistinguishable(study, analysed, equivalence):
    # Each is ahead in half of the seeds, by as much.
    analysis = analysed(study({"constant": FLAT, "step": WILD}), equivalence=equivalence)
    (contrast,) = analysis.contrasts
    assert (contrast.p_value, contrast.verdict) == (1.0, "undecided")
    assert contrast.interval.holds(0)
    assert "constant and step are indistinguishable" in analysis.conclusion[0]


def test_the_predictions_of_like_schedules_give_an_interval_that_holds_zero(make_record, save, analysed, printed):
    # Each run has 850 of 1,000 examples right, and which they are is drawn anew.
    draw = np.random.default_rng(0)
    right = np.arange(1000) < 850
    runs = [
        save(make_record(schedule, seed=seed), right=draw.permutation(right).tolist())
        for schedule in ("constant", "step")
        for seed in range(6)
    ]
    analysis = analysed(runs)
    (contrast,) = analysis.contrasts
    assert contrast.differences == (0,) * 6
    # Of one example and seed the difference has the variance 2 · 0.85 · 0.15, and there are 6,000.
    half = 1.96 * math.sqrt(2 * 0.85 * 0.15 / 6000)
    assert contrast.bootstrap.low < 0 < contrast.bootstrap.high
    assert half < (contrast.bootstrap.high - contrast.bootstrap.low) / 2 < 2 * half
    assert "constant and step are indistinguishable" in analysis.conclusion[0]
    assert "over examples too" in printed(runs)


def test_a_reference_parts_better_worse_equivalent_and_undecided(study, concluded):
    scores = {"cosine": FLAT, "step": ABOVE, "linear": BELOW, "polynomial": ALIKE, "constant": WILD}
    assert concluded(study(scores), reference="cosine", equivalence=0.01) == [
        "shown to be better than cosine in test accuracy (8 seeds): step (+0.0200).",
        "shown to be worse than cosine in test accuracy (8 seeds): linear (-0.0200).",
        "shown to be equivalent, within ±0.01: polynomial to cosine.",
        "undecided, with the number of seeds that would find a difference of 0.01 with power 0.8: "
        f"constant − cosine ({seeds_for(0.01, tests=4)}).",
    ]


def test_a_difference_that_is_shown_and_too_small_to_matter_is_said_to_be(study, concluded):
    better = [score + 0.001 for score in FLAT]
    (sentence,) = concluded(study({"cosine": FLAT, "step": better}), reference="cosine", equivalence=0.01)
    assert sentence == ("shown to be better than cosine in test accuracy (8 seeds): step (+0.0010, less than matters).")


def test_nothing_is_shown_against_a_reference_by_luck_alone(study, concluded):
    first, second = concluded(study({"cosine": FLAT, "step": [score + 0.01 for score in WILD]}), reference="cosine")
    assert first == "none is shown to differ from cosine in test accuracy (8 seeds)."
    assert second == (
        "undecided, with the number of seeds that would find a difference of 0.01 with power 0.8: "
        f"step − cosine ({seeds_for(0.01, tests=1)})."
    )


def test_a_reference_of_several_settings_is_set_against_each(make_record, concluded):
    records = [
        make_record(name, score, seed=seed, settings=settings)
        for name, score, settings in (
            ("cosine", 0.85, {}),
            ("step", 0.87, {"gamma": 0.5}),
            ("step", 0.83, {"gamma": 0.1}),
        )
        for seed in range(8)
    ]
    assert concluded(records, reference="step") == [
        "shown to be worse than step, gamma 0.5 in test accuracy (8 seeds): cosine (-0.0200).",
        "shown to be better than step, gamma 0.1 in test accuracy (8 seeds): cosine (+0.0200).",
    ]


def test_with_fewer_than_five_seeds_only_what_can_not_be_said_is_said(study, concluded):
    assert concluded(study({"cosine": [0.80, 0.82, 0.84], "step": [0.79, 0.80, 0.85]})) == [
        "cosine has the highest mean test accuracy, 0.8200, and step comes next with 0.8133; 3 seeds can't tell that "
        "from luck: a test at 5% of 1 difference takes 6 seeds."
    ]


def test_equal_means_are_not_ranked(study, concluded):
    assert concluded(study({"cosine": [0.80, 0.82], "step": [0.82, 0.80]})) == [
        "cosine and step have the highest mean test accuracy, 0.8100 each; 2 seeds can't tell that from luck: a test "
        "at 5% of 1 difference takes 6 seeds."
    ]


@pytest.mark.parametrize(("seeds", "schedules", "needed"), [(5, 2, 6), (6, 3, 7), (7, 4, 8)])
def test_seeds_that_can_not_reach_five_percent_are_said_to_be_too_few(study, concluded, seeds, schedules, needed):
    # 2/2ⁿ times the number of pairs, 1, 3 or 6, is at most 0.05 from 6, 7 or 8 seeds on.
    names = ["cosine", "step", "linear", "constant"][:schedules]
    pairs = schedules * (schedules - 1) // 2
    found = concluded(study({name: [0.9 - place / 10] * seeds for place, name in enumerate(names)}))
    assert f"{' and '.join([', '.join(names[:-1]), names[-1]])} are indistinguishable ({seeds} seeds)" in found[0]
    assert found[-1] == (
        f"{seeds} seeds are too few for the exact test to reach 5% in {pairs} difference{'s' * (pairs > 1)} at once, "
        f"however large: that takes {needed}."
    )


def test_each_context_is_concluded_by_itself(study, concluded):
    sgd = {"optimizer": {"name": "sgd", "learning_rate": 1e-4}}
    records = [*study({"cosine": ABOVE, "step": BELOW}), *study({"cosine": FLAT, "step": ABOVE}, changes=sgd)]
    assert concluded(records) == [
        "adamw: cosine has the highest test accuracy, and is shown to differ from every other (8 seeds).",
        "sgd: step has the highest test accuracy, and is shown to differ from every other (8 seeds).",
    ]


DECLARED = {"reference": "cosine", "equivalence": 0.01, "target": 0.8}


def test_what_a_study_declared_is_asked(study, analysed):
    records = study({"cosine": FLAT, "step": ABOVE}, study=DECLARED)
    assert analysed(records).question == Question(**DECLARED)


@pytest.mark.parametrize("given", [{"reference": "step"}, {"equivalence": 0.5}, {"target": 0.9}])
def test_what_is_given_goes_before_what_a_study_declared(study, analysed, given):
    records = study({"cosine": FLAT, "step": ABOVE}, study=DECLARED)
    assert analysed(records, **given).question == Question(**{**DECLARED, **given})


def test_what_studies_declared_differently_is_left_open(study, analysed):
    one = study({"cosine": FLAT}, study=DECLARED)
    other = study({"step": ABOVE}, study=DECLARED | {"equivalence": 0.02})
    assert analysed([*one, *other]).question == Question(reference="cosine", target=0.8)


def test_a_declared_reference_that_is_not_among_the_runs_leaves_each_against_each(study, concluded):
    (sentence,) = concluded(study({"step": ABOVE, "linear": BELOW}, study={"reference": "cosine"}))
    assert sentence.startswith("step has the highest test accuracy")


def test_a_reference_that_is_no_schedule_is_refused_with_the_nearest(study, analysed):
    with pytest.raises(SettingError) as caught:
        analysed(study({"cosine": FLAT, "step": ABOVE}), reference="cosin")
    assert str(caught.value) == ("reference: cosin is none of the schedules, cosine, step (did you mean cosine?)")


@pytest.mark.parametrize("name", ["equivalence", "target"])
@pytest.mark.parametrize("value", [0.0, -0.01, math.inf, math.nan])
def test_what_is_no_positive_number_is_refused(name, value):
    with pytest.raises(SettingError, match=f"{name}: .* must be above 0, in units of the metric"):
        Question(**{name: value})


def test_tuning_runs_are_never_compared(study, analysed):
    tuning = study({"cosine": [0.99] * 8}, study={"role": "tuning"}, splits=("validation",))
    analysis = analysed([*study({"cosine": BELOW, "step": ABOVE}, study={}), *tuning])
    assert [(row.name, len(row.runs)) for row in analysis.comparison.rows] == [("step", 8), ("cosine", 8)]
    assert len(analysis.comparison.tuning) == 8
    assert "step has the highest test accuracy" in analysis.conclusion[0]


def test_tuning_runs_alone_are_refused(study, analysed):
    with pytest.raises(RecordError, match=r"only chose the peak rates of a study: run it to its end, then compare"):
        analysed(study({"cosine": FLAT}, study={"role": "tuning"}))


AT_EDGE = "Of the peak rates tried, the one at the edge was best; a better may lie beyond: cosine."
BY_LUCK = "Peak rates were chosen by one run each, so that the choice may be luck: give tuning several seeds."


@pytest.mark.parametrize(
    ("peaks", "seeds", "cautions"),
    [
        ((1e-5, 1e-4, 1e-3), (0, 1), set()),
        ((1e-5, 1e-4, 1e-3), (0,), {BY_LUCK}),
        ((1e-4, 1e-3), (0, 1), {AT_EDGE}),
        ((1e-5, 1e-4), (0,), {AT_EDGE, BY_LUCK}),
        ((1e-4,), (0,), set()),
    ],
)
def test_how_far_a_choice_of_peak_rates_can_be_trusted_is_said(final, tried, analysed, peaks, seeds, cautions):
    analysis = analysed([final(), *tried({(peak, seed): 0.7 for peak in peaks for seed in seeds})])
    assert {AT_EDGE, BY_LUCK} & set(analysis.cautions) == cautions


@pytest.mark.parametrize(("peaks", "is_said"), [((1e-5, 1e-4, 3e-4), False), ((1e-4, 3e-4, 1e-3), True)])
def test_of_a_halving_the_edge_is_that_of_all_that_was_tried(final, tried, analysed, peaks, is_said):
    rung = {"number": 2, "of": 2, "peaks": list(peaks)}
    analysis = analysed([final(), *tried({(1e-4, 0): 0.8, (3e-4, 0): 0.7}, rung=rung)])
    assert (AT_EDGE in analysis.cautions) == is_said


def with_other_test_split(record):
    identity = record.identity
    other = identity.data["test"].model_copy(update={"fingerprint": "another"})
    data = identity.data | {"test": other}
    return record.model_copy(update={"identity": identity.model_copy(update={"data": data})})


def test_runs_with_another_test_split_stand_apart_and_it_is_said(study, compared):
    records = [*study({"cosine": ABOVE}), *map(with_other_test_split, study({"step": BELOW[:2]}))]
    one, other = compared(records)
    assert [[row.name for row in each.rows] for each in (one, other)] == [["cosine"], ["step"]]
    said = "of the same training data have another test split, or none, and stand apart"
    assert one.cautions[0].startswith(f"2 other runs {said}")
    assert other.cautions[0].startswith(f"8 other runs {said}")


def test_runs_that_differ_in_a_key_that_was_not_studied_are_never_set_against_each_other(make_record, analysed):
    records = [
        make_record(schedule, 0.85, seed=seed, changes={"training": {"seed": seed, "batch_size": size}}, study={})
        for size in (16, 32)
        for schedule in ("cosine", "step")
        for seed in range(8)
    ]
    analysis = analysed(records)
    assert set(analysis.comparison.contexts) == {"training.batch_size 16", "training.batch_size 32"}
    assert len(analysis.contrasts) == 2
    for contrast in analysis.contrasts:
        assert {name.split(", ")[1] for name in (contrast.first, contrast.second)} == {contrast.context}


def test_runs_that_diverged_are_counted_in_words(make_record, study, analysed):
    scores = {"cosine": ABOVE, "step": BELOW[:7]}
    analysis = analysed([*study(scores), make_record("step", seed=7, diverged=True)])
    assert analysis.conclusion == (
        "cosine has the highest test accuracy, and is shown to differ from every other (7 seeds).",
    )
    assert "step: 1 of its 8 runs diverged; its scores are of the others only" in " ".join(analysis.comparison.cautions)


@pytest.mark.parametrize(
    ("change", "what"),
    [({"weights": "other"}, "the initial weights at equal seeds"), ({"batches": "other"}, "the order of the data")],
)
def test_runs_that_began_differently_are_not_paired_and_it_is_said(study, analysed, change, what):
    analysis = analysed([*study({"cosine": ABOVE}), *study({"step": BELOW}, **change)])
    assert analysis.contrasts == ()
    assert any(caution.startswith(f"The rows don't share {what}") for caution in analysis.comparison.cautions)


def test_of_one_schedule_nothing_is_concluded(study, analysed):
    assert analysed(study({"cosine": FLAT})).findings == ()


def test_two_data_sets_are_two_analyses(study, save):
    runs = [save(record) for data in ("f", "g") for record in study({"cosine": ABOVE, "step": BELOW}, fingerprint=data)]
    analyses = analyse(runs)
    assert [len(analysis.contrasts) for analysis in analyses.each] == [1, 1]
    assert [each.schedule for each in analyses.across] == ["cosine", "step"]

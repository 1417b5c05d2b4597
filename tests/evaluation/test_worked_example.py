"""The worked example of docs/comparing.md: what the page works out by hand is what is computed."""

from pathlib import Path

import pytest

from finetune.evaluation.statistics import equivalence_p_value, mean_interval, sign_flip_p_value

PAGE = (Path(__file__).parents[2] / "docs" / "comparing.md").read_text(encoding="utf-8")
EXAMPLE = PAGE.split("## A worked example\n", 1)[1].split("\n## ", 1)[0].replace("−", "-")


def table(heading):
    """Returns the rows of the example's table with that first column, as texts without its heading."""
    lines = EXAMPLE[EXAMPLE.index(f"| {heading} |") :].split("\n\n", 1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


SCORES = {
    name: [float(row[column]) for row in table("seed")] for column, name in enumerate(("cosine", "linear", "step"), 1)
}
DIFFERENCES = {name: [float(row[column]) for row in table("seed")] for column, name in enumerate(("linear", "step"), 4)}


def test_the_differences_are_those_of_the_scores():
    for name, differences in DIFFERENCES.items():
        assert differences == pytest.approx(
            [score - cosine for score, cosine in zip(SCORES[name], SCORES["cosine"], strict=True)]
        )


def test_what_is_concluded_is_what_compare_concludes(study, analysed):
    analysis = analysed(study(SCORES), reference="cosine", equivalence=0.01)
    computed = {}
    for each in analysis.contrasts:
        interval, needed = each.interval, each.seeds_needed
        computed[each.first] = [
            f"{interval.estimate:.4f} [{interval.low:.4f}, {interval.high:.4f}]",
            *(f"{value:.4f}" for value in (each.p_value, each.adjusted, each.equivalence)),
            each.verdict,
            "" if needed is None else str(needed),
        ]
    assert {name: rest for name, *rest in table("against cosine")} == computed


def test_what_is_worked_out_on_the_way_is_what_is_computed():
    for name, (error, within) in {"linear": ("1.155", "0.0719"), "step": ("1.983", "0.0031")}.items():
        interval = mean_interval(DIFFERENCES[name])
        assert f"{1000 * (interval.high - interval.estimate) / 2.5706:.3f}" == error
        assert f"{equivalence_p_value(DIFFERENCES[name], margin=0.01):.4f}" == within
        assert error in EXAMPLE
        assert within in EXAMPLE


def test_a_seventh_seed_decides(study, analysed):
    seventh = {"cosine": 0.845, "linear": 0.853, "step": 0.845}
    scores = {name: [*row, seventh[name]] for name, row in SCORES.items()}
    analysis = analysed(study(scores), reference="cosine", equivalence=0.01)
    linear = next(each for each in analysis.contrasts if each.first == "linear")
    assert (f"{linear.p_value:.4f}", f"{linear.adjusted:.4f}") == ("0.0156", "0.0312")
    assert (f"{linear.equivalence:.4f}", linear.verdict) == ("0.0432", "different, by less than matters")
    assert "adjusted 0.0312, and that of a difference beyond ±0.01 is 0.0432" in EXAMPLE.replace("\n", " ")
    assert sign_flip_p_value([*DIFFERENCES["linear"], 0.008]) == 2 / 128

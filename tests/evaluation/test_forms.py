"""With how many digits the values of a metric are written."""

import pytest

from finetune.evaluation.forms import form_of, written


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.8512, "0.8512"),
        (1.0, "1.0000"),
        (0.0, "0.0000"),
        (0.01, "0.0100"),
        (-0.25, "-0.2500"),
        (0.005, "0.005000"),
        (0.0003, "0.0003000"),
        (1.25, "1.250"),
        (31.4, "31.40"),
        (52310.0, "52310"),
        (3.2e-9, "3.200e-09"),
        (4.5e30, "4.500e+30"),
    ],
)
def test_a_value_has_four_decimals_or_four_significant_digits(value, text):
    assert written(value) == text


def test_a_form_serves_differences_of_the_values_too():
    assert f"{0.03:+{form_of(31.4)}}" == "+0.03"
    assert f"{-1e-5:+{form_of(0.0003)}}" == "-0.0000100"

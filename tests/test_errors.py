"""The error hierarchy: what the messages say and who can catch them."""

import pickle

import pytest

from finetune import errors
from finetune.errors import FinetuneError, SettingError, did_you_mean, listed


@pytest.mark.parametrize(
    "name", ["SettingError", "RecipeError", "DataError", "ModelError", "HubError", "RecordError", "DeviceError"]
)
def test_every_error_of_a_user_is_a_finetune_error(name):
    assert issubclass(getattr(errors, name), FinetuneError)


def test_a_setting_error_names_its_field_before_the_problem():
    error = SettingError("warmup", "must be less than the run")
    assert (str(error), error.field, error.problem) == (
        "warmup: must be less than the run",
        "warmup",
        "must be less than the run",
    )


def test_a_setting_error_is_a_value_error():
    # pydantic turns ValueErrors, and no others, into problems with a place.
    assert issubclass(SettingError, ValueError)


def test_a_setting_error_survives_the_way_between_processes():
    copy = pickle.loads(pickle.dumps(SettingError("warmup", "must be less than the run")))
    assert (str(copy), copy.field) == ("warmup: must be less than the run", "warmup")


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("cosin", " (did you mean cosine?)"),
        ("COSINE", " (did you mean cosine?)"),
        ("adamw", " (did you mean AdamW?)"),
        ("zzz", ""),
    ],
)
def test_did_you_mean_gives_the_nearest_choice_as_it_is_written(word, answer):
    assert did_you_mean(word, ["linear", "cosine", "AdamW"]) == answer


def test_did_you_mean_shows_what_would_not_be_seen():
    assert did_you_mean("label", ["text", " label"]) == " (did you mean ' label'?)"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["text", "a b", "größe", "👍"], "text, a b, größe, 👍"),
        (["", " label", "a\tb", "\ufefftext"], r"'', ' label', 'a\tb', '\ufefftext'"),
        (["n" * 40, "n" * 41], f"{'n' * 40}, {'n' * 40}…"),
    ],
)
def test_names_are_listed_so_that_each_can_be_seen(names, expected):
    assert listed(names) == expected


def test_of_many_names_the_first_are_listed():
    assert (listed("abc", most=3), listed("abcde", most=3)) == ("a, b, c", "a, b, c and 2 more")


def test_did_you_mean_needs_choices():
    assert did_you_mean("cosine", []) == ""

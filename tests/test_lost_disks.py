"""Runs whose disk fills, is unmounted or loses what it hadn't written: one message, and the same command goes on."""

import pytest

from tests.disks import EVERY, disturb_disks, fill_disk, lose_mount, lose_power, why_not
from tests.faults import ALONE, Faults, finish
from tests.inject import prepare

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """The path of a recipe of the tiny model, whose runs all tests of this file disturb."""
    return prepare(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def undisturbed(recipe, tmp_path_factory):
    """The directory of the run that nothing disturbs."""
    return finish(ALONE, recipe, tmp_path_factory.mktemp("whole"), every=EVERY)[0]


# By these seeds the disk is filled, unmounted or gone in the middle of the run.
@pytest.mark.parametrize(("disturb", "seed"), [(fill_disk, 0), (lose_mount, 3), (lose_power, 5)])
def test_a_run_whose_disk_is_disturbed_says_so_and_goes_on_bit_for_bit(disturb, seed, recipe, undisturbed, tmp_path):
    if (reason := why_not(disturb)) is not None:
        pytest.skip(f"nothing can be mounted here: {reason}")
    faults = disturb_disks(disturb, ALONE, recipe, tmp_path, undisturbed=undisturbed, count=1, seed=seed)
    assert faults == Faults(injected=1, survived=1, lost=0, altered=0)

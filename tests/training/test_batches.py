"""Batches: every example once an epoch, lengths together, and the same updates on any number of processes."""

import numpy as np
import pytest
from accelerate import skip_first_batches
from hypothesis import given
from hypothesis import strategies as st

from finetune.training.batches import BLOCK_BATCHES, LengthGroupedBatches, TrainingLoader, part_of


def make(lengths, **settings):
    return LengthGroupedBatches(np.asarray(lengths), **({"batch_size": 4, "seed": 0} | settings))


sizes = st.integers(min_value=1, max_value=300)
batch_sizes = st.integers(min_value=1, max_value=20)


@given(count=sizes, batch_size=batch_sizes, epoch=st.integers(min_value=0, max_value=3))
def test_every_example_comes_once_an_epoch(count, batch_size, epoch):
    batches = make(np.arange(count) % 17, batch_size=batch_size).epoch_batches(epoch)
    assert sorted(np.concatenate(batches)) == list(range(count))


@given(count=sizes, batch_size=batch_sizes)
def test_only_the_last_batch_is_smaller(count, batch_size):
    batches = make(np.arange(count) % 17, batch_size=batch_size).epoch_batches(0)
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert len(batches[-1]) == (count % batch_size or batch_size)


layouts = {"processes": st.integers(min_value=1, max_value=4), "accumulation": st.integers(min_value=1, max_value=3)}


@given(count=st.integers(min_value=1, max_value=40), **layouts)
def test_parts_are_the_whole_batch_each_example_once(count, processes, accumulation):
    parts = [
        part_of(
            np.arange(count), process=process, processes=processes, micro_batch=micro_batch, accumulation=accumulation
        )
        for process in range(processes)
        for micro_batch in range(accumulation)
    ]
    assert sorted(np.concatenate(parts)) == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(count=sizes, batch_size=st.integers(min_value=12, max_value=20), **layouts)
def test_what_is_not_idle_is_each_global_batch_once_on_any_number_of_processes(
    count, batch_size, processes, accumulation
):
    lengths = np.arange(count) % 17
    whole = make(lengths, batch_size=batch_size).epoch_batches(0)
    ranks = [
        make(lengths, batch_size=batch_size, processes=processes, rank=rank, accumulation=accumulation)
        for rank in range(processes)
    ]
    drawn = [list(rank) for rank in ranks]
    for update, batch in enumerate(whole):
        counting = [
            drawn[number][update * accumulation + micro]
            for number, rank in enumerate(ranks)
            for micro in range(accumulation)
            if not rank.is_idle(update, micro)
        ]
        assert sorted(np.concatenate(counting)) == sorted(batch)
    assert all(part for rank in drawn for part in rank)


def test_a_process_without_an_example_in_the_last_batch_is_idle_there_alone():
    ranks = [make([5] * 5, batch_size=4, processes=2, rank=rank) for rank in range(2)]
    (lone,) = make([5] * 5).epoch_batches(0)[-1]
    assert [list(rank)[-1] for rank in ranks] == [[lone], [lone]]
    assert [[rank.is_idle(update, 0) for update in range(2)] for rank in ranks] == [[False, False], [False, True]]


def test_the_length_is_the_number_of_micro_batches_drawn():
    batches = make(range(10), accumulation=2)
    assert len(batches) == len(list(batches)) == 6
    assert batches.updates_per_epoch == 3


def test_a_batch_holds_similar_lengths():
    generator = np.random.default_rng(1)
    lengths = generator.integers(5, 100, size=BLOCK_BATCHES * 8)
    grouped = [np.ptp(lengths[batch]) for batch in make(lengths, batch_size=8).epoch_batches(0)]
    at_random = [np.ptp(lengths[batch]) for batch in generator.permutation(len(lengths)).reshape(-1, 8)]
    assert np.mean(grouped) < np.mean(at_random) / 10


def test_length_says_nothing_about_the_phase_of_the_epoch():
    lengths = np.random.default_rng(1).integers(5, 100, size=BLOCK_BATCHES * 8 * 4)
    batches = make(lengths, batch_size=8)
    correlations = []
    for epoch in range(20):
        means = [lengths[batch].mean() for batch in batches.epoch_batches(epoch)]
        correlations.append(np.corrcoef(means, np.arange(len(means)))[0, 1])
    # Of 200 batches in random order the correlation has mean 0 and standard deviation 1/√199; over 20 epochs, 0.016.
    assert abs(np.mean(correlations)) < 4 * 0.016


def test_epochs_and_seeds_differ_and_repeat():
    def order(seed, epoch):
        return [list(batch) for batch in make(range(100), seed=seed).epoch_batches(epoch)]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_set_epoch_chooses_what_is_drawn():
    batches = make(range(20))
    batches.set_epoch(3)
    assert list(batches) == [list(batch) for batch in batches.epoch_batches(3)]


@pytest.mark.parametrize("change", [{"seed": 1}, {"batch_size": 5}])
def test_the_fingerprint_tells_orders_apart(change):
    rows = np.arange(40)
    assert make(range(40)).fingerprint(rows) == make(range(40), processes=2, rank=1).fingerprint(rows)
    assert make(range(40)).fingerprint(rows) != make(range(40), **change).fingerprint(rows)
    assert make(range(40)).fingerprint(rows) != make(range(40)).fingerprint(rows + 1)


class Drawn:
    """A collator that says what it would draw from."""

    def __init__(self, *drawn_from):
        self.drawn_from = drawn_from

    def in_epoch(self, seed, epoch):
        return Drawn(seed, epoch)

    def __call__(self, examples):
        return self.drawn_from


@pytest.mark.parametrize("skipped", [0, 3])
def test_a_collator_that_draws_is_of_the_epoch_that_trainer_sets(skipped):
    batches = make(range(20), seed=7)
    loader = TrainingLoader(range(20), batches, Drawn(), workers=0, pin_memory=False)
    assert set(loader) == {(7, 0)}
    for epoch in (2, 3):
        # As Trainer does where it goes on within an epoch, before it says which.
        loading = skip_first_batches(loader, skipped) if skipped else loader
        batches.set_epoch(epoch)
        assert list(loading) == [(7, epoch)] * (5 - skipped)


def test_a_collator_that_draws_nothing_is_left_as_it_is():
    assert TrainingLoader(range(20), make(range(20)), sum, workers=0, pin_memory=False).collate_fn is sum


class Read:
    """Rows that note which of them are read."""

    def __init__(self, count):
        self.count = count
        self.rows = []

    def __len__(self):
        return self.count

    def __getitem__(self, row):
        self.rows.append(row)
        return row


def test_a_process_reads_its_own_examples_alone():
    ranks = [Read(20) for _ in range(3)]
    for rank, rows in enumerate(ranks):
        batches = make(range(20), processes=3, rank=rank)
        list(TrainingLoader(rows, batches, list, workers=0, pin_memory=False))
    assert sorted(row for rows in ranks for row in rows.rows) == list(range(20))


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_a_run_that_goes_on_reads_nothing_of_what_was_made_before(processes):
    made, batches = 3, make(range(20)).epoch_batches(0)
    read = []
    for rank in range(processes):
        rows = Read(20)
        loader = TrainingLoader(
            rows, make(range(20), processes=processes, rank=rank), list, workers=0, pin_memory=False
        )
        list(skip_first_batches(loader, made))
        read += rows.rows
    assert sorted(read) == sorted(np.concatenate(batches[made:]))

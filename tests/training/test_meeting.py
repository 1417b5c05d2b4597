"""Processes that aren't about to do the same are found out at the start, with one voice and within a time limit."""

import socket
import threading
from itertools import count
from pathlib import Path

import pytest
from torch.distributed import HashStore

from finetune.errors import DataError, DeviceError, RecordError
from finetune.training import meeting
from finetune.training.agreement import PROBE, check_shared
from finetune.training.meeting import DisagreementError, LostProcessError, Meeting, disagreement, tell_others


def together(*acts, seconds=5.0):
    """Has each of `acts` meet the others in a thread of its own; returns what each returned or raised."""
    store, found = HashStore(), [None] * len(acts)

    def run(rank):
        try:
            with Meeting(store, rank=rank, processes=len(acts), seconds=seconds).open() as opened:
                found[rank] = acts[rank](opened)
        except Exception as error:  # noqa: BLE001 - what each raises is what is tested
            found[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def stating(*statements):
    def act(opened):
        for statement in statements:
            opened.agree(lambda statement=statement: statement)
        return "agreed"

    return act


def failing(error):
    def act(opened):
        raise error

    return act


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_those_who_say_the_same_agree(processes):
    assert together(*[stating({"a": 1}, {"a": {"b": [2]}})] * processes) == ["agreed"] * processes


def test_what_differs_is_named_on_every_process():
    same, other = {"recipe": {"seed": 0, "name": "a"}}, {"recipe": {"seed": 1, "name": "a"}}
    found = together(*map(stating, (same, other, other, same)))
    assert {type(error) for error in found} == {DisagreementError}
    (message,) = {str(error) for error in found}
    assert "  recipe.seed: 0 on process 0, 1 on processes 1, 2\n" in message
    assert "recipe.name" not in message


def test_what_one_process_lacks_is_named():
    hosts = {0: "a", 1: "b"}
    assert "packages.peft: 0.2 on process 0, nothing on process 1" in disagreement(
        {0: {"packages": {"peft": "0.2"}}, 1: {"packages": {"peft": None}}}, hosts
    )
    assert disagreement({0: {"a": 1}, 1: {"a": 1}}, hosts) is None


def test_of_many_differences_some_are_shown():
    message = disagreement({0: {str(key): 0 for key in range(9)}, 1: {}}, {0: "a", 1: "a"})
    assert message.count(" on process 0") == 5
    assert "and 4 more" in message


def test_an_error_of_one_process_is_told_by_the_first():
    found = together(stating({}), failing(DataError("train.csv: no such file")), stating({}))
    assert [type(each) for each in found] == [DisagreementError, DataError, DisagreementError]
    assert "process 1 of 3, on " in str(found[0])
    assert str(found[0]).endswith("train.csv: no such file")


def test_an_error_of_the_program_is_told_with_its_kind():
    found = together(stating({}), failing(KeyError("labels")))
    assert str(found[0]).endswith("KeyError: 'labels'")


def test_an_error_of_the_first_process_ends_the_others():
    found = together(failing(DataError("no")), stating({}))
    assert [type(each) for each in found] == [DataError, DisagreementError]


def test_an_error_of_all_is_each_ones_own():
    found = together(*[failing(DataError("no"))] * 3)
    assert [type(each) for each in found] == [DataError] * 3


def test_a_process_that_does_not_come_is_not_waited_for_for_ever():
    store = HashStore()
    with pytest.raises(LostProcessError, match="process 1 of 2 said nothing for 0 seconds"):
        Meeting(store, rank=0, processes=2, seconds=0.2).agree(dict)


@pytest.fixture
def second_of_two(monkeypatch):
    """Makes this the second of two processes; returns the store where they meet."""
    store = HashStore()
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(meeting, "_store", lambda rank, seconds: store)
    monkeypatch.setattr(meeting, "_meetings", count())
    return store


def test_what_ends_a_process_before_it_meets_the_others_is_told_too(second_of_two):
    error = DataError("train.csv: no such file")
    first = threading.Thread(target=tell_others, args=(error,))
    first.start()
    with pytest.raises(DisagreementError, match=r"process 1 of 2, on .*: train\.csv: no such file"):
        Meeting(second_of_two, rank=0, processes=2, name="0.0", seconds=5.0).agree(dict)
    first.join()
    assert error.is_told
    tell_others(error)  # once


def test_alone_nothing_is_told(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    error = DataError("no")
    tell_others(error)
    assert not error.is_told


def test_several_processes_without_an_address_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(DeviceError, match="MASTER_ADDR and MASTER_PORT don't say where they meet"):
        meeting.meeting_of_this_run()


def test_an_address_where_nobody_is_is_given_up(monkeypatch):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
        for name, value in {
            "WORLD_SIZE": "2",
            "RANK": "1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(LostProcessError, match=f"process 1 can't reach 127.0.0.1:{port}"):
            meeting.meeting_of_this_run(seconds=1.0)


def test_alone_nothing_is_stated():
    with Meeting(None, rank=0, processes=1).open() as alone:
        alone.agree(lambda: pytest.fail("stated"))
        assert alone.see(pytest.fail, pytest.fail)


def sharing(folder: Path):
    folder.mkdir(exist_ok=True)
    return lambda opened: check_shared(folder, opened)


def test_a_folder_that_all_see_is_shared(tmp_path):
    assert together(*[sharing(tmp_path / "a")] * 3) == [None] * 3
    assert list((tmp_path / "a").iterdir()) == []


def test_a_folder_that_is_not_shared_is_refused_before_anything_is_made(tmp_path):
    found = together(sharing(tmp_path / "a"), sharing(tmp_path / "b"), seconds=1.0)
    assert [type(each) for each in found] == [DisagreementError, RecordError]
    assert "process 1 of 2" in str(found[0])
    assert "must be a folder on a file system that all machines of a run share" in str(found[0])
    assert not (tmp_path / "a" / PROBE).exists()

"""A cluster that can't be reached is one message within seconds; so is a package that isn't there."""

import socket
import sys
import threading
import time

import pytest

from finetune.cli import main
from finetune.errors import DeviceError, SettingError
from finetune.study.engines import connecting
from finetune.study.engines.connecting import check_reachable, import_ray, place_of
from finetune.study.engines.on_ray import RayEngine
from finetune.study.engines.registry import ENGINES, make_engine

STUDY = "study: {grid: {schedule: [cosine, linear]}}"


@pytest.fixture
def listening():
    """A function that returns the address of one who listens, and answers with the given bytes, or with nothing."""
    servers = []

    def listen(answer):
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                servers.append(connection)
                if answer is not None:
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        return f"127.0.0.1:{server.getsockname()[1]}"

    yield listen
    for each in servers:
        each.close()


@pytest.fixture
def without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)


@pytest.fixture
def with_ray(monkeypatch):
    """Has the package found, whether or not it is installed: nothing here gets as far as to use it."""
    monkeypatch.setitem(sys.modules, "ray", type(sys)("ray"))


def refused(capsys, *arguments):
    began = time.monotonic()
    with pytest.raises(SystemExit) as end:
        main(["study", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert end.value.code == 2
    assert err.count("\n") == 1
    assert out == ""
    assert time.monotonic() - began < 10
    return err


def test_an_address_where_nobody_listens_is_told_and_how_to_mend_it(write_study, with_ray, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    message = refused(capsys, write_study("lost", STUDY), "--engine", "ray", "--address", address)
    assert message.startswith(f"finetune: address: no Ray cluster can be reached at {address} (")
    assert "Connection refused" in message
    assert "start one with ray start --head" in message


def test_one_who_listens_and_is_silent_is_waited_for_only_so_long(listening, monkeypatch):
    monkeypatch.setattr(connecting, "ANSWERED_WITHIN", 0.2)
    with pytest.raises(DeviceError, match=r"no answer within 0\.2 seconds"):
        check_reachable(listening(None))


def test_one_who_speaks_otherwise_is_told_from_ray(listening):
    with pytest.raises(DeviceError, match="what answers there isn't Ray"):
        check_reachable(listening(b"HTTP/1.1 400 Bad Request\r\n\r\n"))


def test_one_who_begins_with_settings_is_taken_for_a_cluster(listening):
    check_reachable(listening(bytes([0, 0, 18, 4, 0, 0, 0, 0, 0])))


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("ray://head:10001", "ray://head:10001 is one of Ray's clients; give HOST:PORT, from a machine of the cluster"),
        ("head", "head is not HOST:PORT, such as 10.0.0.1:6379"),
        ("head:0", "head:0 is not HOST:PORT"),
        ("head:99999", "head:99999 is not HOST:PORT"),
        (":6379", ":6379 is not HOST:PORT"),
    ],
)
def test_what_is_no_address_is_told(address, problem):
    with pytest.raises(SettingError) as error:
        place_of(address)
    assert str(error.value).startswith(f"address: {problem}")


def test_without_an_address_it_is_that_of_the_environment_or_of_this_machine(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert place_of(None) == ("127.0.0.1", 6379)
    monkeypatch.setenv("RAY_ADDRESS", "[fd00::1]:7000")
    assert place_of(None) == ("fd00::1", 7000)
    assert place_of("head:8000") == ("head", 8000)


def test_without_the_package_the_remedy_is_told(write_study, without_ray, capsys):
    message = refused(capsys, write_study("bare", STUDY), "--engine", "ray")
    assert "pip install 'finetune-schedules[ray]'" in message
    with pytest.raises(DeviceError):
        import_ray()


@pytest.mark.parametrize(
    ("engine", "options", "problem"),
    [
        ("rey", {}, 'engine: "rey" is not one of local, ray (did you mean ray?)'),
        ("local", {"address": "a:1"}, "address: goes with --engine ray; local has no such option"),
        ("local", {"fetch": True}, "fetch: goes with --engine ray"),
        ("ray", {"cpus": 0}, "cpus: 0 must be 1 or more"),
        ("ray", {"gpus": 1.5}, "gpus: 1.5 must be from 0 to 1"),
        ("ray", {"gpus": float("nan")}, "gpus: nan must be from 0 to 1"),
        ("ray", {"workers": 0}, "workers: 0 must be 1 or more, or auto"),
    ],
)
def test_options_that_cant_serve_are_refused(engine, options, problem):
    with pytest.raises(SettingError) as error:
        make_engine(engine, options).check()
    assert str(error.value).startswith(problem)


def test_an_engine_under_a_launcher_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DeviceError, match="without a launcher"):
        RayEngine().check()


def test_options_that_are_left_out_are_the_engines_own():
    assert make_engine("ray", {"cpus": 2, "fetch": None, "workers": None}) == RayEngine(cpus=2)
    assert set(ENGINES) == {"local", "ray"}

"""`finetune launch`: what it prints, runs and passes on, and its one message for whatever a user can mend."""

import shlex
import socket

import pytest

from finetune import launching
from finetune.cli import main


@pytest.fixture
def launch(monkeypatch, capsys, small_recipe):
    """A function that gives the command, with runs that end with a code; returns it, what was printed, and what was run."""
    monkeypatch.chdir(small_recipe.parent)

    def give(*arguments, recipe="small.yaml", ends_with=0):
        ran = []
        monkeypatch.setattr(launching, "run_launch", lambda command: ran.append(command) or ends_with)
        with pytest.raises(SystemExit) as end:
            main(["launch", recipe, *arguments])
        out, err = capsys.readouterr()
        return end.value.code, out, err, ran

    return give


@pytest.fixture
def refused(launch):
    """A function that gives the command, and returns the one message that it is refused with."""

    def give(*arguments, **options):
        code, out, err, ran = launch(*arguments, **options)
        assert (code, ran) == (2, [])
        assert err.startswith("finetune: ")
        assert "Traceback" not in out + err
        return err.removeprefix("finetune: ")

    return give


def test_the_command_is_printed_and_run(launch):
    code, out, err, (command,) = launch("--on", "cpu_2_processes", "schedule=step", "--repeat", "--resume", "never")
    assert (code, err) == (0, "")
    assert out == f"{command}\n"
    words = shlex.split(out)
    assert words[:3] == ["ACCELERATE_USE_CPU=true", "accelerate", "launch"]
    assert words[-5:] == ["small.yaml", "schedule=step", "--repeat", "--resume", "never"]


@pytest.mark.parametrize("code", [1, 75])
def test_the_exit_code_is_passed_on(launch, code):
    assert launch("--on", "cpu", ends_with=code)[0] == code


def test_without_a_gpu_it_takes_the_cpu(launch):
    _, out, _, _ = launch()
    assert "accelerate_configs/cpu.yaml" in out


def test_a_configuration_by_its_path(launch, small_recipe):
    (small_recipe.parent / "own.yaml").write_text("distributed_type: 'NO'\nuse_cpu: true\n", encoding="utf-8")
    _, out, _, _ = launch("--on", "own.yaml")
    assert "--config_file own.yaml " in out


def test_a_study_is_launched_too(launch, small_recipe):
    text = "base: small.yaml\nstudy: {grid: {schedule: [cosine, linear]}}\n"
    (small_recipe.parent / "study.yaml").write_text(text, encoding="utf-8")
    assert launch("--on", "cpu", recipe="study.yaml")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--on", "mutli_gpu"], '--on: "mutli_gpu" is not one of'),
        (["--on", "multi_gpu"], "--on: multi_gpu needs GPUs, and none can be seen"),
        (["--on", "fsdp2"], "--on: fsdp2 needs GPUs, and none can be seen"),
        (["--on", "cpu", "schedule=stp"], 'override schedule=stp: schedule.name: "stp" is not one of'),
        (["--on", "cpu_2_processes", "--processes", "0"], "--processes: 0 is not 1 or more"),
        (["--machines", "2"], "--rank: missing"),
        (
            ["--on", "cpu_2_processes", "--machines", "2", "--rank", "0", "--rendezvous", "here"],
            '--rendezvous: "here" is not HOST:PORT',
        ),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_started(refused, arguments, message):
    assert message in refused(*arguments)


def test_a_missing_recipe(refused):
    assert "absent.yaml: no such file" in refused(recipe="absent.yaml")


def test_a_machine_that_finds_no_other_says_so_in_time(refused):
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
    options = [
        "--on",
        "cpu_2_processes",
        "--machines",
        "2",
        "--rank",
        "1",
        "--rendezvous",
        place,
        "--join-timeout",
        "1",
    ]
    assert f"--rendezvous: {place} didn't answer within 1 s" in refused(*options)

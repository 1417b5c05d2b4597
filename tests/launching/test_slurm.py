"""The Slurm scripts, with programs in place of Slurm's that write down how they are called."""

import os
import shutil
import signal
import subprocess
import time

import pytest

from tests.docs.pages import ROOT, lines, words_of

SLURM = ROOT / "scripts" / "slurm"
SCRIPTS = sorted(SLURM.iterdir())
PROGRAMS = {
    # As srun: hands SIGUSR1 on to its task, and takes a SIGTERM for the end of it.
    "srun": """
echo "srun $*" >> "$CALLS"
trap 'kill -USR1 "$task"' USR1
trap 'kill -KILL "$task"; exit 137' TERM
shift
SLURM_NODEID=1 "$@" &
task=$!
wait "$task"; code=$?
while kill -0 "$task" 2>/dev/null; do wait "$task"; code=$?; done
exit "$code"
""",
    "scontrol": """
echo "scontrol $*" >> "$CALLS"
if [ "$1" = show ]; then printf 'node7\\nnode8\\n'; fi
exit "${SCONTROL_EXIT:-0}"
""",
    # As finetune: stops in good order on SIGUSR1.
    "finetune": """
echo "finetune $*" >> "$CALLS"
if [ -n "${RUN_EXIT:-}" ]; then exit "$RUN_EXIT"; fi
trap 'sleep 0.3; exit 75' USR1
touch "$CALLS.begun"
while :; do sleep 0.05; done
""",
    # As sbatch: runs a job at once, of an array its third task, with what Slurm sets by the options.
    "sbatch": """
echo "sbatch $*" >> "$CALLS"
while [ $# -gt 0 ]; do
    case "$1" in
        --nodes=*) export SLURM_NNODES="${1#*=}" SLURM_JOB_NODELIST="node[7-8]" ;;
        --array=1-*) export SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_ID=3 SLURM_ARRAY_TASK_COUNT="${1##*-}" ;;
        --parsable) echo "$SLURM_JOB_ID" ;;
        --dependency=* | --ntasks=*) ;;
        --wrap) exec bash -c "$2" ;;
        -*) exit 64 ;;
        *) exec bash "$@" >&2 ;;
    esac
    shift
done
""",
}


@pytest.fixture
def environment(tmp_path):
    """The variables of a job, whose programs write down how they are called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(f"#!/usr/bin/env bash\n{text}")
        (programs / name).chmod(0o755)
    return os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "SLURM_SUBMIT_DIR": str(ROOT),
        "SLURM_JOB_ID": "4711",
        "SLURM_NNODES": "1",
    }


@pytest.fixture
def slurm(tmp_path, environment):
    """A function that begins a script as Slurm does; returns the process, and a function that returns the calls made."""

    def begin(script, *arguments, **variables):
        path = tmp_path / "slurm_script"  # Slurm runs a copy
        shutil.copy(SLURM / script, path)
        process = subprocess.Popen(
            ["bash", str(path), *arguments],
            env=environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return process, lambda: (tmp_path / "calls").read_text().splitlines()

    return begin


@pytest.fixture
def submit(tmp_path, environment):
    """A function that gives a shell commands of a page in the repository's folder; returns the calls that come of it."""

    def submit(*commands):
        done = subprocess.run(
            ["bash", "-ec", "\n".join(commands)],
            cwd=ROOT,
            env=environment | {"RUN_EXIT": "0"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return [call for call in (tmp_path / "calls").read_text().splitlines() if not call.startswith("srun ")]

    return submit


def wait_until_begun(tmp_path):
    until = time.monotonic() + 20
    while not (tmp_path / "calls.begun").exists():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_it_is_executable_and_parses(script):
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck isn't installed")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    done = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", ["train.sbatch", "study_array.sbatch"])
def test_a_job_can_be_put_back_and_is_told_in_time(script):
    text = (SLURM / script).read_text()
    for line in ("--requeue", "--signal=B:USR1@300", "--open-mode=append"):
        assert f"\n#SBATCH {line}\n" in text


def test_a_job_on_one_node(slurm):
    process, calls = slurm("train.sbatch", "r.yaml", "schedule=step", "--on", "fsdp2", RUN_EXIT="0")
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0, text
    assert calls()[1:] == ["finetune launch r.yaml schedule=step --on fsdp2 --rank 1"]


def test_a_job_on_two_nodes_meets_on_the_first(slurm):
    process, calls = slurm("train.sbatch", "r.yaml", SLURM_NNODES="2", SLURM_JOB_NODELIST="node[7-8]", RUN_EXIT="0")
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0, text
    assert calls()[0] == "scontrol show hostnames node[7-8]"
    meets = "--machines 2 --rendezvous node7:24711 --max-restarts 3"
    assert calls()[2:] == [f"finetune launch r.yaml {meets} --rank 1"]


@pytest.mark.parametrize(("identifier", "share"), [("0", "1/3"), ("1", "2/3"), ("2", "3/3")])
def test_each_task_of_an_array_makes_its_share(slurm, identifier, share):
    variables = {"SLURM_ARRAY_TASK_ID": identifier, "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "3"}
    process, calls = slurm("study_array.sbatch", "study.yaml", "output=there", RUN_EXIT="0", **variables)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0, text
    assert calls()[1:] == [f"finetune study study.yaml output=there --share {share}"]


def test_a_job_that_makes_room_goes_back_into_the_queue(slurm, tmp_path):
    process, calls = slurm("train.sbatch", "r.yaml")
    wait_until_begun(tmp_path)
    process.send_signal(signal.SIGUSR1)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 75, text
    assert calls()[-1] == "scontrol requeue 4711"
    assert "job 4711 goes back into the queue" in text


def test_where_that_fails_the_job_says_so(slurm, tmp_path):
    process, _ = slurm("train.sbatch", "r.yaml", SCONTROL_EXIT="1")
    wait_until_begun(tmp_path)
    process.send_signal(signal.SIGUSR1)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 75
    assert "scontrol couldn't; submit the job again" in text


def test_a_job_that_is_cancelled_stops_in_good_order_and_for_good(slurm, tmp_path):
    process, calls = slurm("train.sbatch", "r.yaml")
    wait_until_begun(tmp_path)
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 75, text
    assert not any("requeue" in call for call in calls())


@pytest.mark.parametrize("code", ["1", "2", "75"])
def test_a_job_that_ends_by_itself_ends_with_the_code_of_the_run(slurm, code):
    process, calls = slurm("train.sbatch", "r.yaml", RUN_EXIT=code)
    process.communicate(timeout=120)
    assert process.returncode == int(code)
    assert not any("requeue" in call for call in calls())


(OF_A_RUN,) = lines("docs/launching.md", "## Slurm", "sbatch ")
OF_A_STUDY = lines("docs/launching.md", "## Slurm", "job=")


def test_a_run_is_submitted_as_the_page_says(submit):
    *_, launched = submit(OF_A_RUN)
    meets = "--machines 4 --rendezvous node7:24711 --max-restarts 3"
    assert launched == f"finetune launch RECIPE --on fsdp2 {meets} --rank 1"


def test_a_study_is_submitted_as_the_page_says(submit):
    _, third, after, rest = submit(*OF_A_STUDY)
    assert third == "finetune study STUDY --share 3/16"
    assert after.split()[1] == "--dependency=afterany:4711"
    assert rest == f"finetune {' '.join(words_of(words_of(OF_A_STUDY[1])[-1])[1:])}"


def test_the_header_of_a_script_submits_it_as_the_page_does():
    assert f"\n#   {OF_A_RUN}\n" in (SLURM / "train.sbatch").read_text()
    header = (SLURM / "study_array.sbatch").read_text().replace("RECIPE [KEY=VALUE]...", "STUDY")
    assert all(f"\n#   {line}\n" in header for line in OF_A_STUDY)

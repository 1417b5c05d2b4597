"""A whole run of what a stranger made: it leaves nothing but its directory, obeys no label, and tells no secret."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUN = ROOT / "finetune" / "run.py"
SECRETS = {
    "HF_TOKEN": "hf_wRongHorseBatteryStaple12345",
    "HUGGING_FACE_HUB_TOKEN": "hub-token-0123456789",
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "MLFLOW_TRACKING_PASSWORD": "correct-horse-battery-staple",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY",
    "OPENAI_API_KEY": "sk-0123456789abcdefghij",
    "HTTPS_PROXY": "http://someone:proxy-password@127.0.0.1:9",
    "MY_OWN_SETTING": "nobody-may-see-this-either",
}
LABELS = ("[red]negative[/red]{{ 7*7 }}", "[bold red]positive[/] :bomb: <script>")


@pytest.fixture
def run(small_recipe, tmp_path):
    """Runs the small recipe in a process of its own, with secrets in its environment and a home that is watched."""

    def run(*arguments):
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_", "HUGGING"))
        }
        environment |= SECRETS | {"HOME": str(home), "HF_HUB_OFFLINE": "1", "TMPDIR": str(home), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, str(RUN), str(small_recipe), *arguments],
            env=environment,
            cwd=small_recipe.parent,
            capture_output=True,
            check=False,
        )

    return run


def files_under(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def relabel(folder):
    """Gives the classes of the review files the names of LABELS."""
    import pyarrow
    from pyarrow import parquet

    names = dict(zip(("negative", "positive"), LABELS, strict=True))
    text = (folder / "train.csv").read_text(encoding="utf-8")
    (folder / "train.csv").write_text(
        re.sub("negative|positive", lambda found: names[found[0]], text), encoding="utf-8"
    )
    rows = [json.loads(line) for line in (folder / "validation.jsonl").read_text().splitlines()]
    lines = [json.dumps(row | {"label": names[row["label"]]}) + "\n" for row in rows]
    (folder / "validation.jsonl").write_text("".join(lines))
    rows = [row | {"label": names[row["label"]]} for row in parquet.read_table(folder / "test.parquet").to_pylist()]
    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "test.parquet")


@pytest.mark.slow
def test_a_run_leaves_its_directory_alone_obeys_no_label_and_tells_no_secret(run, tmp_path):
    relabel(tmp_path)
    before = files_under(tmp_path)
    done = run("training.duration=4", "checkpoints.every=2", "tracking=[tensorboard]")
    assert done.returncode == 0, done.stderr.decode()
    new = files_under(tmp_path) - before
    (directory,) = (tmp_path / "runs" / "small").iterdir()
    assert {file.relative_to(directory).parts[0] for file in new} == {
        "history.jsonl",
        "model",
        "predictions",
        "recipe.yaml",
        "record.json",
        "tensorboard",
    }
    assert b"\x1b" not in done.stdout + done.stderr
    assert all(label in done.stdout.decode() for label in LABELS)
    for content in (done.stdout, done.stderr, *(file.read_bytes() for file in new)):
        for secret in SECRETS.values():
            assert secret.encode() not in content


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.hub=https://someone:proxy-password@host/data", "***@host/data"),
        ("model.path=https://someone:proxy-password@host/model", "is a URL"),
        ("model.token=hf_wRongHorseBatteryStaple12345", "set HF_TOKEN in the environment"),
        ("task.label=nobody\x1b[31m-may", "unacceptable character #x001b"),
        (f"optimizer.name={SECRETS['WANDB_API_KEY']}", '"***" is not one of'),
    ],
)
def test_no_message_tells_a_secret_or_commands_the_terminal(run, override, said):
    done = run(override)
    assert done.returncode == 2
    assert done.stdout == b""
    message = done.stderr.decode()
    assert said in message
    assert "\x1b" not in message
    assert "proxy-password" not in message
    assert all(secret not in message for secret in SECRETS.values())


@pytest.mark.slow
def test_a_models_code_is_run_by_a_flag_alone(run, tiny_model, tmp_path):
    folder = tmp_path / "strange"
    folder.mkdir()
    for file in tiny_model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text()) | {
        "model_type": "strange",
        "auto_map": {"AutoConfig": "code.Strange"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nraise ValueError('it ran')\n")
    done = run(f"model.path={folder}")
    assert done.returncode == 2
    assert "pass --trust-remote-code if you trust it" in done.stderr.decode()
    assert not (tmp_path / "ran").exists()
    done = run(f"model.path={folder}", "--trust-remote-code")
    assert done.returncode == 2
    assert "it ran" in done.stderr.decode()
    assert (tmp_path / "ran").exists()

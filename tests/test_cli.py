"""The command line: one message and exit code 2 for whatever a user can mend, before any training."""

import json
import os
import shutil

import pytest

from finetune.cli import main
from finetune.training import one_run


@pytest.fixture
def refused(small_recipe, capsys, monkeypatch):
    """Runs the small recipe with overrides, without training; returns the one message it is refused with."""

    def train(*args, **kwargs):
        pytest.fail("training began")

    monkeypatch.setattr(one_run.OneRun, "run", train)
    monkeypatch.chdir(small_recipe.parent)

    def refused(*overrides, recipe=small_recipe):
        with pytest.raises(SystemExit) as end:
            main(["run", str(recipe), *overrides])
        out, err = capsys.readouterr()
        assert end.value.code == 2
        assert err.startswith("finetune: ")
        assert err.count("\n") == 1 or " problem" in err.splitlines()[0]
        assert "Traceback" not in out + err
        return err

    return refused


def change_csv(path, change):
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(change(lines)) + "\n", encoding="utf-8")


def test_a_missing_recipe(refused, tmp_path):
    assert "absent.yaml: no such file" in refused(recipe=tmp_path / "absent.yaml")


def test_a_faulty_override(refused):
    assert 'schedule.name: "stp" is not one of' in refused("schedule=stp")


def test_a_missing_file(refused, tmp_path):
    assert f"{tmp_path / 'absent.csv'}: no such file" in refused("data.files.train=absent.csv")


def test_a_missing_column_names_those_there_are(refused):
    message = refused("task.text=sentense")
    assert 'has no column "sentense"' in message
    assert "idx, sentence, label (did you mean sentence?)" in message


def test_an_empty_split(refused, tmp_path):
    change_csv(tmp_path / "train.csv", lambda lines: lines[:1])
    assert "the train split is empty" in refused()


def test_null_labels(refused, tmp_path):
    rows = [json.loads(line) for line in (tmp_path / "validation.jsonl").read_text().splitlines()]
    rows[4]["label"] = None
    (tmp_path / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert 'column "label" of the validation split is empty in row 5' in refused()


def test_a_label_that_training_never_has(refused, tmp_path):
    rows = [json.loads(line) for line in (tmp_path / "validation.jsonl").read_text().splitlines()]
    rows[2]["label"] = "mixed"
    (tmp_path / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    message = refused()
    assert "'mixed' in row 3" in message
    assert "is no class of the train split; those are 'negative', 'positive'" in message


def test_a_model_folder_without_weights(refused, tiny_model, tmp_path):
    folder = tmp_path / "hollow"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").unlink()
    assert f"{folder}: holds no weights" in refused(f"model.path={folder}")


def test_a_hub_name_while_offline(refused):
    assert "org/absent: " in refused("model.path=null", "model.hub=org/absent")


def test_a_hub_data_set_while_offline(refused):
    message = refused("data={hub: org/absent}")
    assert "org/absent: not in the local cache, and HF_HUB_OFFLINE=1" in message


def test_no_permission_to_write(refused, tmp_path):
    (tmp_path / "a-file").write_text("")
    assert "can't be written to" in refused(f"output={tmp_path / 'a-file'}")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_is_read_only(refused, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    assert "Permission denied" in refused(f"output={tmp_path / 'closed'}")


def test_a_length_beyond_the_model(refused):
    assert "takes 64 tokens at most, not 100; set task.max_length to 64 or less" in refused("task.max_length=100")


def test_a_warmup_longer_than_the_run(refused):
    message = refused("schedule.warmup=100", "training.duration=20")
    assert "schedule.warmup: 100 updates are more than the run's 20" in message


def test_fp16_without_a_gpu(refused, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert "training.precision: fp16 needs a GPU" in refused("training.precision=fp16")


def test_comparing_what_is_not_there(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["compare", str(tmp_path / "absent")])
    assert end.value.code == 2
    assert "absent: no such directory" in capsys.readouterr().err


def test_the_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("finetune-schedules ")


def test_a_run_and_a_comparison(small_recipe, capsys, monkeypatch):
    monkeypatch.chdir(small_recipe.parent)
    for schedule in ("cosine", "step"):
        with pytest.raises(SystemExit) as end:
            main(["run", str(small_recipe), f"schedule={schedule}", "training.duration=4"])
        assert end.value.code == 0
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(["compare", "runs"])
    out = capsys.readouterr().out
    assert end.value.code == 0
    assert {line.split()[0] for line in out.splitlines() if "±" in line and ":" not in line} == {"cosine", "step"}
    assert "this can't say which schedule is better" in " ".join(out.split())


def test_a_run_that_diverges_exits_with_1(small_recipe, monkeypatch):
    monkeypatch.chdir(small_recipe.parent)
    with pytest.raises(SystemExit) as end:
        main(
            [
                "run",
                str(small_recipe),
                "optimizer=sgd",
                "optimizer.learning_rate=1e30",
                "training.gradient_clipping=null",
            ]
        )
    assert end.value.code == 1

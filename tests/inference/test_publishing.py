"""`finetune push`: what is sent to the Hub, by huggingface_hub's own client over a network that is a function here."""

import httpx2
import pytest
from huggingface_hub import constants

MODEL_FILES = {
    *("README.md", "config.json", "model.safetensors", "schedule.svg", "tokenizer.json", "tokenizer_config.json")
}


def test_the_model_is_sent_whole_in_one_commit(finetune, finished_run, hub):
    code, out, _ = finetune("push", finished_run, "me/model")
    assert code == 0
    assert out == "https://huggingface.co/me/model/commit/main\n"
    assert hub.files == {name: (finished_run / "model" / name).read_bytes() for name in MODEL_FILES}
    assert hub.summary == f"Add the model of {finished_run.name}"
    assert len([path for path in hub.paths if "/commit/" in path]) == 1
    assert "private" not in hub.made
    assert hub.made["name"] == "model"


def test_a_repository_can_be_private(finetune, finished_run, hub):
    assert finetune("push", finished_run, "me/model", "--private")[0] == 0
    assert hub.made.get("visibility", hub.made.get("private")) in ("private", True)


def test_the_record_goes_along_on_demand(finetune, finished_run, hub):
    assert finetune("push", finished_run, "me/model", "--with-record")[0] == 0
    assert {*hub.files} == MODEL_FILES | {"record.json", "recipe.yaml"}
    assert hub.files["record.json"] == (finished_run / "record.json").read_bytes()


def test_data_is_never_sent(finetune, copied_run, hub):
    for name in ("train.csv", "rows.parquet", "rows.jsonl", "photo.png", "notes"):
        (copied_run / "model" / name).write_text("mine")
    assert finetune("push", copied_run, "me/model", "--with-record")[0] == 0
    assert {*hub.files} == MODEL_FILES | {"record.json", "recipe.yaml"}


def test_a_link_is_not_followed(finetune, copied_run, hub, tmp_path):
    (tmp_path / "secret.json").write_text("mine")
    (copied_run / "model" / "extra.json").symlink_to(tmp_path / "secret.json")
    code, _, err = finetune("push", copied_run, "me/model")
    assert code == 2
    assert "extra.json: is a link" in err
    assert hub.paths == []


@pytest.mark.parametrize(
    ("place", "status", "words"),
    [
        ("/api/repos/create", 401, "the token isn't accepted"),
        ("/api/repos/create", 403, "the token may not write there"),
        ("/api/models/me/model/preupload", 404, "there is no such user or organisation"),
        ("/api/models/me/model/commit", 500, "the Hub answers 500"),
    ],
)
def test_what_the_hub_refuses(finetune, finished_run, hub, place, status, words):
    hub.refuse, hub.status = place, status
    code, out, err = finetune("push", finished_run, "me/model")
    assert (code, out) == (2, "")
    assert err.startswith("finetune: me/model: ")
    assert words in err
    assert err.count("\n") == 1
    assert hub.files == {}


def test_a_hub_out_of_reach(finetune, finished_run, hub, monkeypatch):
    def fail(request):
        raise httpx2.ConnectError("[Errno 101] Network is unreachable")

    monkeypatch.setattr(hub, "answer", fail)
    code, _, err = finetune("push", finished_run, "me/model")
    assert code == 2
    assert "the Hub can't be reached, or broke off: [Errno 101]" in err


def test_while_offline(finetune, finished_run):
    code, _, err = finetune("push", finished_run, "me/model")
    assert code == 2
    assert "me/model: HF_HUB_OFFLINE=1 keeps the Hub out of reach" in err


def test_when_nobody_is_logged_in(finetune, finished_run, hub, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    code, _, err = finetune("push", finished_run, "me/model")
    assert code == 2
    assert "nobody is logged in to the Hub: run hf auth login" in err
    assert hub.paths == []


def test_what_is_no_name_of_a_repository(finetune, finished_run, hub):
    code, _, err = finetune("push", finished_run, "../mine")
    assert code == 2
    assert 'REPO: "../mine" is no name such as user/model' in err


def test_a_model_without_weights(finetune, copied_run, hub):
    (copied_run / "model" / "model.safetensors").unlink()
    code, _, err = finetune("push", copied_run, "me/model")
    assert code == 2
    assert "holds no weights" in err

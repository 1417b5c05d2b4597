"""A copy of the finished run to spoil, and a Hub to send it to."""

import base64
import json
import shutil

import httpx2
import pytest
from huggingface_hub import close_session, constants, set_client_factory
from huggingface_hub.utils._http import default_client_factory


@pytest.fixture
def copied_run(finished_run, tmp_path):
    """A copy of the run's directory."""
    folder = tmp_path / "copied"
    shutil.copytree(finished_run, folder)
    return folder


class Hub:
    """Answers as the Hub does to who makes a repository and commits to it, and keeps what it was sent.

    `refuse`: the path that it answers with `status` instead.
    """

    def __init__(self):
        self.made, self.files, self.summary, self.paths = None, {}, None, []
        self.refuse, self.status = None, 200

    def answer(self, request):
        path = request.url.path
        self.paths.append(path)
        assert request.headers["authorization"] == "Bearer hf_of_mine"
        if self.refuse is not None and path.startswith(self.refuse):
            return httpx2.Response(self.status, json={"error": "no"}, request=request)
        content = request.read()
        if path == "/api/repos/create":
            self.made = json.loads(content)
            return httpx2.Response(200, json={"url": "https://huggingface.co/me/model"})
        if path == "/api/validate-yaml":
            return httpx2.Response(200, json={"errors": [], "warnings": []})
        if path.endswith("/preupload/main"):
            files = [{"path": each["path"]} for each in json.loads(content)["files"]]
            files = [{**each, "uploadMode": "regular", "shouldIgnore": False, "oid": None} for each in files]
            return httpx2.Response(200, json={"files": files})
        if path.endswith("/commit/main"):
            for line in map(json.loads, content.splitlines()):
                if line["key"] == "header":
                    self.summary = line["value"]["summary"]
                else:
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            commit = {"commitUrl": f"https://huggingface.co{path.removeprefix('/api/models')}", "commitOid": "0" * 40}
            return httpx2.Response(200, json=commit)
        return httpx2.Response(404, json={"error": "unknown to the tests"})


@pytest.fixture
def hub(monkeypatch):
    """A Hub that can be reached, by someone who is logged in."""
    made = Hub()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_of_mine")
    set_client_factory(lambda: httpx2.Client(transport=httpx2.MockTransport(made.answer)))
    yield made
    close_session()
    set_client_factory(default_client_factory)

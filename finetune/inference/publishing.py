"""A run's model on its way to the Hub: the files of its folder, in one commit, and never data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetune.data.files import first_line
from finetune.errors import HubError, RecordError, SettingError
from finetune.evaluation.record import RECIPE, RECORD
from finetune.inference.finished import FinishedRun

KINDS = (".safetensors", ".json", ".txt", ".model", ".jinja", ".md", ".svg")
"""The suffixes of what belongs to a model: weights, configuration, vocabulary, card. No data has one of them."""
REFUSALS = {
    401: "the token isn't accepted: make another, and log in with hf auth login",
    403: "the token may not write there: make one that may, or choose a repository of your own",
    404: "there is no such user or organisation, or the token may not see it",
}


def files_to_push(run: FinishedRun, *, with_record: bool) -> dict[str, Path]:
    """Returns name in the repository ▶ file of the model, and, if asked for, of the run's record and recipe.

    Raises RecordError for a link, which could have any file published, and where there are no weights.
    """
    files = dict(_of_folder(run.model))
    if not any(name.endswith(".safetensors") for name in files):
        raise RecordError(f"{run.model}: holds no weights; finetune run … --repeat makes it anew")
    return files | ({name: run.path / name for name in (RECORD, RECIPE)} if with_record else {})


def _of_folder(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise RecordError(f"{path}: is a link, which could have any file published; put the file itself there")
        if path.is_file() and path.suffix in KINDS:
            yield path.relative_to(folder).as_posix(), path


def push(run: FinishedRun, repository: str, *, private: bool, with_record: bool) -> str:
    """Makes the repository, unless there is one, commits the files to it, and returns the commit's address.

    Raises SettingError for what is no name of a repository, and HubError where the Hub can't be reached or refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token, is_offline_mode
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import disable_progress_bars, validate_repo_id  # type: ignore[attr-defined]

    files = files_to_push(run, with_record=with_record)
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise SettingError("REPO", f'"{repository}" is no name such as user/model: {first_line(error)}') from error
    if is_offline_mode():
        raise HubError(f"{repository}: HF_HUB_OFFLINE=1 keeps the Hub out of reach: unset it to push")
    if get_token() is None:
        raise HubError(f"{repository}: nobody is logged in to the Hub: run hf auth login, or set HF_TOKEN")
    disable_progress_bars()
    api = HfApi(library_name="finetune-schedules")
    try:
        # The owner is filled in by the Hub where the name has none.
        made = api.create_repo(repository, private=private or None, exist_ok=True)
        operations = [CommitOperationAdd(name, path) for name, path in files.items()]
        commit: Any = api.create_commit(made.repo_id, operations, commit_message=f"Add the model of {run.path.name}")
    except Exception as error:
        raise HubError(f"{repository}: {_why_not(error)}") from error
    return str(commit.commit_url)


def _why_not(error: Exception) -> str:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if status in REFUSALS:
        return f"the Hub refuses it ({status}): {REFUSALS[status]}"
    if status is not None:
        return f"the Hub answers {status}: {first_line(error)}"
    return f"the Hub can't be reached, or broke off: {first_line(error)}; what was there is as it was"

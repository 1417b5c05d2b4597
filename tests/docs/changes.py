"""Copies of the repository: the changes to them that blocks of CONTRIBUTING.md say, and Python run with their code."""

import os
import re
import subprocess
import sys

PLACE = re.compile(r"# (?P<path>[\w/]+\.py)(?:, (?P<where>before|in|among) (?P<what>[\w ]+))?\n+")


def put(folder, block):
    """Makes the change that a block of the page says, in the copy in `folder`; returns the file's path."""
    place = PLACE.match(block)
    path, code = folder / place["path"], block[place.end() :]
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    match place["where"], place["what"]:
        case None, None:
            text = f"{text}\n\n{code}" if text else code
        case "among", "the imports":
            text = re.sub(r"^from finetune\.", f"{code}from finetune.", text, count=1, flags=re.MULTILINE)
        case "before", name:
            text = re.sub(rf"^{name}\b", f"{code}\n\n{name}", text, count=1, flags=re.MULTILINE)
        case "in", name:
            text, count = re.subn(rf"^({name}\b[^=\n]*= [\[{{])", rf"\1\n{code}", text, count=1, flags=re.MULTILINE)
            assert count == 1, block
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def run_python(copy, *arguments, folder=None):
    """Runs Python with the code of a copy, there or in `folder`; returns what it printed, once all went well."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder or copy,
        env=os.environ | {"PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}{done.stderr}"
    return done.stdout

"""Files that a script writes from the code: written, or checked for being as they would be written."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

Same = Callable[[str, str], bool]


def main(script: str, about: str, written: Callable[[], Mapping[Path, str]], *, same: Same = str.__eq__) -> None:
    """The command line of `script`: writes the files of `written` that aren't the `same` as those that are there.

    With --check it writes nothing, and fails where there is one.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    for path, text in written().items():
        if path.is_file() and same(path.read_text(encoding="utf-8"), text):
            continue
        if check:
            sys.exit(f"{path.relative_to(ROOT)} isn't as {script} writes it: run it")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"{path.relative_to(ROOT)} written")

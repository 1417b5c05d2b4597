"""The changes to the package that blocks of CONTRIBUTING.md say, each in its first line where it goes."""

import re

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

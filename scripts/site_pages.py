"""What `scripts/docs` asks of the site besides docs/: pages that lie elsewhere in the repository, and links that hold.

Pages are written to be read in the repository, and link to each other and to other files by where these lie there. On
the site the README, CONTRIBUTING.md and others are pages too, under names of their own, and each file that a page links
to is there. mkdocs calls the functions that begin with `on_`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = "docs/"
ELSEWHERE = {
    "README.md": "readme.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "scripts/bench/README.md": "benchmarks.md",
}
"""Pages outside docs/, by their names on the site."""
LINK = re.compile(r"\[(?P<label>[^\[\]]*)\]\((?P<path>[^()\s#:]+)(?P<anchor>#[^()\s]*)?\)")
IN_A_LIST = re.compile(r"(?<=\n\n)(?: {6}.*\n)+")
"""A block of code within an item of a list, as GitHub reads it; Python-Markdown reads it from eight spaces on."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that lie elsewhere, and all files that pages link to and that no page is."""
    from mkdocs.structure.files import File

    for source, name in ELSEWHERE.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    pages = [
        *ELSEWHERE,
        *(DOCS + file.src_uri for file in files.documentation_pages() if (ROOT / DOCS / file.src_uri).is_file()),
    ]
    linked = {target for page in pages for target in targets(page)}
    for target in sorted(linked):
        if not target.startswith(DOCS) and target not in ELSEWHERE and (ROOT / target).is_file():
            files.append(File.generated(config, target, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Page, config: Any, files: Any) -> str:
    """Returns a page's text with its links as they are on the site."""
    names = {name: source for source, name in ELSEWHERE.items()}
    source = names.get(page.file.src_uri, DOCS + page.file.src_uri)
    return IN_A_LIST.sub(lambda block: indent(block[0], "  "), as_on_the_site(markdown, source))


def targets(page: str) -> Iterator[str]:
    """Yields what a page of the repository links to within it, as paths from its root."""
    for link in LINK.finditer((ROOT / page).read_text(encoding="utf-8")):
        yield _target(page, link["path"])


def as_on_the_site(text: str, page: str) -> str:
    """Returns the text of a page of the repository with the links that it has on the site."""
    here = posixpath.dirname(_on_the_site(page))

    def rewritten(link: re.Match[str]) -> str:
        target = _target(page, link["path"])
        if (ROOT / target).is_dir():  # GitHub lists it; the site has nothing to show
            return link["label"]
        place = _on_the_site(target)
        return f"[{link['label']}]({posixpath.relpath(place, here or '.')}{link['anchor'] or ''})"

    return LINK.sub(rewritten, text)


def _target(page: str, path: str) -> str:
    target = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
    return f"{target}/README.md" if (ROOT / target / "README.md").is_file() else target


def _on_the_site(path: str) -> str:
    return ELSEWHERE.get(path, path.removeprefix(DOCS))

"""Every link within the documentation leads somewhere, anchors included, and every page is in the site's navigation."""

import re
from importlib import util
from pathlib import PurePosixPath

import pytest

from tests.docs.pages import ROOT, page

DOCS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "scripts/bench/README.md", *DOCS]
CODE = re.compile(r"^```.*?^```$|``.*?``|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^()\s#]*)(?:#([^()\s]*))?\)")


def links_of(name):
    """Returns the path and the anchor of each link of a page; "" where there is none."""
    return LINK.findall(CODE.sub("", page(name)))


def anchors_of(name):
    """Returns the anchors that GitHub gives the headings of a page."""
    anchors = []
    for heading in re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page(name), flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    ):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        anchors.append(f"{anchor}-{anchors.count(anchor)}" if anchor in anchors else anchor)
    return anchors


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name):
    for path, anchor in links_of(name):
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.resolve().exists(), f"{name}: {path} isn't there"
        if anchor and target.suffix == ".md":
            assert anchor in anchors_of(target.resolve().relative_to(ROOT)), f"{name}: {path} has no heading #{anchor}"


def test_a_link_that_leads_nowhere_would_be_found():
    assert LINK.findall(CODE.sub("", "[a](b.md#c) `[d](e)` [f](https://g) [h](#i)")) == [("b.md", "c"), ("", "i")]


@pytest.fixture(scope="module")
def site_pages():
    """The module of scripts/site_pages.py, which needs no mkdocs until it is called by it."""
    found = util.spec_from_file_location("site_pages", ROOT / "scripts" / "site_pages.py")
    module = util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_every_page_is_in_the_navigation_of_the_site(site_pages):
    navigation = set(re.findall(r"\S+\.md$", page("mkdocs.yml").split("\nnav:\n", 1)[1], re.MULTILINE))
    assert navigation == {PurePosixPath(name).relative_to("docs").as_posix() for name in DOCS} | {
        *site_pages.ELSEWHERE.values()
    }


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("README.md", "[a](docs/comparing.md#b)", "[a](comparing.md#b)"),
        ("README.md", "[a](docs/studies)", "[a](studies/README.md)"),
        ("README.md", "![a](docs/schedules.svg)", "![a](schedules.svg)"),
        ("README.md", "[`a`](scripts/examples) b", "`a` b"),
        ("docs/comparing.md", "[a](../scripts/bench/README.md)", "[a](benchmarks.md)"),
        ("docs/studies/README.md", "[a](../../README.md#b)", "[a](../readme.md#b)"),
        ("docs/studies/README.md", "[a](../../recipes/bert_sst2.yaml)", "[a](../recipes/bert_sst2.yaml)"),
        (
            "scripts/bench/README.md",
            "[a](../../CONTRIBUTING.md) [b](https://c.d/e)",
            "[a](contributing.md) [b](https://c.d/e)",
        ),
    ],
)
def test_links_are_rewritten_for_the_site(site_pages, name, text, expected):
    assert site_pages.as_on_the_site(text, name) == expected

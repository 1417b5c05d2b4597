"""The page in a real browser: it loads nothing, complains of nothing, and does what its buttons say."""

import pytest

from finetune.report import write_report

HOSTILE = "</script><img src=x onerror=alert(1)>"
FIGURES = ("rates", "scores", "differences", "learning", "peaks")


def test_it_loads_nothing_and_complains_of_nothing(small, open_page):
    opened = open_page(small)
    assert opened.requests == [opened.url]
    assert opened.complaints == []


def test_every_figure_shows_every_schedule(small, open_page):
    page = open_page(small).page
    for figure in FIGURES:
        shown = page.evaluate(
            """figure => [...document.querySelectorAll(`figure.${figure} .panel`)].map(
                panel => [...panel.querySelectorAll("g[data-keys]")].filter(
                    each => each.getBoundingClientRect().width > 5).length)""",
            figure,
        )
        assert shown == ([2, 2] if figure == "differences" else [3, 3]), figure


@pytest.mark.parametrize("way", ["click", "Enter", "Space"])
def test_a_schedule_is_highlighted_everywhere_and_then_let_go(small, open_page, way):
    opened = open_page(small)
    chip = opened.chip("linear")
    number = chip.get_attribute("data-pick")

    def press():
        if way == "click":
            chip.click()
        else:
            chip.focus()
            opened.page.keyboard.press(way)

    press()
    assert chip.get_attribute("aria-pressed") == "true"
    for place in [*(f"figure.{figure} g" for figure in FIGURES), "tr"]:
        assert set(opened.opacity(f'{place}[data-keys~="{number}"]')) == {1}, place
        assert max(opened.opacity(f'{place}[data-keys]:not([data-keys~="{number}"])')) < 0.5, place
    press()
    assert chip.get_attribute("aria-pressed") == "false"
    assert set(opened.opacity("[data-keys]")) == {1}


PLACES = ("figure.rates g[data-pick]", "figure.scores text", "figure.differences g[data-pick]", "tr [data-pick]")


@pytest.mark.parametrize("place", PLACES)
def test_a_click_on_a_mark_or_a_name_highlights_its_schedule(small, open_page, place):
    page = open_page(small).page
    part = page.locator(f"{place}:is([data-pick], [data-pick] *)").first
    part.dispatch_event("click")
    number = part.evaluate("each => each.closest('[data-pick]').dataset.pick")
    pressed = page.locator('.chips [aria-pressed="true"]')
    assert [pressed.get_attribute("data-pick")] == [number]


def test_escape_lets_go(small, open_page):
    opened = open_page(small)
    opened.chip("step").click()
    opened.page.keyboard.press("Escape")
    assert set(opened.opacity("[data-keys]")) == {1}


def test_every_schedule_can_be_reached_with_the_keyboard_and_its_focus_seen(small, open_page):
    opened = open_page(small)
    for name in ("cosine", "linear", "step"):
        opened.page.keyboard.press("Tab")
        assert opened.page.evaluate("document.activeElement.textContent") == name
        assert opened.colour(":focus", "outlineStyle") == "solid"


def test_it_is_dark_where_the_system_is_dark(small, open_page):
    light, dark = open_page(small, color_scheme="light"), open_page(small, color_scheme="dark")
    assert light.colour("body", "backgroundColor") == "rgb(255, 255, 255)"
    assert dark.colour("body", "backgroundColor") == "rgb(20, 23, 27)"
    for place, of in (("body", "color"), ("figure.scores circle", "fill"), ("figure.scores text", "fill")):
        assert light.colour(place, of) != dark.colour(place, of)


def test_the_button_turns_it_dark_and_light_again(small, open_page):
    opened = open_page(small, color_scheme="light")
    button = opened.page.locator("#theme")
    button.click()
    assert opened.colour("body", "backgroundColor") == "rgb(20, 23, 27)"
    button.click()
    assert opened.colour("body", "backgroundColor") == "rgb(255, 255, 255)"


@pytest.mark.parametrize("place", ["schedule", "name", "optimizer", "classes"])
def test_a_label_that_holds_a_script_stays_text(runs, tmp_path, open_page, place):
    hostile = [HOSTILE, "fine"] if place == "classes" else HOSTILE
    for seed in range(2):
        runs.add(**({"seed": seed, "score": 0.8 + seed / 100} | {place: hostile}))
        runs.add("linear" if place != "schedule" else "step", 0.7, seed=seed)
    write_report(runs.analyse(), tmp_path / "report.html")
    opened = open_page(tmp_path / "report.html")
    assert opened.page.locator("img").count() == 0
    assert HOSTILE in opened.page.locator("body").inner_text()
    assert opened.complaints == []
    assert opened.requests == [opened.url]


def test_a_script_that_got_in_would_not_run(small, open_page):
    opened = open_page(small)
    opened.page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = 1\">')")
    opened.page.wait_for_timeout(50)
    assert opened.page.evaluate("window.ran") is None


@pytest.mark.parametrize("width", [400, 800, 1280])
def test_it_is_no_wider_than_the_window(small, open_page, width):
    page = open_page(small, viewport={"width": width, "height": 800}).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_no_text_in_a_figure_is_cut_off(runs, tmp_path, open_page):
    for seed in range(2):
        runs.add("a-schedule-with-quite-a-long-name-of-which-nothing-may-be-lost", seed=seed, optimizer="sgd")
        runs.add("linear", 0.7, seed=seed, optimizer="sgd", diverged=seed == 0)
    write_report(runs.analyse(), tmp_path / "report.html")
    outside = open_page(tmp_path / "report.html").page.evaluate(
        """() => [...document.querySelectorAll(".panel svg")].flatMap(svg => {
            const frame = svg.getBoundingClientRect();
            return [...svg.querySelectorAll("text")].filter(text => {
                const box = text.getBoundingClientRect();
                return box.left < frame.left - 1 || box.right > frame.right + 1;
            }).map(text => text.textContent);
        })"""
    )
    assert outside == []


def test_words_tables_and_figures_are_there_without_scripts(small, open_page):
    page = open_page(small, java_script_enabled=False).page
    text = page.locator("body").inner_text()
    assert "Scripts are off" in text
    assert "Each schedule is set against cosine" in text
    assert page.locator("table").count() >= 3
    assert page.locator("figure svg").count() >= 10

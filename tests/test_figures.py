"""Pictures of curves: every format, what a reader must be able to tell from them, and the plots in the terminal."""

import io
import math
import re
import struct
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from rich.console import Console

from finetune.errors import FinetuneError, SettingError
from finetune.figures import Curve, draw, draw_panels, print_curves, save

TITLES = {"title": "Title & all", "x_title": "update", "y_title": "rate"}
RISE = Curve("rise", range(11), [t / 10 for t in range(11)])
FALL = Curve("fall", range(11), [1 - t / 10 for t in range(11)])
STAIRS = Curve("stairs", range(40), [1.0] * 20 + [0.5] * 20)


class Loads(HTMLParser):
    """What a page loads when it is opened: by an attribute of an element, or by a rule of a style."""

    def __init__(self, page):
        super().__init__()
        self.found, self.place = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.place = tag
        self.found += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]

    def handle_data(self, data):
        if self.place == "style":
            self.found += re.findall(r"@import.*|url\(.*", data)


@pytest.fixture
def picture():
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")


def rows_of(chart):
    """The points that a chart of one plot draws."""
    (rows,) = data_of(chart, "line")
    return rows


def data_of(chart, mark):
    spec = chart.to_dict()
    names = [layer.get("data", spec.get("data"))["name"] for layer in spec["layer"] if layer["mark"]["type"] == mark]
    return [spec["datasets"][name] for name in names]


def lines_of(svg):
    marked = [group for group in ET.fromstring(svg).iter() if "mark-line" in group.get("class", "")]
    return [path for group in marked for path in group if path.tag.endswith("}path")]


def svg_of(chart, folder):
    save(chart, folder / "a.svg")
    return (folder / "a.svg").read_text(encoding="utf-8")


def printed(curves, *, width, colour=None, encoding="utf-8", **settings):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, color_system=colour, force_terminal=colour is not None)
    print_curves(curves, console, **settings)
    file.flush()
    return file.buffer.getvalue().decode(encoding)


def test_values_must_be_as_many_as_steps():
    with pytest.raises(ValueError, match="rise: 2 steps, but 1 values"):
        Curve("rise", [0, 1], [0.5])


def test_a_png_has_two_pixels_for_each_of_the_readme_s_900(picture, tmp_path):
    save(draw([RISE, FALL], **TITLES), tmp_path / "new folder" / "a.png")
    content = (tmp_path / "new folder" / "a.png").read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    assert (content[:8], width, 900 < height < 1200) == (b"\x89PNG\r\n\x1a\n", 1800, True)


def test_an_svg_has_a_line_per_curve_in_colours_of_their_own(picture, tmp_path):
    svg = svg_of(draw([RISE, FALL, STAIRS], **TITLES), tmp_path)
    assert len({path.get("stroke") for path in lines_of(svg)}) == len(lines_of(svg)) == 3
    texts = {"".join(text.itertext()) for text in ET.fromstring(svg).iter() if text.tag.endswith("}text")}
    assert {"rise", "fall", "stairs", *TITLES.values()} <= texts


def test_panels_are_as_wide_as_the_readme_and_headed_by_their_labels(picture, tmp_path):
    curves = [Curve(f"schedule_{number}", RISE.steps, RISE.values) for number in range(6)]
    svg = svg_of(draw_panels(curves, **TITLES), tmp_path)
    texts = ["".join(text.itertext()) for text in ET.fromstring(svg).iter() if text.tag.endswith("}text")]
    assert len(lines_of(svg)) == 6
    assert {*TITLES.values(), *(curve.label for curve in curves)} <= set(texts)
    assert texts.count("schedule_0") == 1  # no legend says it again
    assert float(ET.fromstring(svg).get("width")) == pytest.approx(900, abs=6)


def test_curves_of_one_panel_are_told_apart_by_a_legend(picture):
    curves = [Curve(label, RISE.steps, RISE.values, panel="both") for label in ("a", "b")]
    (panel,) = draw_panels(curves).concat
    colour = panel.layer[0].encoding.color.to_dict()
    assert (colour["scale"]["domain"], len(set(colour["scale"]["range"]))) == (["a", "b"], 2)


def test_a_page_holds_all_it_needs(picture, tmp_path):
    save(draw([RISE], **TITLES), tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "vegaEmbed(" in page
    assert Loads(page).found == []


def test_a_label_cannot_end_the_script_of_a_page(picture, tmp_path):
    save(draw([Curve("</script><b>", [0, 1], [0, 1])], **TITLES), tmp_path / "a.html")
    assert "</script><b>" not in (tmp_path / "a.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "said"),
    [("a.jpg", 'the suffix ".jpg"'), ("a", "no suffix"), ("a.pngg", r'".pngg".* \(did you mean \.png\?\)')],
)
def test_another_suffix_is_refused_with_the_choices(tmp_path, name, said):
    with pytest.raises(SettingError, match=rf"{said}") as caught:
        save(None, tmp_path / name)
    assert caught.value.field == "output"
    assert ".png, .svg, .html" in caught.value.problem
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named_and_nothing_is_left(picture, tmp_path):
    (tmp_path / "a.svg").mkdir()
    with pytest.raises(SettingError, match=r"output: .*a\.svg can't be written"):
        save(draw([RISE], **TITLES), tmp_path / "a.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["a.svg"]


def test_without_altair_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(FinetuneError, match=r"needs altair .*pip install 'finetune-schedules\[plot\]'"):
        draw([RISE], **TITLES)


def test_without_vl_convert_the_remedy_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(FinetuneError, match=r"needs vl-convert .*pip install 'finetune-schedules\[plot\]'"):
        save(None, tmp_path / "a.svg")


def test_nothing_to_draw_is_an_error(picture):
    with pytest.raises(ValueError, match="no curves"):
        draw([], **TITLES)


def test_a_long_run_is_thinned_but_keeps_its_extremes_and_its_ends(picture):
    values = [0.5] * 100_000
    values[12_345], values[12_346], values[70_001] = 9.0, -7.0, 3.0
    values[:3], values[-3:] = [0.1, 0.0, 1.0], [0.0, 1.0, 0.2]  # the ends are no extremes of their columns
    rows = rows_of(draw([Curve("long", range(100_000), values)], **TITLES))
    kept = {row["x"]: row["y"] for row in rows}
    assert len(rows) <= 4 * 900
    assert {0: 0.1, 12_345: 9.0, 12_346: -7.0, 70_001: 3.0, 99_999: 0.2}.items() <= kept.items()


def test_a_long_staircase_keeps_both_ends_of_every_tread(picture):
    values = [0.5 ** (t // 25_000) for t in range(100_000)]
    kept = {row["x"]: row["y"] for row in rows_of(draw([Curve("stairs", range(100_000), values)], **TITLES))}
    # A rise is never wider than a pixel, the 900th part of the run.
    for jump in (25_000, 50_000, 75_000):
        before, after = max(x for x in kept if x < jump), min(x for x in kept if x >= jump)
        assert (kept[before], kept[after]) == (values[jump - 1], values[jump])
        assert after - before <= 100_000 / 900


def test_a_jump_between_updates_is_upright(picture):
    points = [(row["x"], row["y"]) for row in rows_of(draw([STAIRS], **TITLES))]
    assert [point for point in points if point[0] == 20] == [(20, 1.0), (20, 0.5)]


def test_a_slope_has_no_jumps(picture):
    assert len(rows_of(draw([Curve("slope", range(40), range(40))], **TITLES))) == 40


@pytest.mark.parametrize("count", [20, 20_000])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_leaves_a_gap(picture, tmp_path, count, value):
    values = [value if count * 0.4 <= t < count * 0.6 else 0.5 for t in range(count)]
    (path,) = lines_of(svg_of(draw([Curve("torn", range(count), values)], **TITLES), tmp_path))
    assert path.get("d").count("M") == 2


def test_curves_without_a_number_are_drawn_empty(picture, tmp_path):
    empty = Curve("none", [0, 1], [math.nan, math.nan])
    assert "none" in svg_of(draw([empty], **TITLES), tmp_path)
    assert "none" in printed([empty], width=40)


def test_beyond_eight_curves_dashes_tell_them_apart(picture):
    curves = [Curve(str(number), RISE.steps, RISE.values) for number in range(20)]
    (lines,) = draw(curves, **TITLES).layer
    colours, dashes = (
        channel.to_dict()["scale"]["range"] for channel in (lines.encoding.color, lines.encoding.strokeDash)
    )
    looks = zip(colours, dashes, strict=True)
    assert len({(colour, tuple(dash)) for colour, dash in looks}) == 20


def test_runs_of_one_label_share_its_colour_and_are_not_joined(picture, tmp_path):
    svg = svg_of(draw([RISE, Curve("rise", FALL.steps, FALL.values)], **TITLES), tmp_path)
    assert len(lines_of(svg)) == 2
    assert len({path.get("stroke") for path in lines_of(svg)}) == 1


def test_a_logarithmic_axis_has_powers_of_ten_and_marks(picture, tmp_path):
    loss = Curve("loss", [0.0, 1e-6, 1e-5, 1e-4, 1e-3], [9.0, 0.7, 0.6, 0.3, 2.0])
    chart = draw([loss], **TITLES, log_x=True, marks={"steepest": 3e-5, "least": 1e-4, "nowhere": 0.0})
    svg = svg_of(chart, tmp_path)
    texts = {"".join(text.itertext()) for text in ET.fromstring(svg).iter() if text.tag.endswith("}text")}
    assert {"1e-6", "1e-5", "1e-4", "1e-3", "steepest", "least"} <= texts
    assert "nowhere" not in texts
    assert [row["x"] for row in rows_of(chart)] == [1e-6, 1e-5, 1e-4, 1e-3]  # 0 has no place


def test_labels_of_marks_close_together_stand_in_rows_of_their_own(picture):
    chart = draw([RISE], **TITLES, marks={"here": 5.0, "and just beside it": 5.1, "far away": 1.0})
    flags = [layer for layer in chart.to_dict()["layer"] if layer["mark"]["type"] == "text"]
    labels = [rows[0]["text"] for rows in data_of(chart, "text")]
    heights = dict(zip(labels, (flag["encoding"]["y"]["value"] for flag in flags), strict=True))
    assert heights["far away"] == heights["and just beside it"] > heights["here"]


@pytest.mark.parametrize("colour", [None, "truecolor"])
@pytest.mark.parametrize("count", [1, 3, 7])
@pytest.mark.parametrize("width", [40, 100])
def test_a_plot_in_the_terminal_fits_and_names_its_curves(width, count, colour):
    curves = [Curve(f"schedule {number} (warmup=10%)", RISE.steps, RISE.values) for number in range(count)]
    text = re.sub(r"\x1b\[[\d;]*m", "", printed(curves, width=width, colour=colour, **TITLES))
    assert max(map(len, text.splitlines())) <= width
    assert all(curve.label in text for curve in curves)
    assert {"Title & all", "update", "rate"} <= {line.strip() for line in text.splitlines()}


def test_a_plot_in_the_terminal_is_as_high_as_asked_and_numbers_its_axes():
    lines = printed([RISE], width=40, height=7).splitlines()
    assert [line.split("│")[0].strip() for line in lines[:7]] == ["1", "", "", "0.5", "", "", "0"]
    assert lines[8].split() == ["0", "5", "10"]


def test_in_the_terminal_a_line_passes_through_its_values():
    # 38 columns and 3 rows of 2 × 4 dots: the stairs stand on the top row of dots, then in the middle, then at 0.
    values = [1.0] * 25 + [0.0] * 26
    lines = printed([Curve("stairs", range(51), values)], width=40, height=3).splitlines()
    top, middle, bottom = (line.split("│")[1] for line in lines[:3])
    assert set(top.rstrip()[:-1]) == {"⠉"}
    assert len(middle.split()) == 1
    assert set(bottom.strip()[1:]) == {"⣀"}


def test_without_colour_curves_are_told_apart_by_signs():
    text = printed([RISE, FALL], width=40)
    assert "● rise" in text
    assert "× fall" in text
    assert text.count("●") > 10 < text.count("×")


def test_more_than_four_stand_in_panels_without_a_legend():
    lines = printed([Curve(label, RISE.steps, RISE.values) for label in "abcde"], width=100).splitlines()
    assert [line.split() for line in lines if line.split() and set(line.split()) <= set("abcde")] == [
        list("abc"),
        list("de"),
    ]
    assert not any("●" in line for line in lines)


def test_curves_on_the_same_place_take_turns():
    first = printed([RISE, Curve("same", RISE.steps, RISE.values)], width=40)
    assert abs(first.count("●") - first.count("×")) <= 12


def test_a_terminal_of_plain_letters_is_given_only_these():
    assert printed([RISE, FALL], width=40, encoding="ascii").isascii()


def test_a_gap_shows_in_the_terminal():
    torn = Curve("torn", range(30), [math.nan if 10 <= t < 20 else 1.0 for t in range(30)])
    assert len(printed([torn], width=40).splitlines()[0].split("│")[1].split()) == 2


def test_a_label_is_not_read_as_markup():
    assert "[red]x[/red]" in printed([Curve("[red]x[/red]", [0, 1], [0, 1])], width=40)

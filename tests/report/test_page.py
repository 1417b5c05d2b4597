"""What the page says, whatever the runs: escaped, in words, and also where there is little or too much to show."""

import re
import xml.etree.ElementTree as ET

import pytest

from finetune.errors import RecordError
from finetune.evaluation.record import StudyPart
from finetune.report import write_figures, write_report
from finetune.report.figure import PADDING
from finetune.report.scores import PIXELS_PER_DIGIT

HOSTILE = "</script><img src=x onerror=alert(1)>&\u2028\"'"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def page(runs, tmp_path):
    """A function that returns the page of all runs that were added."""

    def text():
        path = tmp_path / "report.html"
        write_report(runs.analyse(), path)
        return path.read_text(encoding="utf-8")

    return text


def words_of(page):
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


def test_the_conclusion_comes_before_any_figure_or_table(runs, page):
    runs.add_study(schedules=("cosine", "linear"), optimizers=("adamw",))
    text = page()
    (analysis,) = runs.analyse().each
    assert all(sentence in words_of(text) for sentence in analysis.conclusion)
    places = [text.index(part) for part in ('class="conclusion"', "<figure", "<table")]
    assert places == sorted(places)


def test_what_was_asked_is_said(runs, page):
    runs.add_study(schedules=("cosine", "linear"), optimizers=("adamw", "sgd"))
    text = words_of(page())
    assert "Each schedule is set against cosine, seed by seed." in text
    assert "A difference below 0.01 was declared too small to matter." in text
    assert "4 rows in 2 contexts, 8 seeds each, judged on 1,000 test examples." in text
    assert "None of the 32 runs diverged." in text


def test_diverged_runs_are_counted(runs, page):
    runs.add_study(schedules=("cosine", "constant"), optimizers=("sgd",))
    text = words_of(page())
    assert "2 of 16 runs diverged." in text
    assert "2 of 8 diverged" in text


def test_text_of_runs_is_escaped_everywhere(runs, page):
    for seed in range(2):
        runs.add(HOSTILE, seed=seed, name=HOSTILE, optimizer=HOSTILE, classes=[HOSTILE, "b"])
        runs.add("linear", seed=seed, name=HOSTILE, optimizer=HOSTILE, classes=[HOSTILE, "b"])
    text = page()
    assert "<img" not in text
    assert text.count("</script>") == 1
    assert "onerror=alert(1)>" not in text


def test_it_names_no_place_of_the_machine(runs, page):
    runs.add()
    assert "/a/place/of/mine" not in page()


def test_it_can_load_nothing(runs, page):
    runs.add_study(schedules=("cosine", "linear"), optimizers=("adamw",), seeds=2)
    text = page()
    assert "default-src 'none'" in text
    assert not re.findall(
        r"<(?:link|img|iframe|script [^>]*src)|@import|url\(|https?://(?!www\.w3\.org/2000/svg)", text
    )


def test_headings_of_tables_say_what_they_head(runs, page):
    runs.add_study(schedules=("cosine", "linear"), optimizers=("adamw", "sgd"), seeds=2)
    assert {*re.findall(r"<th[ >][^>]*", page())} <= {
        '<th scope="col"',
        '<th scope="row"',
        '<th scope="row" class="whole"',
        *(f'<th scope="rowgroup" colspan="{columns}"' for columns in range(20)),
    }


def test_figures_are_images_with_words(runs, page):
    runs.add_study(schedules=("cosine", "linear"), optimizers=("adamw",), seeds=3)
    images = re.findall(r'<svg [^>]*role="img"[^>]*>', page())
    assert len(images) == 5
    assert all("aria-label=" in image for image in images)
    assert "Mean test accuracy: cosine 0." in "".join(images)


DEGENERATE = {
    "one run": [{}],
    "one seed of two": [{}, {"schedule": "linear"}],
    "no history": [{"history": False}, {"schedule": "linear", "history": False}],
    "all diverged": [{"diverged": True}, {"schedule": "linear", "diverged": True}],
    "one row diverged": [{"seed": 0}, {"seed": 1}, {"schedule": "linear", "diverged": True}],
    "diverged at once": [{"diverged": True, "updates": 1}, {"schedule": "linear", "updates": 1}],
    "equal scores": [{"seed": seed, "schedule": name} for seed in range(6) for name in ("cosine", "linear")],
    "one schedule, two optimizers": [{"seed": s, "optimizer": o} for s in range(6) for o in ("adamw", "sgd")],
    "no seed in common": [{"seed": 0}, {"seed": 1, "schedule": "linear"}],
    "perfect": [{"score": 1.0, "seed": seed, "schedule": name} for seed in (0, 1) for name in ("cosine", "linear")],
}


def add_errors(runs, metric, scale):
    """Adds two schedules of six seeds, cosine worse by a tenth, and the runs that chose their peak rates."""
    part = {"name": "errors", "keys": ["schedule"], "tuned": ["optimizer.learning_rate"], "target": scale}
    for schedule, mean in (("cosine", 1.1 * scale), ("step", scale)):
        for peak in (1e-4, 3e-4):
            tuning = StudyPart(role="tuning", **part)
            runs.add(schedule, mean * (1 + peak), metric=metric, seed=100, peak=peak, study=tuning)
        for seed in range(6):
            runs.add(schedule, mean * (1 + seed / 100), metric=metric, seed=seed, study=StudyPart(role="final", **part))


@pytest.mark.parametrize(
    ("metric", "scale", "means"),
    [
        ("perplexity", 31.4, "step 32.18 of 6 runs; cosine 35.40 of 6 runs"),
        ("mse", 0.0003, "step 0.0003075 of 6 runs; cosine 0.0003383 of 6 runs"),
        ("mse", 0.4, "step 0.4100 of 6 runs; cosine 0.4510 of 6 runs"),
    ],
)
def test_a_metric_of_which_less_is_better_is_shown_as_such(runs, page, metric, scale, means):
    add_errors(runs, metric, scale)
    text = page()
    words = words_of(text)
    assert f"step has the lowest test {metric}, and is shown to differ from every other (6 seeds)." in words
    assert f"Less {metric} is better." in words
    assert "below 0, the first is better" in words
    assert "less is better" in words
    assert f"Mean test {metric}: {means}." in text
    assert "accuracy" not in text
    assert "highest" not in words.replace("with the highest peak", "")


def test_a_figure_of_small_errors_has_room_for_its_digits(runs, tmp_path):
    add_errors(runs, "mse", 0.0003)
    paths = {path.stem: path for path in write_figures(runs.analyse(), tmp_path / "figures")}
    drawing = ET.parse(paths["scores"]).getroot()
    (mean,) = (text for text in drawing.iter(f"{SVG}text") if text.text == "0.0003075")
    assert float(mean.get("x")) + len(mean.text) * PIXELS_PER_DIGIT <= float(drawing.get("width")) - 2 * PADDING
    ticks = {text.text for text in drawing.iter(f"{SVG}text") if text.get("text-anchor") == "middle"}
    assert "3.2e-4" in ticks


def test_runs_without_classes_have_none_to_name(runs, page):
    runs.add(metric="mse", classes=())
    assert "<dt>Classes</dt>" not in page()


@pytest.mark.parametrize("added", DEGENERATE.values(), ids=DEGENERATE)
def test_little_to_show_is_shown(runs, page, tmp_path, added):
    for run in added:
        runs.add(**run)
    text = page()
    assert "nan" not in re.findall(r'="[^"]*"', text)
    assert "Every row had one budget" in text
    for path in write_figures(runs.analyse(), tmp_path / "figures"):
        assert "NaN" not in path.read_text(encoding="utf-8").replace("NaN]", "")
        ET.parse(path)


def test_what_there_is_nothing_of_is_said(runs, page):
    runs.add(history=False)
    text = words_of(page())
    assert "there are no learning curves" in text
    assert "Each row was run at one peak rate" in text
    assert "Every row had one budget, 40 updates" in text
    assert "No two rows may be set against each other" in text


def test_budgets_are_drawn_where_they_differ(runs, tmp_path):
    for updates in (16, 64):
        for seed in range(2):
            for name in ("cosine", "linear"):
                runs.add(name, 0.7 + updates / 1000, seed=seed, updates=updates)
    paths = {path.stem: path for path in write_figures(runs.analyse(), tmp_path / "figures")}
    words = ET.parse(paths["budgets"]).findtext(f"{SVG}desc")
    assert "cosine 0.7160 at 16, 0.7640 at 64" in words


def test_peaks_are_drawn_where_rows_differ_in_them(runs, tmp_path):
    for peak in (1e-4, 3e-4):
        runs.add(score=0.7 + 100 * peak, peak=peak)
    paths = {path.stem: path for path in write_figures(runs.analyse(), tmp_path / "figures")}
    words = ET.parse(paths["peaks"]).findtext(f"{SVG}desc")
    assert "0.7100 at 1e-4, 0.7300 at 3e-4" in words


def test_fifty_rows_of_long_runs_make_no_huge_page(runs, page):
    for row in range(50):
        for seed in range(4):
            runs.add(f"schedule-{row}", 0.7 + row / 1000 + seed / 500, seed=seed, updates=1000, history=False)
    assert len(page().encode()) < 1_000_000


def test_a_figure_by_itself_needs_no_style(runs, tmp_path):
    runs.add_study(schedules=("cosine", "linear"), optimizers=("adamw", "sgd"), seeds=3)
    paths = write_figures(runs.analyse(), tmp_path / "figures")
    assert [path.name for path in paths] == ["rates.svg", "scores.svg", "differences.svg", "learning.svg", "peaks.svg"]
    for path in paths:
        text = path.read_text(encoding="utf-8")
        assert "var(" not in text
        assert {"cosine", "linear"} <= {element.text for element in ET.fromstring(text).iter(f"{SVG}text")}


def test_a_place_that_cant_be_written_is_named(runs, tmp_path):
    runs.add()
    (tmp_path / "report.html").mkdir()
    with pytest.raises(RecordError, match=r"report\.html: can't be written"):
        write_report(runs.analyse(), tmp_path / "report.html")

"""The card of a run's model, made of its record alone: what the Hub reads of it, and what people do.

Whatever comes from data or a recipe is set as code or escaped, so that it can be no markup; paths are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from finetune.evaluation.forms import form_of, written
from finetune.evaluation.markdown import code, code_block, escaped, table
from finetune.evaluation.record import GroupRates, RunRecord, Score, write_atomically
from finetune.figures.curves import Curve, number
from finetune.keys import brief
from finetune.report.axes import MARGIN, Axis
from finetune.report.figure import Figure, picture
from finetune.report.legend import PRINT, Legend
from finetune.report.plot import Plot, pieces_of, stroke
from finetune.report.provenance import without_places

CARD, PICTURE = "README.md", "schedule.svg"
HUB = "https://huggingface.co"
MOST_CLASSES = 50
UNKNOWN = "–"

TAGS = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForImageClassification": "image-classification",
    "ForMaskedLM": "fill-mask",
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
}
"""How the Hub calls what a model with a head of this kind does."""
CALLS = {
    "text-classification": 'answer("a text")',
    "token-classification": 'answer("a text")',
    "image-classification": 'answer("a file or an address of an image")',
    "fill-mask": 'answer(f"a text with a {answer.tokenizer.mask_token} in it")',
    "text-generation": 'answer("the beginning of a text")',
}
"""How transformers' pipeline of that name is called, where there is one."""


def write_card(folder: Path, record: RunRecord) -> None:
    """Writes the card of the model in `folder`, and the picture that it shows, each whole or not at all.

    Raises RecordError where the place can't be written.
    """
    for name, content in ((PICTURE, schedule_picture(record)), (CARD, model_card(record))):
        _write(folder / name, content)


def _write(path: Path, content: str) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(content, encoding="utf-8"))


def model_card(record: RunRecord) -> str:
    """Returns the card of the model of a run that is finished: a block of YAML, then Markdown."""
    head = yaml.safe_dump(_metadata(record), sort_keys=False, allow_unicode=False, width=10_000)
    parts = [
        f"---\n{head}---",
        f"# {escaped(record.name)}",
        _summary(record),
        *_section("Scores", _scores(record)),
        *_section("Use", _use(record)),
        *_section("Data", _data(record)),
        *_section("Schedule", _schedule(record)),
        *_section("Training", _training(record)),
        *_section("To make it again", _again(record)),
        *_section("Limits", ["\n".join(f"- {each}" for each in _limits(record))]),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, paragraphs: Iterator[str] | Sequence[str]) -> list[str]:
    return [f"## {title}", *paragraphs]


def tag_of(record: RunRecord) -> str | None:
    """Returns how the Hub calls what the model does; None where the name of its class doesn't tell."""
    architecture = record.identity.model.architecture
    return next((tag for ending, tag in TAGS.items() if architecture.endswith(ending)), None)


def _metadata(record: RunRecord) -> dict[str, Any]:
    """Returns what the Hub reads; no licence, as those of the base and of the data aren't known."""
    base, data = record.recipe["model"].get("hub"), record.recipe["data"].get("hub")
    adapter = _is_adapter(record)
    found = {
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": tag_of(record),
        "base_model": base,
        "base_model_relation": base and ("adapter" if adapter else "finetune"),
        "datasets": [data] if data else None,
        "metrics": [name.removeprefix("hub:") for name in _metrics(record)],
        "tags": ["finetune-schedules", f"{record.schedule.settings['name']}-schedule"],
        "model-index": _index(record),
    }
    return {key: value for key, value in found.items() if value}


def _metrics(record: RunRecord) -> list[str]:
    return list(dict.fromkeys(name for split in _splits(record).values() for name in split.metrics))


def _splits(record: RunRecord) -> dict[str, Any]:
    """Returns the scored splits, those that nothing was chosen by first."""
    splits = record.results.splits if record.results else {}
    return dict(sorted(splits.items(), key=lambda item: item[0] != "test"))


def _index(record: RunRecord) -> list[dict[str, Any]]:
    """Returns the scores as the Hub's model-index has them; those that aren't finite are none."""
    data = record.recipe["data"]
    task = {"type": tag_of(record) or "other", "name": str(record.recipe["task"]["name"]).replace("_", " ")}
    results = []
    for split, result in _splits(record).items():
        own = (data.get("splits") or {}).get(split, split)
        dataset = {"name": data.get("hub") or record.name, "type": data.get("hub") or record.name}
        dataset |= {key: value for key, value in (("config", data.get("config")), ("split", own)) if value}
        metrics = [
            {"type": name.removeprefix("hub:"), "name": f"{split} {name}", "value": score.value}
            for name, score in result.metrics.items()
            if score.value is not None
        ]
        if metrics:
            results.append({"task": dict(task), "dataset": dataset, "metrics": metrics})
    return [{"name": record.name, "results": results}] if results else []


def _summary(record: RunRecord) -> str:
    schedule, task = record.schedule.settings["name"], str(record.recipe["task"]["name"]).replace("_", " ")
    model = record.identity.model
    hub = record.recipe["model"].get("hub")
    base = f"[{escaped(hub)}]({HUB}/{hub})" if hub else code(model.source)
    commit = f" at {code(model.commit)}" if model.commit else ""
    what = "An adapter of" if _is_adapter(record) else "Fine-tuned from"
    return (
        f"{what} {base}{commit} for {escaped(task)}, with the learning-rate schedule {code(schedule)}, by "
        f"finetune-schedules. {code(model.architecture)}, {model.parameters:,} parameters."
    )


def _is_adapter(record: RunRecord) -> bool:
    adapter = record.recipe.get("adapter")
    return isinstance(adapter, Mapping) and adapter.get("merge") is False


def _scores(record: RunRecord) -> Iterator[str]:
    rows = []
    for split, result in _splits(record).items():
        rows += [
            (code(split, in_table=True), f"{result.count:,}", code(name, in_table=True), *_figures(score))
            for name, score in result.metrics.items()
        ]
    yield table(("split", "examples", "metric", "value", "± standard error"), rows)
    results = record.results
    assert results is not None  # noqa: S101 - a run that is finished has results
    chosen = f", the best of the run by validation {code(results.select)}" if results.kept == "best" else ", the last"
    yield (
        f"Of the model after {results.kept_step:,} of {record.schedule.total_steps:,} updates{chosen}. The standard "
        "error is over the choice of examples, this one model held fixed: another seed would give another model."
    )


def _figures(score: Score) -> tuple[str, str]:
    if score.value is None:
        return UNKNOWN, UNKNOWN
    error = score.standard_error
    return written(score.value), UNKNOWN if error is None else f"{error:{form_of(score.value)}}"


def _use(record: RunRecord) -> Iterator[str]:
    tag, architecture = tag_of(record), record.identity.model.architecture
    yield "`.` stands for this folder; the name of the repository takes its place where the model lies on the Hub."
    if _is_adapter(record):
        yield "The adapter is read by PEFT, its `AutoPeftModel` classes; the pretrained model must be at hand."
    elif tag in CALLS:
        yield python("from transformers import pipeline", "", f'answer = pipeline("{tag}", model=".")', CALLS[tag])
    elif architecture.isidentifier():
        yield python(f"from transformers import {architecture}", "", f'model = {architecture}.from_pretrained(".")')


def python(*lines: str) -> str:
    """Returns lines of a program as Markdown."""
    return "\n".join(("```python", *lines, "```"))


def _data(record: RunRecord) -> Iterator[str]:
    data, classes = record.recipe["data"], record.identity.classes
    if data.get("hub"):
        parts = [f"[{escaped(data['hub'])}]({HUB}/datasets/{data['hub']})"]
        parts += [f"{key} {code(str(data[key]))}" for key in ("config", "revision") if data.get(key)]
        yield ", ".join(parts) + "."
    yield table(
        ("split", "examples", "cut to fit", "SHA-256 of what was read"),
        (
            (code(name, in_table=True), f"{each.count:,}", f"{each.truncated:,}", code(each.fingerprint, in_table=True))
            for name, each in record.identity.data.items()
        ),
    )
    if classes:
        more = f" and {len(classes) - MOST_CLASSES:,} more" if len(classes) > MOST_CLASSES else ""
        yield f"Classes: {', '.join(map(code, classes[:MOST_CLASSES]))}{more}."


def _schedule(record: RunRecord) -> Iterator[str]:
    yield f"![{_course(record)}]({PICTURE})"
    settings = dict(record.schedule.settings)
    yield table(
        ("setting", "value"), ((code(key, in_table=True), _setting(value)) for key, value in settings.items()), labels=2
    )
    if record.schedule.cooldown:
        yield f"It was cooled down on request: {code(brief(record.schedule.cooldown))}."


def _setting(value: Any) -> str:
    return code(brief(value), in_table=True)


def _training(record: RunRecord) -> Iterator[str]:
    recipe, environment = record.recipe, record.environment
    optimizer, training = recipe["optimizer"], recipe["training"]
    peaks = ", ".join(dict.fromkeys(number(group.peak) for group in record.schedule.groups))
    own = {key: value for key, value in optimizer.items() if key not in ("name", "learning_rate")}
    rows = {
        "optimizer": ", ".join([str(optimizer["name"]), *(f"{key} {brief(value)}" for key, value in own.items())]),
        "peak rates": peaks,
        "batch": f"{training['batch_size']} examples",
        "updates": f"{record.schedule.total_steps:,}, {record.schedule.updates_per_epoch:,} to an epoch",
        "seed": str(record.identity.seed),
        "precision": environment.precision,
        "hardware": f"{environment.hardware}, {environment.processes} process{'es' * (environment.processes > 1)}",
        "seconds of updates": f"{record.timing.train_seconds:,.1f}",
        "versions": ", ".join(f"{name} {version}" for name, version in environment.versions.items()),
    }
    yield table(("", ""), ((name, code(value, in_table=True)) for name, value in rows.items()), labels=2)


def _again(record: RunRecord) -> Iterator[str]:
    yield (
        "`finetune run recipe.yaml` with this recipe, in which paths are cut to their last parts; under another "
        "`training.seed` it shows how much is chance."
    )
    yield code_block(without_places(record.recipe))


def _limits(record: RunRecord) -> Iterator[str]:
    results = record.results
    assert results is not None  # noqa: S101 - a run that is finished has results
    yield f"One run, of seed {record.identity.seed}: what another seed gives isn't known from it."
    if "test" not in results.splits:
        yield "There was no test split: the scores are of the examples by which the model was chosen, and flatter it."
    yield (
        "The scores hold for examples like those above. `finetune evaluate` scores later ones, and says whether they "
        "differ."
    )
    cut = sum(each.truncated for each in record.identity.data.values())
    if cut:
        yield f"{cut:,} of the examples were longer than what the model was given of them."
    if record.continued is not None:
        yield f"It went on from another run after update {record.continued.step:,}."
    yield "What the pretrained model and the data get wrong of the world, this model may get wrong too."
    yield "No licence is given here: those of the pretrained model and of the data bind it."


def schedule_picture(record: RunRecord) -> str:
    """Returns the rate at each update as an SVG drawing, a curve for each of the schedules of parameter groups."""
    curves = _curves(record)
    legend = Legend(tuple(curves), PRINT)
    updates = max(len(rates) for rates in curves.values())
    highest = max((max(rates, default=0.0) for rates in curves.values()), default=0.0)
    plot = Plot(
        "", (0.0, max(1.0, updates - 1.0)), (0.0, (1 + MARGIN) * (highest or 1.0)), "update", "rate", _course(record)
    )

    def draw(x: Axis, y: Axis) -> Markup:
        return Markup().join(
            stroke(legend, name, pieces_of(Curve(name, range(len(rates)), rates), x, y))
            for name, rates in curves.items()
        )

    return str(picture(Figure("schedule", "Learning rate", panels=(plot.panel(legend, draw),)), legend)) + "\n"


def _curves(record: RunRecord) -> dict[str, Sequence[float]]:
    """Returns the different courses of the rates, by the schedule's name where there is one, else by their groups."""
    by_course: dict[tuple[float, ...], list[GroupRates]] = {}
    for group in record.schedule.groups:
        by_course.setdefault(tuple(group.rates), []).append(group)
    if len(by_course) == 1:
        return {str(record.schedule.settings["name"]): next(iter(by_course))}
    return {groups[0].name: rates for rates, groups in by_course.items()}


def _course(record: RunRecord) -> str:
    rates = max((group.rates for group in record.schedule.groups), key=lambda each: max(each, default=0.0))
    if not rates:
        return "No update was made"
    return (
        f"The rate over {len(rates):,} updates: {number(rates[0])} at first, {number(max(rates))} at most, "
        f"{number(rates[-1])} at last"
    )

"""Answers of every form, drawn at random: right more often than not."""

import numpy as np

from finetune.metrics.answers import Answers

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
WORDS = ("the", "cat", "Sat", "on", "mat.")


def drawn(form, count, *, seed=0, classes=3):
    """Returns `count` answers of `form`, the same ones for the same seed."""
    return _DRAWN[form](np.random.default_rng(seed), count, classes)


def cases(metrics):
    """Returns each metric of `metrics` with each form that it scores."""
    return [(name, form) for name, row in metrics.items() for form in row.forms]


def answers_for(name, form, count, *, seed=0):
    """Returns answers that the metric `name` can score: of two classes for f1."""
    return drawn(form, count, seed=seed, classes=2 if name == "f1" else 3)


def _classes(generator, count, classes):
    references = generator.integers(classes, size=count)
    scores = generator.random((count, classes)) + 0.7 * np.eye(classes)[references]
    scores /= scores.sum(axis=1, keepdims=True)
    return Answers("classes", scores.argmax(axis=1), references, scores)


def _label_sets(generator, count, labels):
    references = generator.integers(2, size=(count, labels))
    scores = (generator.random((count, labels)) + 0.5 * references) / 1.5
    return Answers("label_sets", (scores >= 0.5).astype(int), references, scores)


def _numbers(generator, count, _):
    references = generator.normal(size=count)
    return Answers("numbers", references + generator.normal(size=count), references)


def _tags(generator, count, _):
    references, predictions = [], []
    for length in generator.integers(1, 12, size=count):
        true, other = generator.integers(len(TAGS), size=(2, length))
        references.append([TAGS[number] for number in true])
        predictions.append([TAGS[n] for n in np.where(generator.random(length) < 0.7, true, other)])
    return Answers("tags", predictions, references)


def _texts(generator, count, _):
    def text(most):
        return " ".join(generator.choice(WORDS, size=generator.integers(most)))

    accepted = [tuple(text(4) for _ in range(generator.integers(3))) for _ in range(count)]
    return Answers("texts", [each[0] if each and generator.random() < 0.5 else text(4) for each in accepted], accepted)


def _tokens(generator, count, _):
    tokens = generator.integers(1, 20, size=count)
    likelihoods = -np.log(generator.uniform(0.1, 1, size=count)) * tokens
    return Answers("tokens", np.stack([likelihoods, generator.binomial(tokens, 0.7)], axis=1).astype(float), tokens)


_DRAWN = {
    "classes": _classes,
    "label_sets": _label_sets,
    "numbers": _numbers,
    "tags": _tags,
    "texts": _texts,
    "tokens": _tokens,
}

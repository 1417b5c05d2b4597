"""A tiny vision model, and coloured squares that it can learn from: a run of them takes a second."""

import random
from pathlib import Path

COLOURS = {"blue": (40, 60, 220), "green": (30, 190, 60), "red": (220, 40, 40)}

RECIPE = """
task: {{name: image_classification}}
model: {{path: "{model}"}}
data: {{folders: {{train: squares/train, validation: squares/validation, test: squares/test}}}}
schedule: {{name: cosine, warmup: "10%"}}
optimizer: {{name: adamw, learning_rate: 1e-2}}
training: {{duration: 2ep, batch_size: 16, precision: fp32, seed: 0}}
evaluation: {{every: 1ep, metrics: [accuracy, f1_macro], batch_size: 32}}
"""


def square(colour, draw):
    """Returns a grey image with a square of `colour`, somewhere, all in noise."""
    from PIL import Image

    width, height = draw.randint(16, 24), draw.randint(16, 24)
    side = draw.randint(8, 12)
    grey = draw.randint(60, 200)
    image = Image.new("RGB", (width, height), (grey, grey, grey))
    place = (draw.randint(0, width - side), draw.randint(0, height - side))
    noisy = tuple(min(255, max(0, value + draw.randint(-30, 30))) for value in COLOURS[colour])
    image.paste(noisy, (*place, place[0] + side, place[1] + side))
    return image


def write_squares(folder):
    """Writes train (96 images), validation and test (30 each) into `folder`, each with a sub-folder for a colour."""
    for seed, (split, count) in enumerate({"train": 96, "validation": 30, "test": 30}.items()):
        draw = random.Random(seed)
        for number in range(count):
            colour = list(COLOURS)[number % len(COLOURS)]
            path = Path(folder, split, colour, f"{number:03}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            square(colour, draw).save(path)


def save_model(folder):
    """Saves a vision transformer of random weights for 16 × 16 pixels, without a head, and its image processor."""
    import torch
    from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

    config = ViTConfig(
        image_size=16,
        patch_size=8,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ViTModel(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)


def write_recipe(folder, model):
    """Writes squares.yaml into `folder`, which holds the squares: it trains `model` for 12 updates; returns its path."""
    path = folder / "squares.yaml"
    path.write_text(RECIPE.format(model=model.as_posix()), encoding="utf-8")
    return path

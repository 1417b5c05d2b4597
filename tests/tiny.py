"""A tiny model, and sentences that it can learn from: a run of it takes a second."""

import csv
import json
import random
import shutil

SPECIAL = "[PAD] [UNK] [CLS] [SEP] [MASK]"
GOOD = "brilliant charming clever delightful funny graceful moving rich superb tender thrilling warm"
BAD = "awful bland boring clumsy dreary dull empty hollow lazy stale tedious weak"
NEUTRAL = (
    "a about actor after all an and as at before but camera cast character city comedy day director drama ending "
    "every family film for friend from has in into is it its life long many movie music new night of old on one plot "
    "role scene screen script second sequel so some sound stage star story street than that the their then there this "
    "through time to town two version war way which while with without writer year young"
)

RECIPE = """
task: {{name: text_classification, text: sentence, label: label, max_length: 32}}
model: {{path: "{model}"}}
data: {{files: {{train: train.csv, validation: validation.jsonl, test: test.parquet}}}}
schedule: {{name: cosine, warmup: "10%"}}
optimizer: {{name: adamw, learning_rate: 5e-3}}
training: {{duration: 2ep, batch_size: 16, precision: fp32, seed: 0}}
evaluation: {{every: 1ep, metrics: [accuracy, f1_macro], select: accuracy, keep: best, batch_size: 32}}
"""

LANGUAGE_RECIPE = """
task: {task}
model: {{path: "{model}"}}
data: {{files: {{train: train.jsonl, validation: validation.jsonl, test: test.jsonl}}}}
schedule: {{name: linear, warmup: 1}}
optimizer: {{name: adamw, learning_rate: 1e-2}}
training: {{duration: 6ep, batch_size: 8, precision: fp32, seed: 0}}
evaluation: {{every: 3ep, batch_size: 16}}
checkpoints: {{every: null}}
"""
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def sentences(count, seed):
    """Returns `count` rows in the form of SST-2: 3 to 30 words, half of them telling, classes drawn evenly."""
    draw = random.Random(seed)
    telling, neutral = (BAD.split(), GOOD.split()), NEUTRAL.split()
    rows = []
    for idx in range(count):
        label, length = draw.randrange(2), draw.randint(3, 30)
        words = draw.choices(telling[label], k=length // 2) + draw.choices(neutral, k=length - length // 2)
        draw.shuffle(words)
        rows.append({"idx": idx, "sentence": " ".join(words), "label": label})
    return rows


def save_model(folder, *, positions):
    """Saves a BERT encoder of random weights, without a head, and its tokenizer into a folder."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = f"{SPECIAL} {GOOD} {BAD} {NEUTRAL}".split()
    tokenizer = BertTokenizerFast(vocab={word: number for number, word in enumerate(words)})
    tokenizer.model_max_length = positions
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=positions,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def without_dropout(model, folder):
    """Copies a model to `folder` without its dropout, so that a batch gives the same loss however it is cut."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write_reviews(folder):
    """Writes train.csv (200 rows), validation.jsonl (60) and test.parquet (60) into `folder`."""
    import pyarrow
    from pyarrow import parquet

    def rows(count, seed):
        return [row | {"label": ("negative", "positive")[row["label"]]} for row in sentences(count, seed)]

    with (folder / "train.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["idx", "sentence", "label"])
        writer.writeheader()
        writer.writerows(rows(200, seed=1))
    lines = [json.dumps(row) + "\n" for row in rows(60, seed=2)]
    (folder / "validation.jsonl").write_text("".join(lines), encoding="utf-8")
    parquet.write_table(pyarrow.Table.from_pylist(rows(60, seed=3)), folder / "test.parquet")


def write_recipe(folder, model):
    """Writes small.yaml into `folder`, beside the reviews: it trains `model` for 26 updates; returns its path."""
    path = folder / "small.yaml"
    path.write_text(RECIPE.format(model=model.as_posix()), encoding="utf-8")
    return path


TASK_RECIPE = """
task: {task}
model: {{path: "{model}"}}
data: {{files: {{{files}}}}}
schedule: {{name: cosine, warmup: "10%"}}
optimizer: {{name: adamw, learning_rate: 5e-3}}
training: {{duration: 4ep, batch_size: 16, precision: fp32, seed: 0}}
evaluation: {{every: 2ep, batch_size: 32}}
"""


def write_task_recipe(folder, model, task, splits):
    """Writes rows of `splits` and task.yaml, which trains `model` for `task` on them, into `folder`; returns its path.

    The rows are jsonl files, but of a split that is a table of arrow, which is a parquet file.
    """
    from pyarrow import Table, parquet

    files = []
    for split, rows in splits.items():
        if isinstance(rows, Table):
            files.append(f"{split}: {split}.parquet")
            parquet.write_table(rows, folder / f"{split}.parquet")
        else:
            files.append(f"{split}: {split}.jsonl")
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    path = folder / "task.yaml"
    text = TASK_RECIPE.format(task=task, model=model.as_posix(), files=", ".join(files))
    path.write_text(text, encoding="utf-8")
    return path


def rated(count, seed):
    """Returns `count` sentences of 3 to 20 words, and as the rating of each the share of good less that of bad words."""
    draw = random.Random(seed)
    good, bad, neutral = GOOD.split(), BAD.split(), NEUTRAL.split()
    rows = []
    for _ in range(count):
        words = [draw.choice(draw.choice((good, bad, neutral))) for _ in range(draw.randint(3, 20))]
        balance = sum(word in good for word in words) - sum(word in bad for word in words)
        rows.append({"sentence": " ".join(words), "rating": 4 * balance / len(words)})
    return rows


def labelled(count, seed):
    """Returns `count` sentences of 1 to 16 words with the list of those of good, bad and new that are true of each."""
    draw = random.Random(seed)
    kinds = {"bad": BAD.split(), "good": GOOD.split(), "new": ["new", "young", "year", "time"]}
    rows = []
    for _ in range(count):
        labels = [name for name in kinds if draw.random() < 0.4]
        words = [word for name in labels for word in draw.choices(kinds[name], k=4)]
        words += draw.choices(["film", "scene", "the", "a"], k=draw.randint(1, 4))
        draw.shuffle(words)
        rows.append({"sentence": " ".join(words), "labels": labels})
    return rows


def tagged(count, seed):
    """Returns `count` lists of words, in which runs of good and of bad ones are tagged as such and no two runs touch."""
    draw = random.Random(seed)
    kinds, neutral = {"GOOD": GOOD.split(), "BAD": BAD.split()}, NEUTRAL.split()
    rows = []
    for _ in range(count):
        words, tags = [draw.choice(neutral)], ["O"]
        for _ in range(draw.randint(1, 3)):
            kind, length = draw.choice(list(kinds)), draw.randint(1, 3)
            words += [*draw.choices(kinds[kind], k=length), *draw.choices(neutral, k=draw.randint(1, 2))]
            tags += [f"B-{kind}", *[f"I-{kind}"] * (length - 1), *["O"] * (len(words) - len(tags) - length)]
        rows.append({"tokens": words, "tags": tags})
    return rows


def successions(count, seed):
    """Returns `count` texts of 4 to 20 words in the order of NEUTRAL, from one drawn on, so that each tells the next."""
    draw = random.Random(seed)
    words = NEUTRAL.split()
    texts = []
    for _ in range(count):
        start, length = draw.randrange(len(words)), draw.randint(4, 20)
        texts.append(" ".join(words[(start + place) % len(words)] for place in range(length)))
    return texts


def save_causal_model(folder, *, positions):
    """Saves a GPT-2 of random weights and its tokenizer, bytes in pairs as GPT-2's, with a chat template."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        [f"{NEUTRAL} {GOOD} {BAD}"] * 2, vocab_size=600, show_progress=False, special_tokens=["<|endoftext|>"]
    )
    state = json.loads(trained.to_str())["model"]
    tokenizer = GPT2TokenizerFast(vocab=state["vocab"], merges=[tuple(pair) for pair in state["merges"]])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.model_max_length = positions
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=positions,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_language_recipe(folder, model, task, rows):
    """Writes train, validation and test of 200, 60 and 60 of `rows(count, seed)`, and small.yaml; returns its path."""
    for seed, (split, count) in enumerate({"train": 200, "validation": 60, "test": 60}.items(), start=1):
        lines = [json.dumps(row) + "\n" for row in rows(count, seed)]
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    path = folder / "small.yaml"
    path.write_text(LANGUAGE_RECIPE.format(model=model.as_posix(), task=json.dumps(task)), encoding="utf-8")
    return path

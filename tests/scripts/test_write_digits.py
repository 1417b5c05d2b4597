"""The digits as folders of images: all of them, none in two splits, and a model that takes them."""

import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "scripts" / "write_digits.py"


def test_every_digit_is_in_one_split_and_in_the_folder_of_its_class(tmp_path, capsys):
    from sklearn.datasets import load_digits

    spec = importlib.util.spec_from_file_location("write_digits", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.main(["--directory", str(tmp_path)]) == 0
    source, paths = load_digits(), sorted((tmp_path / "digits").rglob("*.png"))
    assert sorted(int(path.stem) for path in paths) == list(range(1797))
    for path in paths[::50]:
        assert path.parent.name == str(source.target[int(path.stem)])
        assert np.abs(np.asarray(Image.open(path)) / 255 * 16 - source.images[int(path.stem)]).max() < 0.04
    counts = {
        split: len(list((tmp_path / "digits" / split).rglob("*.png"))) for split in ("train", "validation", "test")
    }
    assert counts == {"train": 1197, "validation": 200, "test": 400}
    assert {"config.json", "model.safetensors", "preprocessor_config.json"} <= {
        path.name for path in (tmp_path / "vit_of_random_weights").iterdir()
    }
    assert script.main(["--directory", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("already there") == 2

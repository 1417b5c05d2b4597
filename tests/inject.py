"""`scripts/faults`: injects faults of every kind, writes what came of them, and fails if anything was lost or altered."""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from tests import tiny
from tests.disks import DISTURBANCES, EVERY, disturb_disks, why_not
from tests.faults import ALONE, TWO, Faults, finish, kill_at_random, show, spoil_checkpoints, to_json
from tests.fuzzing import fuzz_recipes, fuzz_records

RESULT = Path(__file__).parents[1] / "scripts" / "bench" / "faults.json"


def main():
    parser = argparse.ArgumentParser(prog="scripts/faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=60, help="of runs on one process; half as many on two")
    parser.add_argument("--disks", type=int, default=20, help="that fill, and as many of each other kind of fault")
    parser.add_argument("--texts", type=int, default=10_000, help="spoilt recipes, and as many spoilt records")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, default=RESULT)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing stays mounted
    rows = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = prepare(folder)
        for words, command, count in (("one process", ALONE, arguments.kills), ("two", TWO, arguments.kills // 2)):
            for number in (signal.SIGKILL, signal.SIGTERM):
                place = folder / f"{words}-{number.name}"
                faults = kill_at_random(command, recipe, place, count=count, seed=arguments.seed, numbers=(number,))
                report(rows, f"{number.name} at a random moment, {words}", faults)
        disturb(rows, folder, recipe, arguments)
        report(rows, "a file of a checkpoint cut or a bit flipped", spoil(folder, recipe, arguments))
        report(rows, "spoilt recipes", as_faults(fuzz_recipes(arguments.texts, seed=arguments.seed)))
        report(rows, "spoilt records", as_faults(fuzz_records(arguments.texts, arguments.seed, folder / "records")))
    print(show(rows))
    arguments.write.write_text(to_json(rows), encoding="utf-8")
    sys.exit(any(each.lost or each.altered for each in rows.values()))


def prepare(folder):
    """Writes a tiny model, its data and a recipe into `folder`; returns the recipe's path."""
    tiny.save_model(folder / "model", positions=64)
    tiny.write_reviews(folder)
    return tiny.write_recipe(folder, folder / "model")


def disturb(rows, folder, recipe, arguments):
    """Adds a row for each kind of fault of disks that can be tried here."""
    undisturbed, _ = finish(ALONE, recipe, folder / "undisturbed", every=EVERY)
    options = {"undisturbed": undisturbed, "count": arguments.disks, "seed": arguments.seed}
    for name, kind in DISTURBANCES.items():
        if (reason := why_not(kind)) is not None:
            print(f"{name}: left out: nothing can be mounted: {reason}; try unshare -rm scripts/faults", flush=True)
            continue
        report(rows, name, disturb_disks(kind, ALONE, recipe, folder, **options))


def spoil(folder, recipe, arguments):
    return spoil_checkpoints(ALONE, recipe, folder, count=500, seed=arguments.seed)


def as_faults(counts):
    """Returns counts of spoilt texts as faults: one that ends in a traceback is altered."""
    return Faults(counts.injected, counts.injected - counts.crashes, 0, counts.crashes)


def report(rows, name, faults):
    rows[name] = faults
    print(f"{name}: {faults}", flush=True)


if __name__ == "__main__":
    main()

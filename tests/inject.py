"""`scripts/faults`: injects faults of every kind, writes what came of them, and fails if anything was lost or altered."""

import argparse
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests import tiny
from tests.disks import DISTURBANCES, EVERY, disturb_disks, why_not
from tests.faults import ALONE, TWO, Faults, finish, from_json, kill_at_random, show, spoil_checkpoints, to_json
from tests.spoilt_recipes import fuzz_recipes
from tests.spoilt_records import fuzz_records

RESULT = Path(__file__).parents[1] / "scripts" / "bench" / "faults.json"


def main():
    parser = argparse.ArgumentParser(prog="scripts/faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=60, help="of runs on one process; half as many on two")
    parser.add_argument("--disks", type=int, default=20, help="that fill, and as many of each other kind of fault")
    parser.add_argument("--texts", type=int, default=10_000, help="spoilt recipes, and as many spoilt records")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, default=RESULT)
    parser.add_argument("--go-on", action="store_true", help="leave out the rows that the result has already")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing stays mounted
    rows = from_json(arguments.write.read_text(encoding="utf-8")) if arguments.go_on else {}
    with tempfile.TemporaryDirectory() as name:
        for words, inject in injections(Path(name), arguments):
            if words not in rows:
                rows[words] = inject()
                print(f"{words}: {rows[words]}", flush=True)
                arguments.write.write_text(to_json(rows), encoding="utf-8")
    print(show(rows))
    sys.exit(any(each.lost or each.altered for each in rows.values()))


def injections(folder, arguments):
    """Yields each row's name, and a function that injects its faults and returns what came of them."""
    recipe = prepare(folder)
    seed, texts = arguments.seed, arguments.texts
    for words, command, count in (("one process", ALONE, arguments.kills), ("two", TWO, arguments.kills // 2)):
        for number in (signal.SIGKILL, signal.SIGTERM):
            kill = partial(kill_at_random, command, recipe, folder / f"{words}-{number.name}", numbers=(number,))
            yield f"{number.name} at a random moment, {words}", partial(kill, count=count, seed=seed)
    for name, kind in DISTURBANCES.items():
        if (reason := why_not(kind)) is not None:
            print(f"{name}: left out: nothing can be mounted: {reason}; try unshare -rm scripts/faults", flush=True)
            continue
        yield name, partial(disturb, kind, recipe, folder, count=arguments.disks, seed=seed)
    yield (
        "a file of a checkpoint cut or a bit flipped",
        partial(spoil_checkpoints, ALONE, recipe, folder, count=500, seed=seed),
    )
    yield "spoilt recipes", lambda: as_faults(fuzz_recipes(texts, seed=seed))
    yield "spoilt records", lambda: as_faults(fuzz_records(texts, seed, folder / "records"))


def prepare(folder):
    """Writes a tiny model, its data and a recipe into `folder`; returns the recipe's path."""
    tiny.save_model(folder / "model", positions=64)
    tiny.write_reviews(folder)
    return tiny.write_recipe(folder, folder / "model")


def disturb(kind, recipe, folder, *, count, seed):
    """Returns what came of disturbing disks, set against a run that wasn't disturbed."""
    undisturbed, _ = finish(ALONE, recipe, folder / "undisturbed", every=EVERY)
    return disturb_disks(kind, ALONE, recipe, folder, undisturbed=undisturbed, count=count, seed=seed)


def as_faults(counts):
    """Returns counts of spoilt texts as faults: one that ends in a traceback, or takes too long, is altered, and shown."""
    print(*counts.shown, sep="\n", flush=True)
    return Faults(counts.injected, counts.injected - counts.crashes, 0, counts.crashes)


if __name__ == "__main__":
    main()

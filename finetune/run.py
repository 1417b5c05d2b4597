"""`accelerate launch finetune/run.py RECIPE [KEY=VALUE …]`: one recipe on the processes that Accelerate starts."""

import os
import sys
from pathlib import Path

# Every process would repeat what torch's C++ warns of, such as settings of DDP, which nobody here can act on.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
# Python puts a script's own folder first on the path, where our modules would stand in for others of the same name.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from finetune.cli import main  # noqa: E402
from finetune.launching.exit_codes import told_to_launcher  # noqa: E402

if __name__ == "__main__":
    with told_to_launcher():
        main(["run", *sys.argv[1:]])

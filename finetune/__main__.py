"""`python -m finetune`: the command line, where the `finetune` command isn't on the path."""

from finetune.cli import main

if __name__ == "__main__":
    main()

"""`python -m tests.tasks.score prepare|check FOLDER`: what tests/tasks/README.md describes."""

import sys
from pathlib import Path
from typing import Final

from tests.tasks.checks import TASKS, prepare, score

_ENOUGH: Final = 9


def main(arguments: list[str]) -> int:
    """The exit code: 0 where enough tasks succeeded, 2 for a command that is none."""
    match arguments:
        case ["prepare", folder]:
            prepare(Path(folder))
            return 0
        case ["check", folder]:
            lacking = score(Path(folder))
            for task in TASKS:
                lack = lacking[task.number]
                print(f"{task.number:2}  {'yes' if lack is None else 'no '}  {task.name}{f': {lack}' if lack else ''}")
            num_done = sum(lack is None for lack in lacking.values())
            print(f"{num_done} of {len(TASKS)}")
            return 0 if num_done >= _ENOUGH else 1
    print("usage: python -m tests.tasks.score prepare|check FOLDER", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

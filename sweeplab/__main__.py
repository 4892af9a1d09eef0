"""`python -m sweeplab`: what the command line asks for; help and version without importing what a study needs.

Exit codes: 0 done; 1 no trial finished, or a trial was not reproduced; 2 a mistake of the user's; 130 interrupted.
"""

import os
import sys
from typing import Final

_INTERRUPTED: Final = 130


def main() -> None:
    """The command line."""
    if "--version" in sys.argv[1:]:
        import sweeplab

        print(f"sweeplab {sweeplab.__version__}")
        return
    from sweeplab.cli.errors import exits_with_one_line

    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print mistakes its own way and exit with 1
    try:
        with exits_with_one_line():
            from sweeplab.cli.help import asked_help

            if (text := asked_help(sys.argv[1:])) is not None:
                print(text)
                return
            from sweeplab.cli.dispatch import run_command

            run_command()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()

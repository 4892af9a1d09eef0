"""`python -m sweeplab`: what the command line asks for; help and version without importing what a study needs."""

import os
import sys


def main() -> None:
    """The command line."""
    from sweeplab.cli.exit_codes import INTERRUPTED

    try:
        _answer()
    except KeyboardInterrupt:  # at any moment, also while modules are imported
        sys.exit(INTERRUPTED)


def _answer() -> None:
    if "--version" in sys.argv[1:]:
        import sweeplab
        from sweeplab.cli.help import describe_versions

        print(describe_versions(sweeplab.__version__))
        return
    if "--complete" in sys.argv[1:2]:
        from sweeplab.cli.completion import complete

        print(*complete("".join(sys.argv[2:3])), sep="\n")
        return
    from sweeplab.cli.terminal import Ended, outlives_terminal

    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print mistakes its own way and exit with 1
    with outlives_terminal():
        try:
            _run_arguments()
        except Ended as end:
            print(f"sweeplab: {end.word}", file=sys.stderr)
            sys.exit(end.exit_code)


def _run_arguments() -> None:
    from sweeplab.cli.errors import exits_with_one_line

    with exits_with_one_line():
        from sweeplab.cli.help import asked_help

        if (text := asked_help(sys.argv[1:])) is not None:
            print(text)
            return
        if any(argument.partition("=")[0] == "--completion" for argument in sys.argv[1:]):
            from sweeplab.cli.completion import write_completion

            print(write_completion(sys.argv[1:]), end="")
            return
        from sweeplab.cli.dispatch import run_command

        run_command()


if __name__ == "__main__":
    main()

"""`--help`: how a command is written, examples, and every key with its meaning, default, unit and choices."""

import platform
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Final

from sweeplab.cli.exit_codes import EXIT_CODES
from sweeplab.config.conf import default_options, is_group, options
from sweeplab.config.own_options import find_own_folder, list_beside, list_own_options
from sweeplab.config.reference import (
    CLASS_S_OWN,
    LEFT_OUT,
    REQUIRED,
    ROW,
    Key,
    Part,
    describe_option,
    describe_part,
    part_names,
    to_flow,
)
from sweeplab.config.suggestions import find_nearest_keys, find_similar
from sweeplab.runtime.errors import refuse

_WIDTH: Final = 80
_COLUMN: Final = 30  # where meanings begin
_FLAGS: Final = ("--help", "-h")
_PACKAGES: Final = (
    *("torch", "transformers", "peft", "lightning", "bitsandbytes", "optuna", "hydra-core", "lm_eval", "datasets"),
    *("wandb", "numpy"),
)
_MOST_FOUND: Final = 12  # keys that a word of --help shows

_USAGE: Final = """\
sweeplab: which LoRA or QLoRA settings for this model, this data and this GPU,
and how sure can one be?

Usage: python -m sweeplab [+experiment=NAME] [group=option] [key=value]
                          [space.KEY.choices=[...]] [-m]

The embedded model and data, 21 trials:
  python -m sweeplab +experiment=rank_sweep
Parameters, memory and time; nothing trained:
  python -m sweeplab +experiment=rank_sweep action=plan
Which trials will not fit; and the study without these:
  python -m sweeplab +experiment=rank_sweep action=plan \\
      plan.device_memory=14GB
  python -m sweeplab +experiment=rank_sweep plan.device_memory=14GB \\
      plan.skip_unfit=true
Your own model and data, as long as 20 minutes allow:
  python -m sweeplab action=recommend model=DIR data=FILE study.budget=20min
One trial:
  python -m sweeplab adapter.rank=16 optimizer=sgd
Your own study:
  python -m sweeplab 'space.optimizer.choices=[adamw,sgd]' \\
      'study.seeds=[0,1,2]' study.name=optimizers
  python -m sweeplab sampler=tpe study.num_trials=30 \\
      'space.optimizer.lr={low: 1e-4, high: 1e-2, log: true}' study.name=rates
Follow a study from another terminal:
  python -m sweeplab +experiment=rank_sweep action=watch
In a browser, with buttons that end a trial or the study or add a seed:
  python -m sweeplab +experiment=rank_sweep action=watch watch.page=true
The same as commands, and one more seed for the setting of trial 7:
  python -m sweeplab +experiment=rank_sweep action=stop trial=7
  python -m sweeplab +experiment=rank_sweep action=extend trial=7
The studies of this folder, and how far each is:
  python -m sweeplab action=list
For programs, JSON alone (also of watch, list, compare, report and a run):
  python -m sweeplab +experiment=rank_sweep action=plan --json
A finished trial as files:
  python -m sweeplab +experiment=rank_sweep action=export trial=7 \\
      export.kind=merged export.path=DIR
A trial once more, and compared with its record:
  python -m sweeplab +experiment=rank_sweep action=reproduce trial=7
What the base and a trial answered, item by item, as CSV:
  python -m sweeplab +experiment=rank_sweep action=answers trial=best
The report again, from the records:
  python -m sweeplab +experiment=rank_sweep action=report
Two studies side by side, if they may be:
  python -m sweeplab action=compare 'studies=[rank_sweep,mine]'
Which directions the adapters share, spectra, Elo:
  python -m sweeplab +experiment=rank_sweep action=analyze

The same command goes on where it was stopped.
Records: runs/<study>/trials/*/record.json
Report: reports/<study>/report.html
Exit codes:
{codes}
--help GROUP shows one group, such as --help adapter, with its options;
--help WORD the keys that have it in name or meaning, such as --help rank;
--help all every key.
+experiment=NAME --cfg job shows what an experiment sets.
--hydra-help has Hydra's own flags. For completion at TAB (bash or zsh):
  eval "$(python -m sweeplab --completion bash)"
"""
_ALL: Final = "all"  # of `--help all`
_WITH_OWN: Final = ("", _ALL, "experiment")  # what `--help` names where own experiments are listed, too
_COMMON: Final = (  # the keys that most commands have
    *("action", "study.name", "study.seeds", "study.budget", "study.objectives", "adapter.rank", "adapter.dropout"),
    *("optimizer.lr", "training.epochs", "training.micro_batch_size", "training.max_length", "data.style"),
    *("evaluation.tasks", "evaluation.limit", "executor.device"),
)
_EXPERIMENTS: Final = "experiment: a study that comes with sweeplab"
_CHOICES: Final = "groups: one option of each, or several by space.GROUP.choices=[...]"
_KEYS: Final = "the commonest keys; by space.KEY.choices=[...] several values of one"
_MORE: Final = "--help GROUP and --help WORD show the others, --help all every key."


def asked_help(arguments: Sequence[str]) -> str | None:
    """The text that `--help`, `--help all`, `--help=GROUP` or `--help GROUP` asks for; None where none stands there.

    Raises `ConfigError` for a group that does not exist.
    """
    for place, argument in enumerate(arguments):
        flag, equals, group = argument.partition("=")
        if flag in _FLAGS:
            following = "".join(arguments[place + 1 : place + 2])
            if not equals and "=" not in following and not following.startswith("-"):
                group = following
            own = _describe_own(find_own_folder(arguments))
            text = describe_group(group) if group or equals else describe_usage()
            return text + (own if group in _WITH_OWN else "")
    return None


def describe_versions(own: str) -> str:
    """sweeplab's version, Python's, and those of the packages that decide what a study gives."""
    rows = [("sweeplab", own), ("python", platform.python_version())]
    for package in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            rows.append((package, metadata.version(package)))
    return "\n".join(f"{name} {version}" for name, version in rows)


def _describe_own(folder: Path | None) -> str:
    """The user's own experiments, and how those are made known that are not searched yet."""
    known = list_own_options(folder, "experiment")
    lines = _wrap(f"  in {folder}: +experiment=", " | ".join(known)) if known else []
    for beside, names in list_beside("experiment") if folder is None else []:
        lines += _wrap(f"  with --config-dir={beside}: +experiment=", " | ".join(names))
    return "\n".join(["", "your own experiments:", *lines, ""]) if lines else ""


def _write_usage() -> str:
    codes = (f"  {code:>3}  {meaning}\n" for code, meaning in EXIT_CODES.items())
    return _USAGE.replace("{codes}\n", "".join([*codes, "\n"]))


def describe_usage() -> str:
    """Usage, examples, what can be chosen, and the keys that most commands have."""
    parts = [describe_part(name) for name in part_names()]
    chosen = [line for part in parts for line in _name_options(part)]
    keys = {key.name: key for part in parts for key in part.keys}
    common = [_entry(name_with_default(keys[name]), describe_key(keys[name])) for name in _COMMON]
    studies = [_EXPERIMENTS, *_name_experiments()]
    return "\n".join([_write_usage(), *studies, "", _CHOICES, *chosen, "", _KEYS, *common, "", _MORE])


def describe_all() -> str:
    """Usage, examples, and every key; options by their names."""
    parts = (describe_part(name) for name in part_names())
    chapters = ["\n".join(["", *_head(part), *_name_options(part), *_keys(part)]) for part in parts]
    return "\n".join([_write_usage(), _EXPERIMENTS, *_name_experiments(), *chapters])


def describe_group(name: str) -> str:
    """One group or section: each option with what its file says, and every key. Raises `ConfigError`."""
    if name == _ALL:
        return describe_all()
    if name == "experiment":
        studies = (_entry(f"+experiment={one}", describe_option(name, one)) for one in options(name))
        return "\n".join([_EXPERIMENTS, *studies])
    known = [*part_names(), "experiment"]
    if name not in known:
        return _describe_word(name, known)
    part = describe_part(name)
    described = [_entry(f"{name}={option}", words) for option, words in part.options.items()]
    return "\n".join([*_head(part), *described, *([""] if described else []), *_keys(part)])


def _describe_word(word: str, groups: list[str]) -> str:
    """The keys that have a word in their names or meanings. Raises `ConfigError` where there is none."""
    keys = [key for part in map(describe_part, part_names()) for key in part.keys]
    whole = [key for key in keys if key.name == word]
    ranked = [(rank, key) for key in keys if (rank := _rank_hit(word.lower(), key)) is not None] if word else []
    found = whole or [key for _, key in sorted(ranked, key=lambda one: one[0])]
    if not found:
        near = find_similar(word, groups) or find_nearest_keys(word)
        remedy = f"did you mean --help={near[0]}?" if near else f"choose from {', '.join(groups)}"
        raise refuse("--help", "must name a group of keys, or a key", word or "nothing", remedy)
    shown = [_entry(name_with_default(key), describe_key(key)) for key in found[:_MOST_FOUND]]
    left = len(found) - _MOST_FOUND
    return "\n".join([*shown, *([f"and {left} more; --help lists them all"] if left > 0 else [])])


def _rank_hit(word: str, key: Key) -> tuple[int, int, int] | None:
    """How well a key answers to a word, smaller first; None: not at all.

    A name before a meaning; then a key of every option before one of the default option and that before others; then
    the name of which the word is the larger part.
    """
    group, last = key.name.partition(".")[0], key.name.rpartition(".")[2]
    names = (word == last, word in last.split("_"), word in last, word in key.name)
    if not any(names) and re.search(rf"\b{re.escape(word)}\b", key.meaning.lower()) is None:
        return None
    has_all = not is_group(group) or set(options(group)) <= set(key.defaults)
    options_rank = 0 if has_all else 1 if default_options().get(group) in key.defaults else 2
    if any(names):
        return names.index(True), options_rank, len(last)
    return len(names), options_rank, 0


def _head(part: Part) -> list[str]:
    """What the part is; of a single key the key itself says it."""
    return textwrap.wrap(f"{part.name}: {part.meaning}", _WIDTH) if part.is_section() else []


def _name_experiments() -> list[str]:
    return _wrap("  +experiment=", " | ".join(options("experiment")))


def _name_options(part: Part) -> list[str]:
    return _wrap(f"  {part.name}=", " | ".join(part.options)) if part.options else []


def _wrap(start: str, text: str) -> list[str]:
    """Text below its own beginning."""
    return textwrap.wrap(text, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start))


def _entry(left: str, text: str) -> str:
    """Two columns; what is too long for the first one has a line for itself, and so has each row of a table."""
    left = f"  {left}"
    lines = [one for paragraph in text.splitlines() for one in _wrap_meaning(paragraph)]
    if len(left) > _COLUMN - 2 or not lines:
        wrapped = textwrap.wrap(left, _WIDTH, drop_whitespace=False, subsequent_indent="    ", break_on_hyphens=False)
        return "\n".join([*(line.rstrip() for line in wrapped), *lines])
    return "\n".join([left + lines[0][len(left) :], *lines[1:]])


def _wrap_meaning(paragraph: str) -> list[str]:
    """A paragraph in the second column; a row of a table from the left, its last cell below its own beginning."""
    first = later = " " * _COLUMN
    if paragraph.startswith(ROW):
        paragraph = f"  {paragraph}"
        first, later = "", " " * (paragraph.rindex("  ") + 2)
    return textwrap.wrap(paragraph, _WIDTH, initial_indent=first, subsequent_indent=later, break_on_hyphens=False)


def _keys(part: Part) -> Iterator[str]:
    """The keys of every option, then those of some under a line that names these."""
    owners = {
        tuple(key.defaults): [one for one in part.keys if tuple(one.defaults) == tuple(key.defaults)]
        for key in part.keys
    }
    for names, keys in sorted(owners.items(), key=lambda one: -len(one[0])):
        if part.options and len(names) < len(part.options):
            yield from _wrap(f"  with {part.name}=", f"{' | '.join(names)}:")
        yield from (_entry(name_with_default(key), describe_key(key)) for key in keys)


def name_with_default(key: Key) -> str:
    """As it is written on a command line; without a value where one has to be given or can be left out."""
    default = key.main_default()
    return key.name if default in (REQUIRED, LEFT_OUT, CLASS_S_OWN) else f"{key.name}={to_flow(default)}"


def describe_key(key: Key) -> str:
    """Meaning, what it takes, unit, and where its default is another one."""
    takes = ", ".join(one for one in (key.values, f"in {key.unit}" if key.unit else "") if one)
    said = f"{key.meaning} [{takes}]" if takes else key.meaning
    if key.main_default() == REQUIRED:
        said = f"must be given: {said}"
    if key.main_default() == CLASS_S_OWN:
        said = f"{said}; default: {CLASS_S_OWN}"
    others = {} if key.is_decider() else key.other_defaults()
    return "; ".join([said, *(f"{value} with {', '.join(names)}" for value, names in others.items())])

"""Completion at TAB, for bash and zsh: groups, options, keys and their values, without importing Hydra.

`eval "$(python -m sweeplab --completion bash)"` makes the shell ask `python -m sweeplab --complete LINE`, where LINE is
what has been typed up to the cursor.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, get_args, get_origin

from sweeplab.config.conf import is_group, options
from sweeplab.config.own_options import find_own_folder, list_own_options
from sweeplab.config.schema import GROUPS, OF_A_TRIAL, schema_keys
from sweeplab.runtime.errors import refuse

COMPLETION: Final = "--completion"
COMPLETE: Final = "--complete"
_FLAGS: Final = ("--help", "--version", "--json", "--multirun", "--cfg", "--config-dir", COMPLETION, "--hydra-help")
_EXPERIMENT: Final = "+experiment="
_SPACE: Final = "space."

# readline takes what follows = for the word; so what stands before it is taken off each candidate
_BASH: Final = """\
_sweeplab_complete() {
  local -a command
  if [[ ${COMP_WORDS[0]##*/} == sweeplab ]]; then command=("${COMP_WORDS[0]}")
  elif [[ ${COMP_WORDS[1]} == -m && ${COMP_WORDS[2]} == sweeplab ]]; then command=("${COMP_WORDS[0]}" -m sweeplab)
  else return 0; fi
  local line=${COMP_LINE:0:COMP_POINT} IFS=$'\\n'
  local word=${line##* }
  COMPREPLY=($("${command[@]}" --complete "$line" 2>/dev/null))
  if [[ $word == *=* && $COMP_WORDBREAKS == *=* ]]; then
    COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*=}"}"}")
  fi
  if [[ ${COMPREPLY[0]-} == *[=.] ]]; then compopt -o nospace; fi
}
complete -o default -F _sweeplab_complete python python3 sweeplab
"""
_ZSH: Final = """\
_sweeplab_complete() {
  local -a command found
  if [[ ${words[1]:t} == sweeplab ]]; then command=($words[1])
  elif [[ $words[2] == -m && $words[3] == sweeplab ]]; then command=($words[1] -m sweeplab)
  else
    if (( $+functions[_python] )); then _python "$@"; else _files; fi
    return
  fi
  found=("${(@f)$($command --complete "${(j: :)words[1,CURRENT]}" 2>/dev/null)}")
  found=(${found:#})
  if (( $#found )); then
    compadd -Q -- ${found:#*[=.]}
    compadd -Q -S '' -- ${(M)found:#*[=.]}
  else
    compset -P '*='
    _files
  fi
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _sweeplab_complete python python3 sweeplab
"""
_SHELLS: Final = {"bash": _BASH, "zsh": _ZSH}


def write_completion(arguments: Sequence[str]) -> str:
    """What a shell runs to complete commands: `--completion bash`, or with `=`. Raises `ConfigError` for another."""
    words = [one.removeprefix(f"{COMPLETION}=") for one in arguments if one != COMPLETION]
    shell = next((one for one in words if one in _SHELLS), None)
    if shell is None:
        given = " ".join(words) or "nothing"
        raise refuse(COMPLETION, "must name a shell", given, "type --completion bash, or zsh")
    return _SHELLS[shell]


def complete(line: str) -> list[str]:
    """The words that may stand where `line` ends; nothing where a file, a number or a text is wanted."""
    *before, word = line.split(" ")
    if before and before[-1] in ("--help", "-h"):
        candidates = [*GROUPS, "experiment", *(name for name in schema_keys() if "." not in name)]
    elif before and before[-1] == COMPLETION:
        candidates = [*_SHELLS]
    elif word.startswith("-"):
        candidates = [*_FLAGS]
    elif "=" in word:
        candidates = [*_list_values(word.partition("=")[0], before)]
    else:
        candidates = [*_list_keys(word)]
    return sorted({one for one in candidates if one.startswith(word)})


def _list_values(typed: str, before: Sequence[str]) -> Iterator[str]:
    """`typed=VALUE` for each value that a key or a group can have."""
    key = typed.lstrip("+")
    if key == "experiment":
        own = list_own_options(find_own_folder(before), "experiment")
        yield from (f"{typed}={name}" for name in [*options("experiment"), *own])
    elif is_group(key):
        yield from (f"{typed}={name}" for name in options(key))
    elif key in schema_keys():
        yield from (f"{typed}={value}" for value in _list_choices(schema_keys()[key].annotation))


def _list_choices(kind: Any) -> Iterator[str]:
    """The words that a type names; nothing for a number or a text."""
    if kind is bool:
        yield from ("true", "false")
    elif get_origin(kind) is Literal:
        yield from map(str, get_args(kind))
    else:
        for part in get_args(kind):
            yield from _list_choices(part)


def _list_keys(word: str) -> Iterator[str]:
    """Names up to the next dot or =, so that a section's keys are shown once its name stands there."""
    plus = word[: len(word) - len(word.lstrip("+"))]
    yield _EXPERIMENT
    yield _SPACE
    if word.startswith(_SPACE):
        yield from _list_axes()
        return
    section = word.lstrip("+").rpartition(".")[0]
    for name in schema_keys():
        upper, _, last = name.rpartition(".")
        if upper != section:
            continue
        if is_group(name) or not _has_keys(name):
            yield f"{plus}{upper}.{last}=" if upper else f"{plus}{last}="
        if _has_keys(name):
            yield f"{plus}{name}."


def _has_keys(name: str) -> bool:
    return any(other.startswith(f"{name}.") for other in schema_keys())


def _list_axes() -> Iterator[str]:
    """What can be varied, each as the list of its choices or as numbers from low to high."""
    for name in schema_keys():
        is_varied = name.partition(".")[0] in OF_A_TRIAL and ("." in name or is_group(name))
        if is_varied:
            yield f"{_SPACE}{name}.choices="

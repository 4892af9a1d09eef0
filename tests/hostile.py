"""Hostile input: generated overrides and damaged data files, and the command line's answer to them in this process."""

# ruff: noqa: SIM905  (lists of words are read sooner without quotes and commas)
import io
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from copy import deepcopy
from pathlib import Path
from typing import Any, Final, NamedTuple
from unittest.mock import patch

from hypothesis import strategies as st

from sweeplab.__main__ import main
from sweeplab.config.conf import CONF
from sweeplab.config.schema import is_section, schema_keys

SECRET: Final = "zarquon-51b7c2e9"  # stands in the environment; no answer and no file may hold it
MOST_SECONDS: Final = 10.0  # of processor time for an answer; most take a third of a second
NOT_FUZZED: Final = ("action", "study.runs_dir", "study.reports_dir", "export.path")  # where an answer may write
NUMBERS: Final = (
    *"0 -1 1 2 7 1e999 -1e999 nan -nan inf -inf .5 1e-320 0x10 0b1 1_000 9223372036854775808".split(),
    *"1e308 0.1 3.7 -0.0 true null 1e5 00012".split(),
    "1" + "0" * 400,
    "1" * 5000,
)
TEXTS: Final = (
    *("", "a b", "\u202e", "\udcff", "\x00", "\x7f", "\n", "\t", "a" * 5000, "!!python/object/apply:os.system [true]"),
    *"""'' "" é 漢字 🙈 a\\ ' " 'a \\' ??? None yes [ ] { } [] {} [[]] {a:} {:1} [,] a,b a=b = a:b @ $""".split(),
    *"../../x /nowhere /dev/null / . .. CON %s%n <script> ${ }${ $HOME __import__('os') *a &a".split(),
    "{a: {b: {c: {d: [1, {e: 2}]}}}}",
    *"choice(1,2) range(1,3) range(0,1e9) interval(0,1) glob(*) int(3.5) int(x) str([1]) sort(3,1)".split(),
    *"shuffle(1,2) tag(a,1) extend_list(1) json_str({a:1}) float(nan) nope(1) cast(1)".split(),
)
INTERPOLATIONS: Final = (
    *"${oc.env:SECRET_TOKEN} '${oc.env:SECRET_TOKEN}' x${oc.env:SECRET_TOKEN}y ${oc.env:NOT_THERE}".split(),
    *"${oc.env:NOT_THERE,${oc.env:SECRET_TOKEN}} ${oc.decode:${oc.env:SECRET_TOKEN}} [${oc.env:SECRET_TOKEN}]".split(),
    *"${oc.env:} ${oc.select:study.name} ${oc.create:[1]} ${oc.dict.keys:study} ${oc.deprecated:study}".split(),
    *"${study.name} ${study} ${space} ${.} ${..} ${...x} ${nope.nope} ${adapter.rank} ${data.tasks}".split(),
    *"${hydra:runtime.cwd} ${hydra:job.name} ${now:%Y} ${now:%} ${${x}} ${python_version:}".split(),
    "{a: ${oc.env:SECRET_TOKEN}}",
    "${" * 50 + "x" + "}" * 50,
)


def leaves() -> Iterator[tuple[str, Any]]:
    """Every key of the schema that takes a value, with its type."""
    for key, field in schema_keys().items():
        if not is_section(key) and key not in NOT_FUZZED:
            yield key, field.annotation


LEAVES: Final = tuple(leaves())
GROUPS: Final = {
    folder.name: sorted(path.stem for path in folder.glob("*.yaml"))
    for folder in sorted(CONF.iterdir())
    if folder.is_dir() and folder.name != "experiment"
}
words = st.sampled_from(TEXTS) | st.text(max_size=30)
numbers = st.sampled_from(NUMBERS) | st.integers().map(str) | st.floats().map(repr)
small = st.integers(-1, 40).map(str)
scalars = small | numbers | words | st.sampled_from(INTERPOLATIONS)
nested = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda parts: f"[{','.join(parts)}]")
        | st.dictionaries(
            st.sampled_from(("a", "low", "high", "choices", "when", "q_proj", "")) | words, inner, max_size=3
        ).map(lambda parts: "{" + ", ".join(f"{key}: {value}" for key, value in parts.items()) + "}")
    ),
    max_leaves=6,
)
deep = st.integers(2, 3000).map(lambda depth: "[" * depth + "]" * depth) | st.integers(2, 300).map(
    lambda depth: "{a: " * depth + "1" + "}" * depth
)


def fitting(kind: Any) -> st.SearchStrategy[str]:
    """Values of about the right type, so that many commands get past the first check."""
    text = str(kind)
    if kind is bool:
        return st.sampled_from(("true", "false"))
    if "list" in text:
        return st.lists(small, max_size=3).map(lambda parts: f"[{','.join(parts)}]")
    if "int" in text or "float" in text:
        return small | st.floats(0, 4).map(repr)
    return st.sampled_from(
        ("auto", "none", "cpu", "json", "plain", "alpaca", "chatml", "template", "linear", "x", "lora")
    )


@st.composite
def mutated(draw: st.DrawFn, text: str) -> str:
    """`text` with a letter too many, too few or another one."""
    place = draw(st.integers(0, len(text)))
    return text[:place] + draw(st.text(max_size=2)) + text[place + draw(st.integers(0, 2)) :]


@st.composite
def assignments(draw: st.DrawFn) -> str:
    key, kind = draw(st.sampled_from(LEAVES))
    if draw(st.integers(0, 9)) == 0:
        key = draw(mutated(key))
    value = draw(st.one_of(fitting(kind), fitting(kind), scalars, nested, deep))
    return f"{draw(st.sampled_from(('', '', '', '', '+', '++', '~')))}{key}={value}"


@st.composite
def spaces(draw: st.DrawFn) -> str:
    key = draw(st.sampled_from(LEAVES))[0] if draw(st.booleans()) else draw(st.sampled_from(sorted(GROUPS)))
    spec = draw(
        st.lists(scalars, max_size=4).map(lambda parts: f"{{choices: [{','.join(parts)}]}}")
        | st.tuples(numbers, numbers).map(lambda ends: f"{{low: {ends[0]}, high: {ends[1]}}}")
        | nested
    )
    return f"space.{key}={spec}"


groups = st.sampled_from(sorted(GROUPS)).flatmap(
    lambda group: st.builds(
        "{}{}={}".format,
        st.sampled_from(("", "", "+", "++", "~")),
        st.just(group),
        st.sampled_from(GROUPS[group]) | st.sampled_from(GROUPS[group]).flatmap(mutated) | scalars,
    )
)
arguments = st.one_of(assignments(), assignments(), groups, spaces(), assignments().flatmap(mutated), words)
commands = st.tuples(
    st.sampled_from(([], [], [], ["+experiment=rank_sweep"])), st.lists(arguments, min_size=1, max_size=4)
).map(lambda parts: [one for part in parts for one in part if not one.startswith("-")])


class Answer(NamedTuple):
    """What the command line said, and how long it took."""

    code: int
    out: str
    err: str
    seconds: float


class TooSlow(BaseException):
    """No answer in time."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raises `TooSlow` in the middle of whatever takes more processor time: others may want the machine too."""

    def ring(*_: Any) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def stream() -> io.TextIOWrapper:
    """As strict as a terminal's."""
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict", write_through=True)


def said(written: io.TextIOWrapper) -> str:
    """What was written to a `stream`."""
    kept = written.buffer
    assert isinstance(kept, io.BytesIO)
    return kept.getvalue().decode("utf-8", "replace")


def answer(command: list[str], folder: Path) -> Answer:
    """The command line's answer in `folder`. Whatever it raises but an exit is raised here."""
    out, err = stream(), stream()
    err.reconfigure(errors="backslashreplace")  # as Python's own stderr
    here, started, code = Path.cwd(), time.process_time(), 0
    os.chdir(folder)
    try:
        with (
            patch.object(sys, "argv", ["sweeplab", *command]),
            patch.dict(os.environ, {"SECRET_TOKEN": SECRET, "COLUMNS": "200", "NO_COLOR": "1"}),
            redirect_stdout(out),
            redirect_stderr(err),
            within(MOST_SECONDS),
        ):
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except TooSlow:
        raise AssertionError(f"no answer within {MOST_SECONDS:g} seconds: {command}") from None
    finally:
        os.chdir(here)
    return Answer(code, said(out), said(err), time.process_time() - started)


def leaked(folder: Path) -> list[Path]:
    """Files that hold the environment's secret."""
    return [path for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


ROWS: Final = [
    {"instruction": f"Say {number}.", "input": "now" if number % 3 else "", "output": f"{number} é"}
    for number in range(6)
]
CHATS: Final = [
    {"messages": [{"role": "user", "content": f"Say {number}."}, {"role": "assistant", "content": str(number)}]}
    for number in range(6)
]
ODD_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, 0, -1, 1e300, [], {}, [[]], {"a": {"b": []}}),
    *("", " ", "\x00", "\ud800", "a" * 3000, "{}{x}"),
)


odd_values = st.sampled_from(ODD_VALUES).map(deepcopy)  # what `odd_rows` puts into a record, it may change later


def as_text(rows: list[Any], lines: bool) -> bytes:
    spelled = [json.dumps(row) for row in rows]
    return ("\n".join(spelled) if lines else f"[{','.join(spelled)}]").encode()


@st.composite
def odd_rows(draw: st.DrawFn) -> list[Any]:
    """Records of which some lack a field, or hold another kind of value in it."""
    rows: list[Any] = json.loads(json.dumps(draw(st.sampled_from((ROWS, CHATS)))))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(rows) - 1))
        if not isinstance(rows[place], dict) or draw(st.integers(0, 4)) == 0:
            rows[place] = draw(odd_values)
            continue
        name = draw(st.sampled_from(("instruction", "input", "output", "messages", "other")))
        if draw(st.booleans()):
            rows[place].pop(name, None)
        else:
            rows[place][name] = draw(odd_values)
    return rows


@st.composite
def damaged_files(draw: st.DrawFn) -> bytes:
    """A data file that is whole but odd, or has bytes too many, too few or other ones; or no data file at all."""
    whole = as_text(draw(odd_rows() | st.sampled_from((ROWS, CHATS))), draw(st.booleans()))
    kind = draw(st.integers(0, 9))
    if kind < 3:
        return whole
    if kind < 7:
        for _ in range(draw(st.integers(1, 4))):
            place = draw(st.integers(0, len(whole)))
            new = draw(
                st.binary(max_size=3)
                | st.sampled_from((b"{", b"[", b'"', b"\\u", b"\xff", b"\x00", b"\n", b"NaN", b"\xe2\x80\xa8"))
            )
            whole = whole[:place] + new + whole[place + draw(st.integers(0, 3)) :]
        return whole
    if kind == 7:
        return whole[: draw(st.integers(0, len(whole)))]
    if kind == 8:
        depth = draw(st.sampled_from((10, 1_000, 100_000)))
        return draw(
            st.sampled_from(
                (b"[" * depth, b"[" * depth + b"]" * depth, b'{"instruction":' * depth, b"[" + b"9" * depth + b"]")
            )
        )
    return draw(
        st.binary(max_size=200)
        | st.sampled_from((b"\xef\xbb\xbf" + whole, whole.decode().encode("utf-16"), b"\x80\x04N."))
    )


OWN: Final = b"""# @package _global_
# A study of one's own.
defaults:
  - override /optimizer: sgd
  - override /sampler: random
  - override /evaluation: none

study:
  name: 2026_07_15
  question: "Which rank, and does the rate matter?"
  seeds: [0, 1]
  num_trials: 4
  objectives: [heldout_loss_nats_per_token]
training: {max_steps: 5}
space:
  adapter.rank: {choices: [4, 8]}
  optimizer:
    lr:
      low: 1e-4
      high: 1e-2
      log: true
claims:
  - words: A higher rank is better.
    source: nobody
    metric: heldout_loss_nats_per_token
    better: {adapter.rank: 8}
    worse: {adapter.rank: 4}
"""
PIECES: Final = (
    *(b"\t", b"  ", b"\n", b"- ", b": ", b"{", b"}", b"[", b"]", b"'", b'"', b"#", b"&a ", b"*a", b"!!", b"|", b">"),
    *(b"<<: ", b"? ", b"---\n", b"...\n", b"\xff", b"\x00", b"\xef\xbb\xbf", b"\r", b"null", b"true", b"1e5", b"~"),
    *(b"override ", b"/optimizer: sgd", b"_self_", b"${study.name}", b"${oc.env:SECRET_TOKEN}", b"???", b".inf", b"@x"),
    *(
        b"2026-07-15",
        b"0x1F",
        b"1:30",
        b"!!binary aGk=",
        b"!!set {a}",
        b"!!python/name:os.system",
        b"%YAML 3.0\n",
        b"\xc2\x85",
    ),
)


@st.composite
def own_experiments(draw: st.DrawFn) -> bytes:
    """A user's experiment file with lines lost, doubled, moved or indented, and bytes too many, too few or others."""
    lines = OWN.splitlines(keepends=True)
    for _ in range(draw(st.integers(0, 3))):
        place, other = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
        match draw(st.integers(0, 4)):
            case 0 if len(lines) > 1:
                del lines[place]
            case 1:
                lines.insert(other, lines[place])
            case 2:
                lines[place], lines[other] = lines[other], lines[place]
            case 3:
                lines[place] = draw(st.sampled_from((b"\t", b" ", b"    "))) + lines[place]
            case _:
                key = draw(st.sampled_from(LEAVES))[0]
                value = draw(scalars | nested)
                lines.insert(place, f"{key}: {value}\n".encode("utf-8", "surrogatepass"))
    data = b"".join(lines)
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(data)))
        data = (
            data[:place]
            + draw(st.sampled_from(PIECES) | st.binary(max_size=3))
            + data[place + draw(st.integers(0, 5)) :]
        )
    return data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 9)) == 0 else data

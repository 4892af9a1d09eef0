"""`action=answers`: what the base and a trial answered to each item of the tasks, side by side, as CSV."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.text import Text

from sweeplab.cli.finished_trials import choose_trial
from sweeplab.config.study import StudyConfig, study_folder
from sweeplab.records.metrics import SHARES, choose_headline, split_filter
from sweeplab.records.record import TrialRecord
from sweeplab.records.store import (
    StoreError,
    base_items_path,
    read_facts,
    read_json_lines,
    read_records,
    trial_folder,
    write_text,
)
from sweeplab.report.evidence.bases import list_possible_keys
from sweeplab.report.evidence.formatting import count_noun
from sweeplab.runtime.errors import ConfigError

_LIKELIHOOD: Final = re.compile(r"\(?(?:np\.float\d+\()?(-?[\d.]+(?:e[+-]?\d+)?|-inf)\)?, (?:np\.)?(?:True|False)\)?")
_RIGHT: Final = {0.0: "wrong", 0.5: "tie", 1.0: "right"}  # a tie: of a judge
_RANKS: Final = {word: rank for rank, word in enumerate(_RIGHT.values())}
_SHOWN: Final = 3  # items that the terminal shows
_WIDTH: Final = 60  # letters of each text there
_COLUMNS: Final = ("task", "item", "question", "target", "base", "trial", "base_result", "trial_result", "change")


class Answered(NamedTuple):
    """An item of a task with the answers of base and trial; None where the base has no row of it."""

    task: str  # with the filter's name, where it has one
    item: int
    question: str | None  # what the model was given; None in studies from before it was kept
    target: str
    base: str | None
    trial: str
    base_result: str | None  # right, wrong, tie, or the metric's number
    trial_result: str

    @property
    def change(self) -> str:
        """Gained, lost or same; empty where that is not known."""
        if self.base_result is None:
            return ""
        before, after = _RANKS.get(self.base_result), _RANKS.get(self.trial_result)
        if before is not None and after is not None:
            return "same" if before == after else "gained" if after > before else "lost"
        return "same" if self.base_result == self.trial_result else "other"


def show_answers(config: StudyConfig, console: Console) -> None:
    """Writes the table, prints how many answers changed, with a few, and its path. Raises `ConfigError` and
    `StoreError`."""
    folder = study_folder(config)
    records = read_records(folder)
    number = choose_trial(config, folder, records)
    record = next((one for one in records if one.number == number), None)
    if record is None or not (trial_folder(folder, number) / "items.jsonl").is_file():
        raise ConfigError(f"trial={number} has no answers in {folder}; name a finished trial, or trial=best")
    facts = read_facts(folder)
    answered = list_answers(folder, record, [] if facts is None else list(facts.objectives))
    if not answered:
        raise ConfigError(f"trial={number} answered no task's items; give evaluation.tasks, and run it again")
    path = folder / "answers" / f"trial-{number:05d}.csv"
    write_text(path, write_csv(answered))
    changes = Counter(one.change for one in answered)
    console.print(
        Text(
            f"trial {number}: {count_noun(len(answered), 'answer')}; against the base {changes['gained']} gained, "
            f"{changes['lost']} lost, {changes['same']} right or wrong in both"
        ),
        soft_wrap=True,
    )
    for kind in ("gained", "lost"):
        for one in [one for one in answered if one.change == kind][:_SHOWN]:
            words = [_cut(one.question), _cut(one.base), _cut(one.trial)]
            console.print(Text(f"  {kind} {one.task} {one.item}: {words[0]} | {words[1]} | {words[2]}"), soft_wrap=True)
    console.print(Text(f"answers  {path}"), soft_wrap=True)


def _cut(text: str | None) -> str:
    """The end of a question, where it is asked, or of an answer, on one line."""
    words = " ".join((text or "").split()) or "–"
    return words if len(words) <= _WIDTH else f"…{words[-_WIDTH:]}"


def list_answers(folder: Path, record: TrialRecord, wanted: Sequence[str]) -> list[Answered]:
    """The answers of a trial beside those of its base, in the tasks' order. Raises `StoreError`."""
    before = {_identify(row): row for row in _read_base_rows(folder, record)}
    rows = [row for row in read_json_lines(trial_folder(folder, record.number) / "items.jsonl") if "item" in row]
    metrics: dict[str, list[str]] = {}
    for row in rows:
        names = metrics.setdefault(row["task"], [])
        names += [name for name in row["metrics"] if name not in names]
    chosen = {task: choose_headline(task, names, wanted) for task, names in metrics.items() if names}
    return [_join(row, before.get(_identify(row)), chosen.get(row["task"])) for row in rows]


def _read_base_rows(folder: Path, record: TrialRecord) -> Iterator[dict[str, Any]]:
    """Of the base that the trial was trained on; nothing where it was not scored."""
    there = [path for key in sorted(list_possible_keys(record)) if (path := base_items_path(folder, key)).is_file()]
    for path in there[:1]:
        yield from (row for row in read_json_lines(path) if "item" in row)


def _identify(row: dict[str, Any]) -> tuple[str, int, str]:
    try:
        return str(row["task"]), int(row["item"]), str(row["filter"])
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"a row of results is malformed: {error!r}; run the trial again") from error


def _join(row: dict[str, Any], base: dict[str, Any] | None, metric: str | None) -> Answered:
    suffix = "" if row["filter"] == "none" else f"@{row['filter']}"
    return Answered(
        f"{row['task']}{suffix}",
        int(row["item"]),
        None if base is None else base.get("prompt"),
        str(row["target"]),
        None if base is None else describe_answer(base["responses"]),
        describe_answer(row["responses"]),
        None if base is None else _describe_result(base, metric),
        _describe_result(row, metric) or "",
    )


def describe_answer(responses: Sequence[str]) -> str:
    """The text that was written; of log-likelihoods, which choice is the likeliest."""
    pairs = [_LIKELIHOOD.fullmatch(one) for one in responses]
    if len(responses) > 1 and all(pairs):
        likelihoods = [float(pair[1]) for pair in pairs if pair is not None]
        return f"choice {likelihoods.index(max(likelihoods))}"
    return " | ".join(responses)


def _describe_result(row: dict[str, Any], metric: str | None) -> str | None:
    value = row["metrics"].get(metric)
    if not isinstance(value, int | float):
        return None
    is_share = metric is not None and split_filter(metric)[0] in SHARES
    return _RIGHT.get(float(value), f"{value:g}") if is_share else f"{value:g}"


def write_csv(answered: Sequence[Answered]) -> str:
    """As spreadsheets read it; a text that would be taken for a formula has a quote before it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for one in answered:
        cells = [*one, one.change]
        writer.writerow([_defuse(cell) if isinstance(cell, str) else "" if cell is None else cell for cell in cells])
    return out.getvalue()


def _defuse(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "@", "\t", "\r")) else text

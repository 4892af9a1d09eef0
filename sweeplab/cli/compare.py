"""`action=compare`: studies side by side, as one report over all their trials with the study as one more key."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from sweeplab.config.study import StudyConfig
from sweeplab.records.constraints import combine_constraints
from sweeplab.records.items import Items
from sweeplab.records.record import StudyFacts, TrialRecord
from sweeplab.records.stored import value_at
from sweeplab.report.evidence.formatting import format_value
from sweeplab.report.evidence.settings import first_objective
from sweeplab.report.evidence.stored import StoredStudy, read_stored_study
from sweeplab.report.findings.differences import STUDY, list_differences
from sweeplab.runtime.errors import ConfigError, write_value
from sweeplab.tracking.ending import show_comparison


def report_comparison(config: StudyConfig, console: Console) -> Path:
    """Writes the report of the studies side by side, prints what it says and its path; gives its folder.

    Raises `ConfigError` and `StoreError`.
    """
    runs_dir, reports_dir = Path(config.study.runs_dir), Path(config.study.reports_dir)
    page = compare_studies(config.studies, runs_dir, reports_dir, config.compare.uncontrolled)
    show_comparison(read_stored_study(page.parent), page, console)
    return page.parent


def compare_studies(names: Sequence[str], runs_dir: Path, reports_dir: Path, uncontrolled: bool) -> Path:
    """Writes the report of the studies side by side; gives its path.

    Studies are read from their runs, or from their reports where there are no runs. Raises `ConfigError` where fewer
    than two are named, one is not there, or they differ in what has to be alike and `uncontrolled` is false.
    """
    from sweeplab.report import write_index, write_report

    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise ConfigError(f"studies must name two studies or more, each once, got {list(names)}; try studies=[a,b]")
    merged = _merge_studies([_read_study(name, runs_dir, reports_dir) for name in names], names)
    uncontrolled_keys = [one for one in list_differences(merged.facts, merged.records) if one.controlled]
    if uncontrolled_keys and not uncontrolled:
        listed = "; ".join(f"{one.key}: {' against '.join(one.values)}" for one in uncontrolled_keys)
        raise ConfigError(
            f"studies={write_value(list(names))} differ in what has to be alike ({listed}), so that a difference says "
            "nothing of what was varied; run one of them again, or use compare.uncontrolled=true"
        )
    page = write_report(*merged[:2], reports_dir / "-and-".join(names), merged.items, merged.bases)
    write_index(reports_dir)
    return page


def _read_study(name: str, runs_dir: Path, reports_dir: Path) -> StoredStudy:
    """Raises `ConfigError` naming the study that is not there."""
    for folder, file in ((runs_dir / name, "study.json"), (reports_dir / name, "records.json")):
        if Path(name).name == name and (folder / file).exists():
            return read_stored_study(folder)
    raise ConfigError(f"studies must name studies that were run, got {name}; {runs_dir}/{name} has no study.json")


def _merge_studies(stored: Sequence[StoredStudy], names: Sequence[str]) -> StoredStudy:
    """One study of all trials; trial n of study k has the number n + k * 100, or * 1000 where that is too few.

    Raises `ConfigError` where the first objectives differ.
    """
    objectives = {first_objective(one.facts) for one in stored}
    if len(objectives) > 1:
        listed = " and ".join(sorted(metric for metric, _ in objectives))
        raise ConfigError(
            f"studies={write_value(list(names))} have different first objectives, {listed}; compare those with the same"
        )
    step = 10 ** max([2, *(len(str(record.number)) for one in stored for record in one.records)])
    keys = dict.fromkeys(key for one in stored for key in one.facts.space)
    records = [
        _move_record(record, name, place * step, list(keys))
        for place, (one, name) in enumerate(zip(stored, names, strict=True))
        for record in one.records
    ]
    bases = {base.key: base for one in stored for base in one.bases}
    items = _merge_items([one.items for one in stored], step)
    return StoredStudy(_merge_facts([one.facts for one in stored], names), records, items, list(bases.values()))


def _move_record(record: TrialRecord, name: str, offset: int, keys: list[str]) -> TrialRecord:
    """`record` as one of the comparison's: it says its study, and its values of what any of the studies varied."""
    known = {key: value for key in keys if (value := value_at(record.config, key)) is not None}
    params = {STUDY: name} | known | record.params
    cohort = [number + offset for number in record.cohort]
    return replace(record, number=record.number + offset, params=params, cohort=cohort)


def _merge_facts(facts: Sequence[StudyFacts], names: Sequence[str]) -> StudyFacts:
    space: dict[str, dict[str, Any]] = {STUDY: {"choices": list(names)}}
    for one in facts:
        for key, axis in one.space.items():
            before = space.setdefault(key, axis)
            if "choices" in before and "choices" in axis:
                texts = {format_value(value): value for value in [*before["choices"], *axis["choices"]]}
                space[key] = {**before, "choices": list(texts.values())}
    planned = [one.num_planned for one in facts]
    return StudyFacts(
        name=" and ".join(names),
        question=f"How do the studies {' and '.join(names)} differ?",
        command=f"python -m sweeplab action=compare 'studies=[{','.join(names)}]'",
        objectives=facts[0].objectives,
        seeds=sorted(set.intersection(*(set(one.seeds) for one in facts))),
        space=space,
        num_planned=None if None in planned else sum(number for number in planned if number is not None),
        config=_find_common([one.config for one in facts]),
        retained_tasks=[task for task in facts[0].retained_tasks if all(task in one.retained_tasks for one in facts)],
        constraints=combine_constraints([one.constraints for one in facts]),
    )


def _find_common(configs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What all configurations say."""
    found: dict[str, Any] = {}
    for key, value in configs[0].items():
        others = [one.get(key) for one in configs[1:]]
        if all(other == value for other in others):
            found[key] = value
        elif isinstance(value, dict) and all(isinstance(other, dict) for other in others):
            found[key] = _find_common([value, *(other for other in others if isinstance(other, dict))])
    return found


def _merge_items(tables: Sequence[Items | None], step: int) -> Items | None:
    """Metrics that all studies have item by item, over the same items; None without one."""
    known = [table for table in tables if table is not None]
    if len(known) < len(tables):
        return None
    found: Items = {}
    for metric, first in known[0].items():
        others = [table[metric] for table in known if metric in table]
        if len(others) == len(known) and all(
            other._replace(values={}) == first._replace(values={}) for other in others
        ):
            values = {n + k * step: row for k, other in enumerate(others) for n, row in other.values.items()}
            found[metric] = first._replace(values=values)
    return found or None

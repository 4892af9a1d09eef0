"""What the figures show, apart from how: lines and dots, which plotly and the static SVG both draw."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from sweeplab.records import METRICS, Status, StudyFacts, TrialRecord
from sweeplab.report.axes import Axis, main_axis
from sweeplab.report.evidence import evidence
from sweeplab.report.settings import SHARES, Setting, headline_scores, numbers, varied_keys
from sweeplab.report.tables import LOSS, STEP_SECONDS, all_records, memory_metric, time_metric
from sweeplab.report.verdicts import Published
from sweeplab.report.wording import memory_scale, number, score_label, setting_label
from sweeplab.statistics.intervals import Estimate

# Okabe and Ito 2008, without black and yellow, which vanish on a dark and on a light page.
PALETTE: Final = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#7F7F7F")
MAX_LINES: Final = 6  # of the other axes; more become one cloud, since nobody could tell the lines apart
MAX_LISTED: Final = 14  # settings in a legend


class Dot(NamedTuple):
    x: float
    y: float
    text: str  # shown when pointed at
    low: float | None = None  # ends of a mean's interval
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """`path` runs through means, or through one trial's steps; `dots` are single trials."""

    label: str
    color: int
    dash: int
    dots: list[Dot]
    path: list[Dot]
    listed: bool = True  # in the legend


@dataclass(frozen=True)
class Chart:
    ident: str
    title: str
    note: str
    y_title: str
    axis: Axis | None  # None: x counts optimizer steps
    lines: list[Line]
    unit_range: bool = False  # y from 0 to 1
    log_y: bool = False

    @property
    def joined(self) -> bool:
        """Categories have no between, so their means are bars without a line."""
        return self.axis is None or self.axis.scale != "category"


class Curve(NamedTuple):
    """A metric to draw against the varied axis; values are divided by `divisor`."""

    name: str
    label: str
    divisor: float = 1.0


def charts(facts: StudyFacts, settings: list[Setting], published: Sequence[Published] = ()) -> list[Chart]:
    """Every figure that has something to show, scores first; with what sources published of the same metrics."""
    records = all_records(settings)
    axis = main_axis(facts, records)
    drawn = [
        *score_charts(facts, settings, axis, published),
        against_axis(
            "heldout-loss", "Held-out loss", "held-out loss (nats/target)", facts, settings, axis, [Curve(LOSS, "loss")]
        ),
        loss_curves(settings),
        time_chart(facts, settings, axis),
        memory_chart(facts, settings, axis),
    ]
    return [chart for chart in drawn if chart is not None]


def score_charts(
    facts: StudyFacts, settings: list[Setting], axis: Axis, published: Sequence[Published]
) -> list[Chart | None]:
    """Shares share one figure, so that learning stands beside forgetting; any other metric has its own."""
    panels: dict[str, list[Curve]] = {}
    for task, metric in headline_scores(all_records(settings)):
        panel = "share" if metric.split(",")[0] in SHARES else metric
        panels.setdefault(panel, []).append(Curve(f"scores.{task}.{metric}", score_label(task, metric)))
    num_families = len(other_axes(facts, settings, axis))
    made: list[Chart | None] = []
    for panel, curves in panels.items():
        split = num_families > 1 and len(curves) * num_families > MAX_LINES
        for members in [[curve] for curve in curves] if split else [curves]:
            title = f"Score: {members[0].label}" if len(members) == 1 else "Scores"
            y_title, ident = "score (share right)" if panel == "share" else panel, f"score-{len(made)}"
            drawn = against_axis(ident, title, y_title, facts, settings, axis, members, panel == "share")
            made.append(drawn and with_published(drawn, members, published))
    return made


def time_chart(facts: StudyFacts, settings: list[Setting], axis: Axis) -> Chart | None:
    name = time_metric(all_records(settings))
    alone = name == STEP_SECONDS
    title = "Time of a step alone, longest batch" if alone else "Training time"
    y_title = "step alone (s)" if alone else "training time (s)"
    return against_axis(
        "step-time" if alone else "train-time", title, y_title, facts, settings, axis, [Curve(name, "time")]
    )


def memory_chart(facts: StudyFacts, settings: list[Setting], axis: Axis) -> Chart | None:
    records = [record for setting in settings for record in setting.finished]
    name = memory_metric(all_records(settings))
    if name is None or not any(name in numbers(record) for record in records):
        return None
    divisor, unit = memory_scale(max(numbers(record).get(name, 0.0) for record in records))
    label = METRICS[name].label
    if label.endswith(", training"):
        label = f"{label.removesuffix(', training')} in training"
    title = f"{label[0].upper()}{label[1:]}"
    curve = Curve(name, "memory", divisor)
    return against_axis("peak-memory", title, f"peak memory ({unit})", facts, settings, axis, [curve])


def against_axis(
    ident: str,
    title: str,
    y_title: str,
    facts: StudyFacts,
    settings: list[Setting],
    axis: Axis,
    curves: list[Curve],
    unit_range: bool = False,
) -> Chart | None:
    """Every finished trial as a dot and the mean over seeds, one line per metric and per value of the other axes."""
    families = other_axes(facts, settings, axis)
    clouded = len(families) > MAX_LINES
    if clouded:
        families = {"": settings}
    lines = []
    estimates = {curve.name: setting_estimates(facts, settings, curve.name) for curve in curves}
    for place, curve in enumerate(curves):
        for index, (family, members) in enumerate(families.items()):
            label = ", ".join(part for part in (curve.label if len(curves) > 1 or not family else "", family) if part)
            color, dash = (place, index) if len(curves) > 1 else (index, 0)
            path = [] if clouded else mean_path(members, axis, curve, estimates[curve.name])
            lines.append(Line(label, color, dash, trial_dots(members, axis, curve), path))
    lines = [line for line in lines if line.dots]
    if axis.scale == "category":
        lines = [side_by_side(line, place, len(lines)) for place, line in enumerate(lines)]
    if not lines:
        return None
    fits = unit_range and all(0 <= dot.y <= 1 for line in lines for dot in line.dots)
    note = "One dot per trial; the other axes vary too, so no line is drawn." if clouded else mean_note(axis)
    if any(curve.name.startswith("solo.") for curve in curves) and has_unprobed(settings):
        note += " Trials that need the base for themselves were not probed, and are not drawn."
    return Chart(ident, title, note, y_title, axis, lines, fits)


def has_unprobed(settings: list[Setting]) -> bool:
    return any(record.solo is None for setting in settings for record in setting.finished)


def side_by_side(line: Line, place: int, num_lines: int) -> Line:
    """`line` moved within its category, so that equal values of several lines do not hide each other."""
    shift = 0.7 * ((place + 0.5) / num_lines - 0.5)
    return replace(
        line,
        dots=[dot._replace(x=dot.x + shift) for dot in line.dots],
        path=[dot._replace(x=dot.x + shift) for dot in line.path],
    )


def mean_note(axis: Axis) -> str:
    mark = "a bar" if axis.scale == "category" else "a line"
    return f"One dot per trial, {mark} at the mean over seeds with its 95 % interval, where there is one."


def other_axes(facts: StudyFacts, settings: list[Setting], axis: Axis) -> dict[str, list[Setting]]:
    """Settings that differ on the main axis only, by the label of the rest."""
    records = all_records(settings)
    keys = [key for key in varied_keys(facts, records) if key != axis.key]
    families: dict[str, list[Setting]] = {}
    for setting in settings:
        rest = {key: value for key, value in setting.params.items() if key in keys}
        families.setdefault(setting_label(rest, keys) if rest else "", []).append(setting)
    return families


def trial_dots(settings: list[Setting], axis: Axis, curve: Curve) -> list[Dot]:
    dots = []
    for setting in settings:
        for record in setting.finished:
            value = numbers(record).get(curve.name)
            if value is not None:
                shown = value / curve.divisor
                text = f"trial {record.number}, {setting.label}, seed {record.seed}: {number(shown)}"
                dots.append(Dot(axis.place(setting.params), shown, text))
    return dots


def setting_estimates(facts: StudyFacts, settings: list[Setting], metric: str) -> dict[int, Estimate]:
    """Means with intervals by the number of a setting's first trial, of settings that have every seed's value."""
    found = evidence(facts, settings, metric, None)
    pairs = () if found is None else zip(found.settings, found.estimates, strict=True)
    return {setting.records[0].number: estimate for setting, estimate in pairs}


def mean_path(settings: list[Setting], axis: Axis, curve: Curve, estimates: dict[int, Estimate]) -> list[Dot]:
    path = []
    for setting in settings:
        spread = setting.spreads.get(curve.name)
        if spread is not None:
            mean = spread.mean / curve.divisor
            estimate = estimates.get(setting.records[0].number)
            ends = (None, None) if estimate is None else (estimate.low, estimate.high)
            low, high = (None if end is None else end / curve.divisor for end in ends)
            known = "" if low is None or high is None else f" [{number(low)}, {number(high)}]"
            text = f"mean of {spread.num_seeds}, {setting.label}: {number(mean)}{known}"
            path.append(Dot(axis.place(setting.params), mean, text, low, high))
    return sorted(path, key=lambda dot: dot[:3])


def with_published(chart: Chart, curves: list[Curve], published: Sequence[Published]) -> Chart:
    """`chart` with the sources' own values as one more line of dots, where it has a place for them."""
    axis = chart.axis
    names = {curve.name: curve.label for curve in curves}
    dots = [
        Dot(axis.place(one.params), one.value, f"{one.source}, {names[one.metric]}: {number(one.value)}")
        for one in published
        if axis is not None and axis.key in one.params and one.metric in names
    ]
    return replace(chart, lines=[*chart.lines, Line("published", len(PALETTE) - 1, 2, dots, [])]) if dots else chart


def loss_curves(settings: list[Setting]) -> Chart | None:
    """Held-out loss over steps, every trial on its own, failed ones too; None where no trial has two points."""
    lines = []
    for index, setting in enumerate(settings):
        listed = len(settings) <= MAX_LISTED
        for record in setting.records:
            path = curve_path(setting, record)
            if len(path) > 1:
                lines.append(Line(setting.label, index % len(PALETTE), index // len(PALETTE), [], path, listed))
                listed = False
    if not lines:
        return None
    losses = [dot.y for line in lines for dot in line.path]
    log_y = min(losses) > 0 and max(losses) > 50 * min(losses)
    y_title = f"held-out loss (nats/target{', log scale' if log_y else ''})"
    note = "One line per trial, coloured by setting; trials that failed are drawn as far as they came."
    return Chart("loss-curves", "Held-out loss over training", note, y_title, None, lines, False, log_y)


def curve_path(setting: Setting, record: TrialRecord) -> list[Dot]:
    ended = "" if record.status is Status.FINISHED else f" ({record.status.value.replace('_', ' ')})"
    who = f"trial {record.number}, {setting.label}, seed {record.seed}{ended}"
    return [
        Dot(point.step, point.loss, f"{who}, step {point.step}: {number(point.loss)}")
        for point in record.heldout_losses
    ]

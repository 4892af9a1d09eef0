"""The tables of a plan, which keep every number whole on a terminal of 80 columns, and what makes a setting smaller."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table

from sweeplab.config.space import Params
from sweeplab.config.trial import TrialConfig
from sweeplab.planning.fit import Fit, judge_fit
from sweeplab.report.evidence.formatting import DASH, describe_params, format_value, list_name_columns
from sweeplab.report.evidence.masks import Mask, find_masks

if TYPE_CHECKING:
    from sweeplab.planning.forecast import Forecast

_GB: Final = 1e9
_MB: Final = 1e6
_MOST_AXES: Final = 4  # with a column each; settings of more are named in one
_MOST_BESIDE_TRIAL: Final = 2  # of them beside a column with a whole trial's minutes
_MOST_UNBROKEN: Final = 12  # characters of an axis's value; a model's name may go on below
_TERMINAL: Final = 80  # columns
_BETWEEN: Final = 2  # of its columns between two of a table
_LEAST_WORDS: Final = 10  # columns for whether a setting fits
_GIVING_WAY: Final = ("% of\nall", "base\nbits")  # the first says the least
_BORDERLESS: Final[dict[str, Any]] = {
    "box": SIMPLE_HEAD,
    "show_edge": False,
    "pad_edge": False,
    "padding": (0, 1, 0, 0),
    "title_justify": "left",
}


class PlanRow(NamedTuple):
    """One setting: its point of the grid, or the configured one for a sampler that draws; and what it would take."""

    params: Params
    config: TrialConfig
    num_seeds: int
    forecast: "Forecast"
    why_exclusive: str | None  # why it must train alone; None: others can train beside it


class _Unit(NamedTuple):
    """Of a table's sizes: GB, or MB where the largest is below one."""

    name: str
    size: float  # bytes
    num_decimals: int

    def text(self, num_bytes: float) -> str:
        return f"{num_bytes / self.size:,.{self.num_decimals}f}"


def _choose_unit(largest_bytes: float) -> _Unit:
    return _Unit("GB", _GB, 3) if largest_bytes >= _GB else _Unit("MB", _MB, 1)


def format_bytes(num_bytes: float) -> str:
    """`27.3 GB` or `559.4 MB`."""
    unit = _choose_unit(num_bytes)
    return f"{num_bytes / unit.size:,.1f}".removesuffix(".0") + f" {unit.name}"


def format_minutes(seconds: float | None) -> str:
    return DASH if seconds is None else f"{seconds / 60:,.1f}"


def _describe_fit(row: PlanRow, memory_bytes: int) -> str:
    """`yes`, or such as `no, 16.2 in train`: the unit is the column's."""
    memory, unit = row.forecast.memory, _choose_unit(memory_bytes)
    fit = judge_fit(memory.needed_bytes, memory_bytes)
    word = {Fit.FITS: "yes", Fit.UNCERTAIN: "maybe", Fit.DOES_NOT_FIT: "no"}[fit]
    return word if fit is Fit.FITS else f"{word}, {memory.needed_bytes / unit.size:,.1f} in {memory.highest_phase}"


def _list_columns(rows: Sequence[PlanRow]) -> dict[str, Mask | str]:
    """As the report has them, a dash where a setting lacks an axis; none where there are too many for a terminal."""
    keys = list(dict.fromkeys(key for row in rows for key in row.params))
    switches = {
        key: {"choices": [True, False]}
        for key in keys
        if all(isinstance(row.params.get(key, True), bool) for row in rows)
    }
    columns = list_name_columns(find_masks(switches, keys), keys)
    return columns if len(columns) <= _MOST_AXES else {}


def _write_value(named: Mask | str, params: Params) -> str:
    if isinstance(named, Mask):
        return named.name(params) if any(key in params for key in named.keys) else DASH
    return format_value(params[named]) if named in params else DASH


def _write_share(forecast: "Forecast") -> str:
    return f"{100 * forecast.num_trainable_params / forecast.num_total_params:#.3g}"


def _leave_room(names: dict[str, list[str]], numbers: dict[str, list[str]]) -> None:
    """Takes columns out of `numbers` until the words of a last one have room on a terminal of 80 columns."""
    for title in _GIVING_WAY:
        widths = [max(map(len, cells)) for cells in (*names.values(), *numbers.values())]
        if sum(widths) + _BETWEEN * len(widths) + _LEAST_WORDS > _TERMINAL:
            numbers.pop(title, None)


def make_settings_table(name: str, rows: Sequence[PlanRow], memory_bytes: int | None) -> Table:
    """One line per setting; numbers are never cut, and the words of the last column may go on below.

    What no setting has a number of has no column. Of many columns those give way that say the least.
    """
    unit = _choose_unit(max(row.forecast.memory.training.total_bytes for row in rows))
    table = Table(title=f"{name}: what would run", **_BORDERLESS)
    names = {title: [_write_value(one, row.params) for row in rows] for title, one in _list_columns(rows).items()}
    for title, cells in names.items():
        split = title.replace("_", "_\n").replace(".", ".\n")
        short_values = max(map(len, cells)) <= _MOST_UNBROKEN
        table.add_column(split, justify="right", overflow="fold", no_wrap=short_values)
    if not names:
        table.add_column("setting")
    is_wide = len(names) > _MOST_BESIDE_TRIAL
    numbers: dict[str, list[str]] = {"seeds": [str(row.num_seeds) for row in rows]}
    numbers["trainable\nparams"] = [f"{row.forecast.num_trainable_params:,}" for row in rows]
    numbers["% of\nall"] = [_write_share(row.forecast) for row in rows]
    numbers["base\nbits"] = [f"{row.forecast.base_bits_per_param:.3f}" for row in rows]
    numbers[f"peak\n{unit.name}"] = [unit.text(row.forecast.memory.training.total_bytes) for row in rows]
    if any(row.forecast.train_seconds is not None for row in rows):
        numbers["train\nmin"] = [format_minutes(row.forecast.train_seconds) for row in rows]
    if not is_wide and any(row.forecast.trial_seconds is not None for row in rows):
        numbers["trial\nmin"] = [format_minutes(row.forecast.trial_seconds) for row in rows]
    if memory_bytes is not None:
        _leave_room(names, numbers)
    for title in numbers:
        table.add_column(title, justify="right", no_wrap=True)
    if memory_bytes is not None:
        table.add_column(f"fits\n{format_bytes(memory_bytes)}")
    for index, row in enumerate(rows):
        table.add_row(
            *([cells[index] for cells in names.values()] or [describe_params(row.params)]),
            *(cells[index] for cells in numbers.values()),
            *([] if memory_bytes is None else [_describe_fit(row, memory_bytes)]),
        )
    return table


def _find_largest(rows: Sequence[PlanRow]) -> PlanRow:
    """The setting with the highest peak of training; of equal ones that which trains the most parameters."""
    return max(rows, key=lambda row: (row.forecast.memory.training.total_bytes, row.forecast.num_trainable_params))


def make_parts_table(rows: Sequence[PlanRow]) -> Table:
    """Memory of the setting that needs the most, part by part, at each moment."""
    largest = _find_largest(rows)
    moments = {name: asdict(parts) for name, parts in largest.forecast.memory.moments().items()}
    unit = _choose_unit(max(sum(parts.values()) for parts in moments.values()))
    table = Table(title=f"memory of the largest setting: {describe_params(largest.params)}, {unit.name}", **_BORDERLESS)
    table.add_column("part")
    for name in moments:
        table.add_column(name, justify="right", no_wrap=True)
    for part in next(iter(moments.values())):
        sizes = [parts[part] for parts in moments.values()]
        if any(sizes):
            table.add_row(
                part.removesuffix("_bytes").replace("_", " "), *(unit.text(one) if one else "" for one in sizes)
            )
    table.add_section()
    table.add_row("in all", *(unit.text(sum(parts.values())) for parts in moments.values()))
    return table


def suggest_remedies(row: PlanRow) -> str:
    """The largest part of a setting when it needs the most, and what makes it smaller."""
    memory, config = row.forecast.memory, row.config
    phases = {"load": memory.load, "train": memory.training, "evaluate": memory.evaluation}
    parts = asdict(phases[memory.highest_phase])
    part = max(parts, key=lambda name: parts[name])
    training = config.training
    tries = []
    if part in ("activations_bytes", "logits_bytes") and memory.highest_phase == "train":
        if training.micro_batch_size > training.num_devices:
            window = training.micro_batch_size * training.accumulation
            smaller = f"training.micro_batch_size={training.num_devices}"
            tries = [f"{smaller} training.accumulation={window // training.num_devices}"]
        if not training.gradient_checkpointing and part == "activations_bytes":
            tries.append("training.gradient_checkpointing=true")
        tries = tries or ["a smaller training.max_length"]
    elif memory.highest_phase == "evaluate" and part in ("logits_bytes", "workspace_bytes"):
        tries = ["evaluation.batch_size=1"]
    elif part in ("base_weights_bytes", "quantization_scales_bytes", "gathered_bytes"):
        tries = (
            ["quantization=nf4_dq", "a smaller model"] if config.quantization.scheme == "none" else ["a smaller model"]
        )
    elif part in ("adapter_bytes", "gradients_bytes", "optimizer_bytes"):
        tries = ["a smaller adapter.rank"] if config.adapter.method == "lora" else ["adapter=lora"]
    words = part.removesuffix("_bytes").replace("_", " ")
    return f"{words} {format_bytes(parts[part])}" + (f": try {' or '.join(tries)}" if tries else "")

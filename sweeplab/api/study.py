"""A study that was run, as pandas data frames."""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeplab.records.items import Items
from sweeplab.records.record import StudyFacts, TrialRecord
from sweeplab.records.store import StoreError
from sweeplab.report.evidence.estimates import estimate_settings
from sweeplab.report.evidence.settings import first_objective, group_by_setting, list_varied_keys, read_numbers
from sweeplab.report.evidence.stored import read_stored_study

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn


def open_study(folder: str | PathLike[str]) -> "Study":
    """The study in a folder of runs, such as `runs/rank_sweep`, or the one that a report was made of.

    Raises `StoreError` naming the file where the folder holds neither, or where a file is damaged.

    >>> open_study("reports/rank_sweep")
    Study('rank_sweep', 21 trials)
    """
    path = Path(folder).expanduser()
    if not any((path / name).is_file() for name in ("study.json", "records.json")):
        raise StoreError(f"{path} holds no study; name a folder of runs or of a report")
    stored = read_stored_study(path)
    return Study(path, stored.facts, stored.records, stored.items)


class Study:
    """The trials of one study. `open_study` makes it.

    Attributes:
        folder: where it was read from.
        name, question, objectives: what was asked; `objectives` maps a metric to minimize or maximize.
        records: every trial's record, with all that was measured, by trial.
    """

    def __init__(self, folder: Path, facts: StudyFacts, records: list[TrialRecord], items: Items | None = None) -> None:
        self.folder = folder
        self.records = sorted(records, key=lambda record: record.number)
        self.name, self.question, self.objectives = facts.name, facts.question, dict(facts.objectives)
        self._facts, self._items = facts, items

    def __repr__(self) -> str:
        return f"Study({self.name!r}, {len(self.records)} trials)"

    def trials(self) -> "pd.DataFrame":
        """One row for each trial, whatever came of it; what it does not have is missing.

        Columns: what the study varied by its key, `seed`, `status`, `reason`, `step`, then every number that can be
        an objective, such as `heldout_loss_nats_per_token` and `scores.<task>.<metric>`.

        >>> trials = open_study("reports/rank_sweep").trials()
        >>> trials.loc[0, "status"]
        'finished'
        >>> int(trials.groupby("adapter.rank")["heldout_loss_nats_per_token"].mean().idxmin())
        64
        """
        import pandas as pd

        keys = list_varied_keys(self._facts, self.records)
        rows = [
            {
                **{key: record.params.get(key) for key in keys},
                "seed": record.seed,
                "status": record.status.value,
                "reason": record.reason,
                "step": record.step,
                **read_numbers(record),
            }
            for record in self.records
        ]
        return pd.DataFrame(rows, index=pd.Index([record.number for record in self.records], name="trial"))

    def settings(self, metric: str | None = None) -> "pd.DataFrame":
        """One row for each setting, all of its seeds together, with the interval that the report prints.

        Columns: what the study varied by its key; `num_seeds`; `mean`; `low` and `high`, the ends of the 95 % interval
        of the mean; `covers`, what the interval is over: seeds, or items where there is one seed. A setting that lacks
        the metric for a seed has a mean of those that it has, and no interval.

        Args:
            metric: a column of `trials`; None: the first objective. Raises `KeyError` where no trial has it.

        >>> settings = open_study("reports/rank_sweep").settings("heldout_loss_nats_per_token")
        >>> bool((settings["low"] < settings["mean"]).all() and (settings["mean"] < settings["high"]).all())
        True
        """
        import pandas as pd

        metric = first_objective(self._facts)[0] if metric is None else metric
        settings = group_by_setting(self._facts, self.records)
        if not any(metric in setting.spreads for setting in settings):
            raise KeyError(f"no finished trial has {metric}; the columns of trials() name what there is")
        estimates = estimate_settings(self._facts, settings, metric, self._items)
        keys = list_varied_keys(self._facts, self.records)
        rows: list[dict[str, Any]] = []
        for setting in settings:
            spread, estimate = setting.spreads.get(metric), estimates.get(setting.records[0].number)
            row = {key: setting.params.get(key) for key in keys} | {
                "num_seeds": 0 if spread is None else spread.num_seeds
            }
            row["mean"] = None if spread is None else spread.mean
            row |= {"low": None, "high": None, "covers": "nothing"}
            if estimate is not None:
                row |= {"low": estimate.low, "high": estimate.high, "covers": estimate.covers}
            rows.append(row)
        return pd.DataFrame(rows).astype({"mean": float, "low": float, "high": float})

    def load_adapter(self, number: int, device: str = "auto") -> "nn.Module":
        """The base model of trial `number` with its adapter on, ready to generate: a `peft.PeftModel`.

        Where the trial trained weights of the base itself (bitfit, norms, top_layers), it is the base with these. The
        base is loaded again, as it was quantized in the trial. Raises `ConfigError` where the trial left no adapter.

        >>> model = open_study("runs/rank_sweep").load_adapter(3)  # doctest: +SKIP
        >>> model.generate(**tokenizer("Where does Lomir live?", return_tensors="pt"))  # doctest: +SKIP
        """
        from sweeplab.adapters.merging import attach_trained
        from sweeplab.cli.finished_trials import find_trial
        from sweeplab.models.base import load_base
        from sweeplab.runtime.device import resolve_device, resolve_precision

        trial = find_trial(number, self.records, self.folder, "adapter")
        config, target = trial.config, resolve_device(device)
        dtype = resolve_precision(config.training.precision, target)
        base = load_base(config.model, config.quantization, dtype, target)
        return attach_trained(base.model, config.adapter, config.model, trial.record.seed, trial.folder)

"""Mirrors trials to Weights & Biases: a run each, grouped by study. Evidence stays in the records."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from sweeplab.config import ConfigError, TrackingConfig, TrialConfig
from sweeplab.records import TrialRecord


class Tracker(Protocol):
    """What a study tells about its trials while they run."""

    def started(self, number: int, params: dict[str, Any], seed: int, config: TrialConfig) -> None: ...
    def observed(self, number: int, step: int, values: dict[str, float]) -> None: ...
    def ended(self, record: TrialRecord) -> None: ...
    def reported(self, html: Path) -> None: ...
    def interrupted(self, numbers: Iterable[int] | None = None) -> None: ...


class NoTracker:
    """`tracking=none`."""

    def started(self, number: int, params: dict[str, Any], seed: int, config: TrialConfig) -> None:
        pass

    def observed(self, number: int, step: int, values: dict[str, float]) -> None:
        pass

    def ended(self, record: TrialRecord) -> None:
        pass

    def reported(self, html: Path) -> None:
        pass

    def interrupted(self, numbers: Iterable[int] | None = None) -> None:
        pass


def summary(record: TrialRecord) -> dict[str, Any]:
    """The record's numbers as flat names; what is missing is left out, since W&B would plot it as zero."""
    values: dict[str, Any] = {
        "status": record.status.value,
        "reason": record.reason,
        "heldout_loss_nats_per_token": record.heldout_loss_nats_per_token,
        "num_trainable_params": record.num_trainable_params,
        "num_total_params": record.num_total_params,
        "adapter_bytes": record.adapter_bytes,
        "tokens_per_second": record.tokens_per_second,
        "num_trials_in_cohort": len(record.cohort) or None,  # above 1 the phases are the whole cohort's
    }
    if record.solo is not None:
        values |= {f"solo/{name}": value for name, value in asdict(record.solo).items()}
    for name, phase in record.phases.items():
        values |= {f"phases/{name}/{part}": value for part, value in asdict(phase).items()}
    for task, metrics in record.scores.items():
        for metric, score in metrics.items():
            values |= {f"scores/{task}/{metric}": score.value, f"scores/{task}/{metric}_stderr": score.stderr}
    return {name: value for name, value in values.items() if value is not None}


class WandbTracker:
    """Offline runs go to `folder`/wandb and can be sent later with `wandb sync`."""

    def __init__(self, settings: TrackingConfig, study: str, folder: Path) -> None:
        import wandb

        self.wandb = wandb
        self.settings = settings
        self.study = study
        self.folder = folder
        self.runs: dict[int, Any] = {}  # of the trials that have not ended, by number

    def open_run(self, name: str, job_type: str, config: dict[str, Any]) -> Any:
        """A run without W&B's own look at the machine: no host, user, path, command line or environment."""
        try:
            return self.wandb.init(
                project=self.settings.project,
                entity=self.settings.entity,
                group=self.study,
                job_type=job_type,
                name=name,
                config=config,
                dir=self.folder,
                mode="online" if self.settings.mode == "online" else "offline",
                reinit="create_new",
                settings=self.wandb.Settings(
                    silent=True,
                    console="off",
                    save_code=False,
                    disable_git=True,
                    disable_code=True,
                    host="",
                    username="",
                    program="",
                    x_disable_stats=True,
                    x_disable_meta=True,
                    x_disable_machine_info=True,
                    x_save_requirements=False,
                ),
            )
        except self.wandb.errors.Error as error:
            raise ConfigError(
                f"tracking.mode={self.settings.mode}: W&B cannot be reached or refuses: {error}; "
                "use tracking.mode=offline or tracking=none"
            ) from error

    def started(self, number: int, params: dict[str, Any], seed: int, config: TrialConfig) -> None:
        values = {"params": params, "seed": seed, "number": number, "config": asdict(config)}
        self.runs[number] = self.open_run(f"{self.study}-{number:05d}", "trial", values)

    def observed(self, number: int, step: int, values: dict[str, float]) -> None:
        curve = {name: value for name, value in values.items() if name != "num_steps"}
        if curve:
            self.runs[number].log(curve, step=step)

    def ended(self, record: TrialRecord) -> None:
        run = self.runs.pop(record.number)
        run.summary.update(summary(record))
        run.finish()

    def reported(self, html: Path) -> None:
        run = self.open_run(f"{self.study}-report", "report", {})
        run.log({"report": self.wandb.Html(str(html))})
        run.finish()

    def interrupted(self, numbers: Iterable[int] | None = None) -> None:
        """Closes the runs of these trials, or of all that have not ended."""
        for number in list(self.runs if numbers is None else numbers):
            self.runs.pop(number).finish(exit_code=1)


def build_tracker(settings: TrackingConfig, study: str, folder: Path) -> Tracker:
    return NoTracker() if settings.name == "none" else WandbTracker(settings, study, folder)

"""Mirrors trials to Weights & Biases: a run each, grouped by study. Evidence stays in the records.

A mirror costs no trial: a server that goes away makes it go on offline, and nothing here waits without an end.
"""

import importlib.util
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from sweeplab.config.study import TrackingConfig
from sweeplab.config.trial import TrialConfig
from sweeplab.records.record import TrialRecord
from sweeplab.runtime.errors import ConfigError, describe_error
from sweeplab.tracking.tracker import NoTracker, ReportedStudy, Tracker

INIT_SECONDS: Final = 30.0  # for the server's answer when a run begins
FINISH_SECONDS: Final = 60.0  # for the rest of a run to be sent


def summarize_record(record: TrialRecord) -> dict[str, Any]:
    """The record's numbers as flat names; what is missing is left out, since W&B would plot it as zero."""
    values: dict[str, Any] = {
        "status": record.status.value,
        "reason": record.reason,
        "heldout_loss_nats_per_token": record.heldout_loss_nats_per_token,
        "num_trainable_params": record.num_trainable_params,
        "num_total_params": record.num_total_params,
        "base_bits_per_param": record.base_bits_per_param,
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
    """Offline runs go to `folder`/wandb and can be sent later with `wandb sync`, as can those that were cut off."""

    def __init__(self, settings: TrackingConfig, study: str, folder: Path, say: Callable[[str], None]) -> None:
        # what waits to be sent stays with the study, not in the home folder; W&B reads these at its import
        os.environ.setdefault("WANDB_DATA_DIR", str(folder / "wandb"))
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        logging.raiseExceptions = False  # W&B keeps a log: on a full disk each line would print a traceback

        self.wandb = wandb
        self.settings = settings
        self.study = study
        self.folder = folder
        self.say = say
        self.mode = settings.mode  # offline from when the server is gone
        self.any_opened = False
        self.said: set[str] = set()
        self.runs: dict[int, Any] = {}  # of the trials that have not ended, by number
        self.sending: list[threading.Thread] = []
        self.unsent: list[str] = []  # folders of runs whose data is not all there

    def open_run(self, name: str, job_type: str, config: dict[str, Any]) -> Any:
        """A run without W&B's own look at the machine: no host, user, path, command line or environment."""
        return self.wandb.init(
            project=self.settings.project,
            entity=self.settings.entity,
            group=self.study,
            job_type=job_type,
            name=name,
            config=config,
            dir=self.folder,
            mode="online" if self.mode == "online" else "offline",
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
                init_timeout=INIT_SECONDS,
                finish_timeout=FINISH_SECONDS,
                finish_timeout_raises=True,
                x_disable_stats=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )

    def begin(self, name: str, job_type: str, config: dict[str, Any]) -> Any:
        """A run, offline where the server is gone; None where not even that can be written.

        Raises `ConfigError` where this fails before anything has been mirrored.
        """
        try:
            run = self.open_run(name, job_type, config)
        except Exception as error:  # as in `harmless`
            if not self.any_opened:
                raise ConfigError(
                    f"tracking.mode={self.mode}: W&B cannot be reached or refuses: {describe_error(error)}; "
                    "use tracking.mode=offline or tracking=none"
                ) from error
            if self.mode == "offline":
                self.say_once(f"W&B: {name} is not mirrored ({describe_error(error)}); its record is not affected")
                return None
            self.mode = "offline"
            later = f"later: wandb sync {self.folder}/wandb/offline-run-*"
            self.say_once(f"W&B is gone ({describe_error(error)}); from {name} on runs are kept offline, {later}")
            return self.begin(name, job_type, config)
        self.any_opened = True
        return run

    @contextmanager
    def harmless(self, what: str) -> Iterator[None]:
        """Says what goes wrong in W&B, and goes on: its errors have no base class in common, and some are private."""
        try:
            yield
        except Exception as error:
            self.say_once(f"W&B: {what} is not mirrored whole ({describe_error(error)}); records are not affected")

    def say_once(self, sentence: str) -> None:
        if sentence not in self.said:
            self.said.add(sentence)
            self.say(sentence)

    def started(self, number: int, params: dict[str, Any], seed: int, config: TrialConfig) -> None:
        values = {"params": params, "seed": seed, "number": number, "config": asdict(config)}
        run = self.begin(f"{self.study}-{number:05d}", "trial", values)
        if run is None:
            return
        self.runs[number] = run
        with self.harmless(f"trial {number}"):
            run.define_metric("heldout_loss", summary="min")
            run.define_metric("train_loss", summary="last")
            run.define_metric("lr", summary="none")

    def observed(self, number: int, step: int, values: dict[str, float]) -> None:
        curve = {name: value for name, value in values.items() if name != "num_steps"}
        if curve and number in self.runs:
            with self.harmless(f"trial {number}"):
                self.runs[number].log(curve, step=step)

    def ended(self, record: TrialRecord) -> None:
        run = self.runs.pop(record.number, None)
        if run is not None:
            with self.harmless(f"trial {record.number}"):
                run.summary.update(summarize_record(record))
            self.finish(run)

    def reported(self, found: ReportedStudy) -> None:
        """The report as a run: its page, tables, a plot, and its folder as an artifact; then the dashboards."""
        from sweeplab.tracking.wandb_report import log_report

        run = self.begin(f"{self.study}-report", "report", {})
        if run is None:
            return
        with self.harmless("the report"):
            log_report(self.wandb, run, found)
        entity = run.entity or ""
        self.finish(run)
        self.wait()
        with self.harmless("the dashboards"):
            self.publish(found, entity)

    def publish(self, found: ReportedStudy, entity: str) -> None:
        """Workspace and report as code, beside the report; sent where there is a server. Nothing without the extra."""
        if importlib.util.find_spec("wandb_workspaces") is None:
            if self.mode == "online":
                self.say("W&B: no workspace was made; it takes: pip install 'sweeplab[dashboards]'")
            return
        from sweeplab.tracking.wandb_dashboards import publish

        publish(found, self.settings.project, entity, online=self.mode == "online" and not self.unsent)

    def interrupted(self, numbers: Iterable[int] | None = None) -> None:
        """Closes the runs of these trials; or of all that have not ended, and waits until they are sent."""
        for number in list(self.runs if numbers is None else numbers):
            if number in self.runs:
                self.finish(self.runs.pop(number), exit_code=1)
        if numbers is None:
            self.wait()

    def finish(self, run: Any, exit_code: int = 0) -> None:
        """Sends the rest beside the study, which has trials to attend to."""

        def send() -> None:
            try:
                run.finish(exit_code=exit_code)
            except Exception:  # as in `harmless`; TimeoutError where the server is gone
                self.unsent.append(str(self.folder / "wandb" / Path(run.settings.sync_dir).name))

        thread = threading.Thread(target=send, daemon=True)
        self.sending.append(thread)
        thread.start()

    def wait(self) -> None:
        """Until every run that was closed is sent or given up, and says which were."""
        for thread in self.sending:
            thread.join(2 * FINISH_SECONDS)
        self.sending.clear()
        if self.unsent:
            self.say_once(f"W&B did not take all of {len(self.unsent)} runs; later: wandb sync {' '.join(self.unsent)}")


def build_tracker(settings: TrackingConfig, study: str, folder: Path, say: Callable[[str], None]) -> Tracker:
    return NoTracker() if settings.name == "none" else WandbTracker(settings, study, folder, say)

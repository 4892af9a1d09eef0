"""Mirrors trials to Weights & Biases, one run for each, grouped by study. The records stay the source of all results.

Errors of W&B never stop a trial: when the server cannot be reached, runs go on offline, and every wait has a limit.
"""

import importlib.util
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from sweeplab.config.tracking import TrackingConfig, WandbTracking
from sweeplab.config.trial import TrialConfig
from sweeplab.records.record import TrialRecord
from sweeplab.report.evidence.formatting import describe_params
from sweeplab.runtime.errors import ConfigError, describe_error
from sweeplab.runtime.paths import has_home
from sweeplab.tracking.tracker import NoTracker, ReportedStudy, Tracker

_TRUE: Final = ("true", "1", "yes", "on", "y", "t")
_OF_ONE_RUN: Final = (
    *("WANDB_RUN_ID", "WANDB_RESUME", "WANDB_NAME", "WANDB_RUN_GROUP", "WANDB_JOB_TYPE", "WANDB_DIR", "WANDB_PROJECT"),
    *("WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_RESUME_FROM", "WANDB_FORK_FROM", "WANDB_CONFIG_PATHS"),
)
_OF_THE_SERVER: Final = ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE")
_INIT_SECONDS: Final = 30.0  # the server must answer within it when a run begins
_LONGEST_NAME: Final = 120  # letters of a run's name; W&B takes 128
_FINISH_SECONDS: Final = 60.0  # the remaining data of a run must be sent within it


def _summarize_record(record: TrialRecord) -> dict[str, Any]:
    """The numbers of a record with flat names; missing ones are left out, since W&B would plot them as zero."""
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


def _heed_environment(settings: WandbTracking, say: Callable[[str], None]) -> str | None:
    """The mode that tracking.mode and W&B's own variables ask for together; None: none at all.

    Variables that would give every run one id, name or group are taken away, and `say` is told: these are the study's.
    """
    asked = os.environ.get("WANDB_MODE", "").strip().lower()
    if asked == "disabled" or os.environ.get("WANDB_DISABLED", "").strip().lower() in _TRUE:
        name = "WANDB_MODE=disabled" if asked == "disabled" else "WANDB_DISABLED"
        say(f"W&B: {name} is set, so that nothing is mirrored; tracking=none says the same")
        return None
    mode: str = settings.mode
    if mode == "online" and asked in ("offline", "dryrun"):
        say(f"W&B: WANDB_MODE={asked} is set, so that runs are kept offline")
        mode = "offline"
    elif mode == "offline" and asked in ("online", "run", "shared"):
        say(f"W&B: WANDB_MODE={asked} is not used; runs are sent with tracking.mode=online")
    taken = [name for name in _OF_ONE_RUN if os.environ.pop(name, None) is not None]
    if taken:
        say(f"W&B: {', '.join(taken)} not used: every trial has its own run, grouped by study, in tracking.project")
    if mode == "offline":
        for name in _OF_THE_SERVER:  # nothing is sent, so that a broken one does no harm
            os.environ.pop(name, None)
    os.environ.pop("WANDB_MODE", None)
    return mode


def _refuse_missing_login(wandb: Any) -> None:
    """Raises `ConfigError` where nothing on this machine lets runs be sent; the server is not asked."""
    from wandb.errors import AuthenticationError
    from wandb.sdk.lib import wbauth

    remedy = "type wandb login, or use tracking.mode=offline or tracking=none"
    host = wandb.setup().settings.base_url
    try:
        found = wbauth.authenticate_session(host=host, source="sweeplab", prompt=False, update_session=False)
    except AuthenticationError as error:
        raise ConfigError(f"tracking.mode=online: {describe_error(error)}; {remedy}") from error
    if found is None:
        raise ConfigError(f"tracking.mode=online needs a login, and there is none for {host}; {remedy}")


class _WandbTracker:
    """Mirrors a study. Offline and interrupted runs stay in `folder`/wandb and can be sent later with `wandb sync`."""

    def __init__(
        self, settings: WandbTracking, mode: str, study: str, folder: Path, say: Callable[[str], None]
    ) -> None:
        # unsent data stay in the study's folder, not in the home folder; W&B reads these variables when it is imported
        os.environ.setdefault("WANDB_DATA_DIR", str(folder / "wandb"))
        if not has_home():  # else W&B asks for one
            for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_ARTIFACT_DIR"):
                os.environ.setdefault(name, str(folder.absolute() / "wandb"))
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        logging.raiseExceptions = False  # on a full disk each line of W&B's log would print a traceback

        if mode == "online":
            _refuse_missing_login(wandb)
        self.wandb = wandb
        self.settings = settings
        self.study = study
        self.folder = folder
        self.say = say
        self.mode = mode  # becomes offline when the server cannot be reached any more
        self.any_opened = False
        self.sentences_said: set[str] = set()
        self.runs: dict[int, Any] = {}  # runs of trials that have not ended, by number
        self.sending: list[threading.Thread] = []
        self.unsent: list[str] = []  # folders of runs that were not sent completely

    def _open_run(self, name: str, job_type: str, config: dict[str, Any]) -> Any:
        """A new run that does not record the machine: no host, user, path, command line or environment."""
        return self.wandb.init(
            id=secrets.token_hex(4),  # of the study's own, also where W&B was imported with another one
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
                init_timeout=_INIT_SECONDS,
                finish_timeout=_FINISH_SECONDS,
                finish_timeout_raises=True,
                x_disable_stats=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )

    def _begin_run(self, name: str, job_type: str, config: dict[str, Any]) -> Any:
        """A new run, offline where the server cannot be reached; None where that fails, too.

        Raises `ConfigError` where the first run of the study cannot be opened.
        """
        try:
            run = self._open_run(name, job_type, config)
        except Exception as error:  # as in `_keep_going`
            if not self.any_opened:
                remedy = "tracking=none" if self.mode == "offline" else "tracking.mode=offline or tracking=none"
                raise ConfigError(
                    f"tracking.mode={self.mode}: W&B cannot be reached or refuses: {describe_error(error)}; "
                    f"use {remedy}"
                ) from error
            if self.mode == "offline":
                self._say_once(f"W&B: {name} is not mirrored ({describe_error(error)}); its record is not affected")
                return None
            self.mode = "offline"
            later = f"later: wandb sync {self.folder}/wandb/offline-run-*"
            self._say_once(f"W&B is gone ({describe_error(error)}); from {name} on runs are kept offline, {later}")
            return self._begin_run(name, job_type, config)
        self.any_opened = True
        return run

    @contextmanager
    def _keep_going(self, what: str) -> Iterator[None]:
        """Prints an error of W&B and goes on. All exceptions are caught: W&B's have no common base class."""
        try:
            yield
        except Exception as error:
            self._say_once(f"W&B: {what} is not mirrored whole ({describe_error(error)}); records are not affected")

    def _say_once(self, sentence: str) -> None:
        if sentence not in self.sentences_said:
            self.sentences_said.add(sentence)
            self.say(sentence)

    def started(self, number: int, params: dict[str, Any], seed: int, config: TrialConfig) -> None:
        values = {"params": params, "seed": seed, "number": number, "config": config.to_dict()}
        setting = describe_params(params) if params else self.study
        run = self._begin_run(f"{setting} seed={seed}"[-_LONGEST_NAME:], "trial", values)
        if run is None:
            return
        self.runs[number] = run
        with self._keep_going(f"trial {number}"):
            run.define_metric("heldout_loss", summary="min")
            run.define_metric("train_loss", summary="last")
            run.define_metric("lr", summary="none")

    def observed(self, number: int, step: int, values: dict[str, float]) -> None:
        curve = {name: value for name, value in values.items() if name != "num_steps"}
        if curve and number in self.runs:
            with self._keep_going(f"trial {number}"):
                self.runs[number].log(curve, step=step)

    def ended(self, record: TrialRecord) -> None:
        run = self.runs.pop(record.number, None)
        if run is not None:
            with self._keep_going(f"trial {record.number}"):
                run.summary.update(_summarize_record(record))
            self._finish_run(run)

    def reported(self, study: ReportedStudy) -> None:
        """Mirrors the report as a run (page, tables, a plot, its folder as an artifact), then the dashboards."""
        from sweeplab.tracking.wandb_report import log_report

        run = self._begin_run(f"{self.study}-report", "report", {})
        if run is None:
            return
        with self._keep_going("the report"):
            log_report(self.wandb, run, study)
        entity = run.entity or ""
        self._finish_run(run)
        self._wait_until_sent()
        with self._keep_going("the dashboards"):
            self._publish(study, entity)

    def _publish(self, study: ReportedStudy, entity: str) -> None:
        """Writes W&B's workspace and report beside the report, and sends them when online. Does nothing without the
        extra `dashboards`."""
        if importlib.util.find_spec("wandb_workspaces") is None:
            if self.mode == "online":
                self.say("W&B: no workspace was made; it takes: pip install -c constraints.txt -e '.[dashboards]'")
            return
        from sweeplab.tracking.wandb_dashboards import publish

        publish(study, self.settings.project, entity, online=self.mode == "online" and not self.unsent)

    def interrupted(self, numbers: Iterable[int] | None = None) -> None:
        """Closes the runs of these trials. None: closes all runs of trials that have not ended, and waits until all are
        sent."""
        for number in list(self.runs if numbers is None else numbers):
            if number in self.runs:
                self._finish_run(self.runs.pop(number), exit_code=1)
        if numbers is None:
            self._wait_until_sent()

    def _finish_run(self, run: Any, exit_code: int = 0) -> None:
        """Sends the remaining data in a thread, so that the study goes on meanwhile."""

        def send() -> None:
            try:
                run.finish(exit_code=exit_code)
            except Exception:  # as in `_keep_going`; TimeoutError where the server is gone
                self.unsent.append(str(self.folder / "wandb" / Path(run.settings.sync_dir).name))

        thread = threading.Thread(target=send, daemon=True)
        self.sending.append(thread)
        thread.start()

    def _wait_until_sent(self) -> None:
        """Waits until every closed run is sent or has failed, and prints which ones failed."""
        for thread in self.sending:
            thread.join(2 * _FINISH_SECONDS)
        self.sending.clear()
        if self.unsent:
            self._say_once(
                f"W&B did not take all of {len(self.unsent)} runs; later: wandb sync {' '.join(self.unsent)}"
            )


def build_tracker(settings: TrackingConfig, study: str, folder: Path, say: Callable[[str], None]) -> Tracker:
    mode = _heed_environment(settings, say) if isinstance(settings, WandbTracking) else None
    if not isinstance(settings, WandbTracking) or mode is None:
        return NoTracker()
    return _WandbTracker(settings, mode, study, folder, say)

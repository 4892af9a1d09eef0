"""Workers as jobs of a Slurm array, submitted by submitit. A preempted job is requeued and calls its driver again.

The study's folder is one that all nodes share: workers write checkpoints and adapters there, the driver the records.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sweeplab.config.study import StudyConfig
from sweeplab.execution.link import Reception
from sweeplab.execution.placement import Placement
from sweeplab.execution.supervisor import Call, Ending, Supervisor
from sweeplab.records.store import make_folder
from sweeplab.runtime.errors import ConfigError

CLUSTER: Final = "slurm"
_UNLIMITED: Final = 1_000_000  # requeues after the time limit: how long a study goes on is the study's to say
_WARNING_SECONDS: Final = 90  # before the time limit


class _Task:
    """What a job runs. submitit pickles it, and looks for `checkpoint` by its name."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.supervisor: Supervisor | None = None

    def __call__(self) -> None:
        self.supervisor = Supervisor(self.call)
        self.supervisor.run()

    def checkpoint(self) -> Any:
        """Called by submitit where Slurm takes the node away; what it returns is run when the job is back."""
        from submitit.helpers import DelayedSubmission

        if self.supervisor is not None:
            self.supervisor.give_up("Slurm took the node away")
        return DelayedSubmission(_Task(self.call))


class _SlurmJob:
    """A supervisor as a job."""

    def __init__(self, job: Any) -> None:
        self.job = job

    def explain_loss(self) -> Ending:
        return Ending(f"the connection to job {self.job.job_id} was lost")

    def cancel(self) -> None:
        self.job.cancel(check=False)


def _open_submitter(config: StudyConfig, folder: Path) -> Any:
    """submitit's executor, which pickles jobs into a folder that nobody else can read: the secret is in them.

    Raises `ConfigError` where there is no Slurm.
    """
    import submitit

    executor = config.executor
    make_folder(folder)
    folder.chmod(0o700)
    try:
        submitter = submitit.AutoExecutor(folder, cluster=CLUSTER, slurm_max_num_timeout=_UNLIMITED)
    except RuntimeError as error:
        raise ConfigError(f"executor=slurm: {error}; start the study where `srun` is, or use executor=local") from error
    on_gpu = executor.device != "cpu" and executor.gpus_per_worker
    submitter.update_parameters(
        name=f"sweeplab-{config.study.name}",
        nodes=1,
        tasks_per_node=1,
        cpus_per_task=executor.cpus_per_worker,
        gpus_per_node=int(executor.gpus_per_worker) if on_gpu else None,
        timeout_min=executor.timeout_minutes,
        slurm_partition=executor.partition,
        slurm_signal_delay_s=_WARNING_SECONDS,
        slurm_additional_parameters=dict(executor.sbatch) or None,
    )
    return submitter


def choose_slurm_placements(config: StudyConfig) -> list[Placement]:
    executor = config.executor
    device = executor.device if executor.gpus_per_worker else "cpu"
    threads = executor.num_threads or executor.cpus_per_worker
    settings = replace(executor, num_threads=threads, device=device)
    return [Placement(settings, None, config.training.num_devices)] * executor.num_workers


class SlurmLauncher:
    """Starts workers as jobs. The driver waits where it was started, on a login node for example."""

    def __init__(self, config: StudyConfig, folder: Path) -> None:
        """`folder` is for submitit's own files. Raises `ConfigError`."""
        self.placements = choose_slurm_placements(config)
        self.submitter = _open_submitter(config, folder)
        host = str(config.executor.address)
        try:
            self.reception = Reception(host)
        except OSError as error:
            raise ConfigError(
                f"executor.address must be this machine's, as the nodes reach it, got {host}: {error.strerror}; try "
                "the name of this machine"
            ) from error

    def start(self, calls: list[Call]) -> list[_SlurmJob]:
        """One array. Raises `ConfigError` with what sbatch says."""
        from submitit.core.utils import FailedJobError

        try:
            return [_SlurmJob(job) for job in self.submitter.submit_array([_Task(call) for call in calls])]
        except FailedJobError as error:
            why = str(error).strip().splitlines()[-1]
            raise ConfigError(
                f"sbatch refused the study's jobs: {why}; mend executor.partition or executor.sbatch"
            ) from error

    def close(self) -> None:
        self.reception.close()

"""Workers as jobs of a Slurm array, submitted by submitit. A preempted job is requeued and connects again.

All nodes must share the study's folder: workers write checkpoints and adapters there, the driver the records.
"""

from pathlib import Path
from typing import Any, Final

from sweeplab.config.executor import SlurmWorkers
from sweeplab.config.study import StudyConfig
from sweeplab.execution.link import Reception
from sweeplab.execution.placement import Placement
from sweeplab.execution.supervisor import Call, Ending, Supervisor
from sweeplab.records.store import make_folder
from sweeplab.runtime.errors import ConfigError

_CLUSTER: Final = "slurm"
_UNLIMITED: Final = 1_000_000  # requeues after the time limit; the study itself decides when it ends
_WARNING_SECONDS: Final = 90  # a job gets a signal so long before its time limit


class _Task:
    """What a job runs. submitit pickles it, and calls its method `checkpoint` before the job is requeued."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.supervisor: Supervisor | None = None

    def __call__(self) -> None:
        self.supervisor = Supervisor(self.call)
        self.supervisor.run()

    def checkpoint(self) -> Any:
        """Called by submitit when Slurm takes the node away; the requeued job runs what it returns."""
        from submitit.helpers import DelayedSubmission

        if self.supervisor is not None:
            self.supervisor.give_up("Slurm took the node away")
        return DelayedSubmission(_Task(self.call))


class _SlurmJob:
    """A supervisor in a Slurm job."""

    def __init__(self, job: Any) -> None:
        self.job = job

    def explain_loss(self) -> Ending:
        return Ending(f"the connection to job {self.job.job_id} was lost")

    def cancel(self) -> None:
        self.job.cancel(check=False)


def _open_submitter(config: StudyConfig, folder: Path) -> Any:
    """submitit's executor. It pickles jobs into `folder`, which other users cannot read, since they hold the secret.

    Raises `ConfigError` where Slurm is not installed.
    """
    import submitit

    executor = config.executor
    assert isinstance(executor, SlurmWorkers)
    make_folder(folder)
    folder.chmod(0o700)
    try:
        submitter = submitit.AutoExecutor(folder, cluster=_CLUSTER, slurm_max_num_timeout=_UNLIMITED)
    except RuntimeError as error:
        raise ConfigError(
            f"executor=slurm: {error}; start the study on a machine with `srun`, or use executor=local"
        ) from error
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


def _choose_slurm_placements(config: StudyConfig) -> list[Placement]:
    executor = config.executor
    assert isinstance(executor, SlurmWorkers)
    device = executor.device if executor.gpus_per_worker else "cpu"
    threads = executor.num_threads or executor.cpus_per_worker
    settings = executor.replaced(num_threads=threads, device=device)
    return [Placement(settings, None, config.training.num_devices)] * executor.num_workers


class SlurmLauncher:
    """Starts workers as Slurm jobs. The driver stays where it was started, for example on a login node."""

    def __init__(self, config: StudyConfig, folder: Path) -> None:
        """`folder` is for submitit's files. Raises `ConfigError`."""
        self.placements = _choose_slurm_placements(config)
        self.submitter = _open_submitter(config, folder)
        assert isinstance(config.executor, SlurmWorkers)
        host = config.executor.address
        try:
            self.reception = Reception(host)
        except OSError as error:
            raise ConfigError(
                f"executor.address must be an address of this machine that the nodes can reach, got {host}: "
                f"{error.strerror}; try the host name of this machine"
            ) from error

    def start(self, calls: list[Call]) -> list[_SlurmJob]:
        """Submits all jobs as one array. Raises `ConfigError` with the last line of sbatch's answer."""
        from submitit.core.utils import FailedJobError

        try:
            return [_SlurmJob(job) for job in self.submitter.submit_array([_Task(call) for call in calls])]
        except FailedJobError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ConfigError(
                f"sbatch refused the study's jobs: {reason}; correct executor.partition or executor.sbatch"
            ) from error

    def close(self) -> None:
        self.reception.close()

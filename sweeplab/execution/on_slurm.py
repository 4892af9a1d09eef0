"""Workers as jobs of a Slurm array, submitted by submitit. A preempted job is requeued and calls its driver again.

The study's folder is one that all nodes share: workers write checkpoints and adapters there, the driver the records.
"""

import queue
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

from sweeplab.config.executor import SlurmWorkers
from sweeplab.config.study import StudyConfig
from sweeplab.execution.executor import Workers
from sweeplab.execution.link import Connection, Reception, call
from sweeplab.execution.messages import line_of, receive
from sweeplab.execution.placement import Place
from sweeplab.execution.process import Call, ProcessLink, call_of, refuse_not_shared
from sweeplab.records.store import StoreError, make_folder
from sweeplab.runtime.errors import ConfigError

CLUSTER: Final = "slurm"
ENDLESS: Final = 1_000_000  # requeues after the time limit: how long a study goes on is the study's to say
WARNING_SECONDS: Final = 90  # before the time limit


class Post(NamedTuple):
    """What a job must know to call its driver."""

    call: Call
    host: str
    port: int
    token: str
    key: str


class Session:
    """A process and the connection to its driver, for as long as there are both."""

    def __init__(self, process: ProcessLink, connection: Connection) -> None:
        self.process = process
        self.connection = connection
        self.over = False
        self.lock = threading.RLock()  # submitit's signal may come where this thread holds it

    def run(self) -> None:
        threading.Thread(target=self.listen, daemon=True).start()
        try:
            for line in self.connection.lines():
                self.process.tell(line)
        finally:  # the driver has gone, or the process has
            self.process.close()

    def listen(self) -> None:
        for line in self.process.lines():
            self.say(line)
        self.connection.close()

    def say(self, line: str) -> None:
        """Nothing after `gone`."""
        with self.lock:
            if not self.over:
                self.over = receive(line)["kind"] == "gone"
                self.connection.tell(line)

    def give_up(self) -> None:
        self.say(line_of("gone", how="Slurm took the node away", taken=True))
        self.process.close()


class Job:
    """What runs on a node: a worker's process, and its lines to and from the driver."""

    def __init__(self, post: Post) -> None:
        self.post = post
        self.session: Session | None = None

    def __call__(self) -> None:
        post = self.post
        connection = call(post.host, post.port, post.token, post.key)
        try:
            refuse_not_shared(self.post.call)
            process = ProcessLink(self.post.call)
        except StoreError as error:
            connection.tell(line_of("refused", message=str(error)))
            return
        self.session = Session(process, connection)
        self.session.run()

    def checkpoint(self) -> Any:
        """Called by submitit where Slurm takes the node away; what it returns is run when the job is back."""
        from submitit.helpers import DelayedSubmission

        if self.session is not None:
            self.session.give_up()
        return DelayedSubmission(Job(self.post))


class SlurmLink:
    """The driver's end of a `Job`, which may have to wait for its node."""

    def __init__(self, job: Any, key: str, calls: "queue.Queue[Connection | None]") -> None:
        self.job = job
        self.key = key
        self.calls = calls
        self.connection: Connection | None = None
        self.waiting: list[str] = []
        self.lock = threading.Lock()
        self.taken = False
        self.closed = False

    def is_ready(self) -> bool:
        return self.connection is not None

    def tell(self, line: str) -> None:
        with self.lock:
            if self.connection is None:
                self.waiting.append(line)
            else:
                self.connection.tell(line)

    def lines(self) -> Iterator[str]:
        connection = self.calls.get()
        if connection is None:  # closed before the job began
            return
        try:
            with self.lock:
                if self.closed:
                    return
                for line in self.waiting:
                    connection.tell(line)
                self.connection = connection
            yield line_of("ready")
            yield from self.heard(connection)
        finally:
            self.connection = None
            connection.close()

    def heard(self, connection: Connection) -> Iterator[str]:
        for line in connection.lines():
            message = receive(line)
            if message["kind"] == "gone":
                self.taken, self.connection = message["taken"], None
                yield line
                return
            yield line
        self.connection = None
        yield line_of("gone", how=f"the connection to job {self.job.job_id} was lost", taken=False)

    def kill(self) -> None:
        connection = self.connection
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Leaves a job alone that was taken and comes back."""
        with self.lock:
            self.closed = True
            connection = self.connection
        if connection is not None:
            connection.close()
        elif not self.taken:  # whoever comes back is the next link's
            self.calls.put(None)
        if not self.taken:
            self.job.cancel(check=False)


def submitter(config: StudyConfig, folder: Path) -> Any:
    """submitit's executor, which pickles jobs into a folder that nobody else can read: the secret is in them.

    Raises `ConfigError` where there is no Slurm.
    """
    import submitit

    executor = config.executor
    assert isinstance(executor, SlurmWorkers)
    make_folder(folder)
    folder.chmod(0o700)
    try:
        found = submitit.AutoExecutor(folder, cluster=CLUSTER, slurm_max_num_timeout=ENDLESS)
    except RuntimeError as error:
        raise ConfigError(f"executor=slurm: {error}; start the study where `srun` is, or use executor=local") from error
    on_gpu = executor.device != "cpu" and executor.gpus_per_worker
    found.update_parameters(
        name=f"sweeplab-{config.study.name}",
        nodes=1,
        tasks_per_node=1,
        cpus_per_task=executor.cpus_per_worker,
        gpus_per_node=int(executor.gpus_per_worker) if on_gpu else None,
        timeout_min=executor.timeout_minutes,
        slurm_partition=executor.partition,
        slurm_signal_delay_s=WARNING_SECONDS,
        slurm_additional_parameters=dict(executor.sbatch) or None,
    )
    return found


def slurm_places(config: StudyConfig) -> list[Place]:
    executor = config.executor
    assert isinstance(executor, SlurmWorkers)
    device = executor.device if executor.gpus_per_worker else "cpu"
    threads = executor.num_threads or executor.cpus_per_worker
    mine = executor.replaced(num_threads=threads, device=device)
    return [Place(mine, None, config.training.num_devices)] * executor.num_workers


class SlurmExecutor(Workers):
    """Jobs, each with one worker's process. The driver waits where it was started, on a login node for example."""

    def __init__(self, config: StudyConfig, pruning: bool, folder: Path) -> None:
        """Raises `ConfigError`."""
        self.folder = folder
        self.submitter = submitter(config, folder / "slurm")
        assert isinstance(config.executor, SlurmWorkers)
        host = config.executor.address
        try:
            self.reception = Reception(host)
        except OSError as error:
            raise ConfigError(
                f"executor.address must be this machine's, as the nodes reach it, got {host}: {error.strerror}; try "
                "the name of this machine"
            ) from error
        places = slurm_places(config)
        self.posts = [self.post(number) for number in range(len(places))]
        self.links: dict[int, SlurmLink] = {}
        self.jobs = self.submit_all(self.posts)
        super().__init__(places, pruning, folder, self.as_a_job)

    def post(self, number: int) -> Post:
        reception = self.reception
        return Post(
            call_of(self.log(number), {}), reception.host, reception.port, reception.token, secrets.token_hex(8)
        )

    def submit_all(self, posts: list[Post]) -> list[Any]:
        """One array. Raises `ConfigError` with what sbatch says."""
        from submitit.core.utils import FailedJobError

        try:
            return list(self.submitter.submit_array([Job(post) for post in posts]))
        except FailedJobError as error:
            why = str(error).strip().splitlines()[-1]
            raise ConfigError(
                f"sbatch refused the study's jobs: {why}; mend executor.partition or executor.sbatch"
            ) from error

    def as_a_job(self, number: int) -> SlurmLink:
        """The job of a worker that was taken comes back by itself; any other gets a new one."""
        before = self.links.get(number)
        if before is not None and not before.taken:
            self.posts[number] = self.post(number)
            (self.jobs[number],) = self.submit_all([self.posts[number]])
        key = self.posts[number].key
        link = SlurmLink(self.jobs[number], key, self.reception.expect(key))
        self.links[number] = link
        return link

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, value, trace)
        for link in self.links.values():
            if link.taken:  # it would come back, and call nobody
                link.job.cancel(check=False)
        self.reception.close()

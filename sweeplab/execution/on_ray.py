"""Workers on a Ray cluster: one actor each, which holds a worker's process on its node. Ray places; it retries nothing.

The study's folder is one that all nodes share: workers write checkpoints and adapters there, the driver the records.
"""

import logging
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from sweeplab.config.executor import ExecutorConfig
from sweeplab.config.study import StudyConfig
from sweeplab.execution.executor import Workers
from sweeplab.execution.link import LOOPBACK
from sweeplab.execution.messages import line_of, receive
from sweeplab.execution.placement import Place, learns, needs_quiet
from sweeplab.execution.process import Call, ProcessLink, call_of, refuse_not_shared
from sweeplab.records.store import StoreError
from sweeplab.runtime.errors import ConfigError, describe_error

STOP_SECONDS: Final = 10.0  # for a node to end a process, before Ray ends the actor that holds it
THREADS: Final = 4  # of an actor: one reads the process, the others write and end it


class Host:
    """A worker's process on a node of the cluster, as an actor. Calls may come in any order: lines are numbered."""

    def __init__(self, call: Call) -> None:
        self.refusal: str | None = None
        self.early: dict[int, str] = {}
        self.turn = 0
        self.lock = threading.Lock()
        try:
            refuse_not_shared(call)
            self.link = ProcessLink(call)
        except StoreError as error:
            self.refusal = str(error)

    def tell(self, turn: int, line: str) -> None:
        with self.lock:
            self.early[turn] = line
            while self.refusal is None and self.turn in self.early:
                self.link.tell(self.early.pop(self.turn))
                self.turn += 1

    def lines(self) -> Iterator[str]:
        yield line_of("ready")
        if self.refusal is None:
            yield from self.link.lines()
        else:
            yield line_of("refused", message=self.refusal)

    def kill(self) -> None:
        self.link.kill()

    def close(self) -> None:
        if self.refusal is None:
            self.link.close()


class RayLink:
    """The driver's end of a `Host`."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.placed = False
        self.num_told = 0
        self.stream = actor.lines.options(num_returns="streaming").remote()

    def is_ready(self) -> bool:
        return self.placed

    def tell(self, line: str) -> None:
        self.actor.tell.remote(self.num_told, line)
        self.num_told += 1

    def lines(self) -> Iterator[str]:
        import ray
        from ray.exceptions import RayActorError, RayError

        try:
            for reference in self.stream:
                line: str = ray.get(reference)
                self.placed = True
                yield line
                if receive(line)["kind"] == "gone":
                    self.placed = False
                    return
        except RayError as error:
            self.placed = False
            why = str(error).strip().splitlines()[-1].strip()
            yield line_of("gone", how=f"Ray lost the worker: {why}", taken=was_preempted(error, RayActorError))

    def kill(self) -> None:
        self.actor.kill.remote()

    def close(self) -> None:
        import ray
        from ray.exceptions import RayError

        if self.placed:
            with suppress(RayError):  # it or its node has ended, or does not answer
                ray.get(self.actor.close.remote(), timeout=STOP_SECONDS)
        ray.kill(self.actor)


def was_preempted(error: Exception, kind: type[Any]) -> bool:
    """True where the cluster's owner took the node away, as it does with a spot instance."""
    return isinstance(error, kind) and bool(error.preempted)


def connect(executor: ExecutorConfig) -> None:
    """Joins the cluster at `executor.address`, or starts one of this machine alone, which nobody else can reach.

    Raises `ConfigError`.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"  # Ray's next default, of which it warns
    alone: dict[str, Any] = {}
    if executor.address is None:
        # Ray takes _node_ip_address=127.0.0.1 for this machine's own address, unless clusters are off: then all of its
        # servers listen on the loopback alone (seen with ss on Ray 2.60)
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        if "RAY_AUTH_TOKEN_PATH" not in os.environ:
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        alone = {"include_dashboard": False, "_node_ip_address": LOOPBACK}
    import ray
    from ray.exceptions import RayError

    try:
        ray.init(executor.address or "local", log_to_driver=False, logging_level=logging.ERROR, **alone)
    except (RayError, ConnectionError, RuntimeError, ValueError) as error:
        why = describe_error(error)
        raise ConfigError(
            f"executor.address={executor.address} does not answer as a Ray cluster: {why}; start its head with "
            "`RAY_AUTH_MODE=token ray start --head`, or use executor.address=null for this machine alone"
        ) from error


def room(nodes: list[dict[str, Any]], executor: ExecutorConfig, num_gpus: float) -> int:
    """Workers that the nodes have room for, as `ray.nodes` lists them."""

    def on(resources: dict[str, float]) -> int:
        cpus = resources.get("CPU", 0) // executor.cpus_per_worker
        return int(min(cpus, resources.get("GPU", 0) // num_gpus) if num_gpus else cpus)

    return sum(on(node["Resources"]) for node in nodes if node["Alive"])


def ray_places(config: StudyConfig, nodes: list[dict[str, Any]]) -> tuple[list[Place], float]:
    """The workers and how many GPUs each takes; none on a cluster without. Raises `ConfigError`."""
    executor = config.executor
    has_gpu = any(node["Resources"].get("GPU", 0) for node in nodes if node["Alive"])
    num_gpus = executor.gpus_per_worker if has_gpu and executor.device != "cpu" else 0
    count = executor.num_workers
    if count == "auto":
        count = room(nodes, executor, num_gpus)
        if count and (needs_quiet(config) or (learns(config) and not num_gpus)):
            count = 1
    if count == 0:
        raise ConfigError(
            f"no node of the Ray cluster has room for a worker of executor.cpus_per_worker={executor.cpus_per_worker} "
            f"and executor.gpus_per_worker={num_gpus:g}; ask for less"
        )
    threads = executor.num_threads or executor.cpus_per_worker
    mine = replace(executor, num_threads=threads, device=executor.device if num_gpus else "cpu")
    return [Place(mine, None, config.training.num_devices)] * count, num_gpus


class RayExecutor(Workers):
    """Actors of a Ray cluster, each with one worker's process."""

    def __init__(self, config: StudyConfig, pruning: bool, folder: Path) -> None:
        """Raises `ConfigError`."""
        connect(config.executor)
        ray: Any = import_module("ray")  # without types for what is used of it
        try:
            places, num_gpus = ray_places(config, ray.nodes())
            host = ray.remote(Host)
            cpus = config.executor.cpus_per_worker
            self.kind = host.options(num_cpus=cpus, num_gpus=num_gpus, max_concurrency=THREADS)
            super().__init__(places, pruning, folder, self.on_a_node)
        except BaseException:
            ray.shutdown()
            raise

    def on_a_node(self, number: int) -> RayLink:
        return RayLink(self.kind.remote(call_of(self.log(number), {})))

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        import ray

        super().__exit__(kind, value, trace)
        ray.shutdown()

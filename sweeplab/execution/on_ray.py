"""Workers on a Ray cluster. Each has an actor that starts it on a node; Ray chooses the node, and retries nothing.

All nodes must share the study's folder: workers write checkpoints and adapters there, the driver the records.
"""

import logging
import os
import secrets
from importlib import import_module
from typing import Any, Final

from sweeplab.config.executor import RayWorkers
from sweeplab.config.study import StudyConfig
from sweeplab.execution.link import LOOPBACK, Reception
from sweeplab.execution.placement import Placement, is_order_dependent, measures_own_cost
from sweeplab.execution.supervisor import Call, Ending, Supervisor
from sweeplab.runtime.errors import ConfigError, describe_error

_ANSWER_SECONDS: Final = 10.0  # for Ray to say why it lost an actor


class _RayJob:
    """A supervisor in a Ray actor."""

    def __init__(self, actor: Any, reception: Reception, call: Call) -> None:
        self.actor = actor
        self.result = actor.run.remote()
        supervisors = reception.links_of(call.supervisor)
        self.result.future().add_done_callback(lambda _: supervisors.put(None))  # also where it never connected

    def explain_loss(self) -> Ending:
        import ray
        from ray.exceptions import RayActorError, RayError

        try:
            ray.get(self.result, timeout=_ANSWER_SECONDS)
        except (RayError, OSError) as error:
            reason = str(error).strip().splitlines()[-1].strip()
            return Ending(f"Ray lost the worker: {reason}", taken=_was_preempted(error, RayActorError))
        return Ending("Ray lost the worker: its connection broke")

    def cancel(self) -> None:
        import ray

        ray.kill(self.actor)


def _was_preempted(error: Exception, kind: type[Any]) -> bool:
    """True where the node was taken away, as happens with a spot instance."""
    return isinstance(error, kind) and bool(error.preempted)


def _join_cluster(executor: RayWorkers) -> None:
    """Joins the cluster at `executor.address`. Without an address, starts a cluster on this machine that no other
    machine can reach. Raises `ConfigError`."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"  # will be Ray's default; unset, Ray prints a warning
    own: dict[str, Any] = {}
    if executor.address is None:
        # Ray replaces _node_ip_address=127.0.0.1 by the machine's address in the network, except where clusters are
        # disabled: then all of its servers listen on the loopback address only (checked with ss on Ray 2.60)
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        if "RAY_AUTH_TOKEN_PATH" not in os.environ:
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        own = {"include_dashboard": False, "_node_ip_address": LOOPBACK}
    import ray
    from ray.exceptions import RayError

    try:
        ray.init(executor.address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
    except (RayError, ConnectionError, RuntimeError, ValueError) as error:
        reason = describe_error(error)
        raise ConfigError(
            f"executor.address={executor.address} does not answer as a Ray cluster: {reason}; start its head with "
            "`RAY_AUTH_MODE=token ray start --head`, or use executor.address=null to use this machine only"
        ) from error


def _count_free_workers(nodes: list[dict[str, Any]], executor: RayWorkers, num_gpus: float) -> int:
    """The number of workers for which the nodes, as `ray.nodes` lists them, have enough CPUs and GPUs."""

    def count_on(resources: dict[str, float]) -> int:
        cpus = resources.get("CPU", 0) // executor.cpus_per_worker
        return int(min(cpus, resources.get("GPU", 0) // num_gpus) if num_gpus else cpus)

    return sum(count_on(node["Resources"]) for node in nodes if node["Alive"])


def _choose_ray_placements(config: StudyConfig, nodes: list[dict[str, Any]]) -> tuple[list[Placement], float]:
    """The placements of the workers and the number of GPUs for each, 0 on a cluster without GPUs.

    Raises `ConfigError` where no node is large enough.
    """
    executor = config.executor
    assert isinstance(executor, RayWorkers)
    has_gpu = any(node["Resources"].get("GPU", 0) for node in nodes if node["Alive"])
    num_gpus = executor.gpus_per_worker if has_gpu and executor.device != "cpu" else 0
    count = executor.num_workers
    if count == "auto":
        count = _count_free_workers(nodes, executor, num_gpus)
        if count and (measures_own_cost(config) or (is_order_dependent(config) and not num_gpus)):
            count = 1
    if count == 0:
        raise ConfigError(
            f"no node of the Ray cluster has room for a worker of executor.cpus_per_worker={executor.cpus_per_worker} "
            f"and executor.gpus_per_worker={num_gpus:g}; lower one of them"
        )
    threads = executor.num_threads or executor.cpus_per_worker
    settings = executor.replaced(num_threads=threads, device=executor.device if num_gpus else "cpu")
    share = num_gpus if 0 < num_gpus < 1 else 1.0
    return [Placement(settings, None, config.training.num_devices, share)] * count, num_gpus


def _own_address(ray: Any) -> str:
    """The address of this machine at which the cluster's nodes reach it."""
    own = ray.get_runtime_context().get_node_id()
    return next(str(node["NodeManagerAddress"]) for node in ray.nodes() if node["NodeID"] == own)


class RayLauncher:
    """Starts workers as actors of a Ray cluster."""

    def __init__(self, config: StudyConfig) -> None:
        """Joins or starts the cluster. Raises `ConfigError`."""
        assert isinstance(config.executor, RayWorkers)
        _join_cluster(config.executor)
        self.ray: Any = import_module("ray")  # Any, since Ray has no types for what is used
        try:
            self.placements, num_gpus = _choose_ray_placements(config, self.ray.nodes())
            cpus = config.executor.cpus_per_worker
            self.actor = self.ray.remote(Supervisor).options(num_cpus=cpus, num_gpus=num_gpus)
            self.reception = Reception(_own_address(self.ray))
        except BaseException:
            self.ray.shutdown()
            raise

    def start(self, calls: list[Call]) -> list[_RayJob]:
        return [_RayJob(self.actor.remote(call), self.reception, call) for call in calls]

    def close(self) -> None:
        self.reception.close()
        self.ray.shutdown()

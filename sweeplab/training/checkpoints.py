"""A trial in the middle of its training as bytes, from which it goes on to the same end."""

import io
import pickle
from dataclasses import asdict
from typing import Any

import torch

from sweeplab.records.record import HeldoutPoint, RungScores, TrainPoint
from sweeplab.records.typed import from_plain
from sweeplab.runtime.errors import describe_error_with_kind
from sweeplab.training.trial_state import Member


class CheckpointError(Exception):
    """A file that no trial can go on from; the message says why."""


def random_states(device: torch.device) -> list[torch.Tensor]:
    """The CPU's, and the device's where it has one of its own."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def set_random_states(states: list[torch.Tensor], device: torch.device) -> None:
    """What `random_states` gave, on a device of the same kind."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


def checkpoint(member: Member, identity: dict[str, Any]) -> bytes:
    """Weights, optimizer, schedule, curves and random state. Data and dropout follow from seed and step.

    `identity` says what trial it is: only one of the same is restored from it.
    """
    buffer = io.BytesIO()
    values = {
        "identity": identity,
        "weights": [weight.detach() for weight in member.parameters],
        "optimizer": member.optimizer.state_dict(),
        "schedule": member.scheduler.last_epoch,
        "step": member.step,
        "num_tokens": member.num_tokens,
        "seconds": member.seconds,
        "losses": [asdict(point) for point in member.losses],
        "heldout_losses": [asdict(point) for point in member.heldout_losses],
        "rung_scores": [asdict(point) for point in member.rung_scores],
        "since_point": member.since_point,
        "random_states": random_states(member.parameters[0].device),
    }
    torch.save(values, buffer)
    return buffer.getvalue()


def restore(member: Member, data: bytes, identity: dict[str, Any]) -> bool:
    """Puts a fresh member where the checkpoint left off; False, with nothing changed, where it is of another trial.

    Only plain values and tensors are read; nothing in the file can run. Raises `CheckpointError` for a file that is
    none, after which the member is no longer fresh.
    """
    try:
        return put_back(member, data, identity)
    except torch.OutOfMemoryError:
        raise
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:
        raise CheckpointError(describe_error_with_kind(error)[:200]) from error


def put_back(member: Member, data: bytes, identity: dict[str, Any]) -> bool:
    """`restore`, with whatever a file that is no checkpoint makes of it."""
    values = torch.load(io.BytesIO(data), weights_only=True, map_location=member.parameters[0].device)
    if values["identity"] != identity:
        return False
    with torch.no_grad():
        for weight, kept in zip(member.parameters, values["weights"], strict=True):
            weight.copy_(kept)
    member.optimizer.load_state_dict(values["optimizer"])
    member.scheduler.last_epoch = values["schedule"]
    member.step, member.num_tokens, member.seconds = values["step"], values["num_tokens"], values["seconds"]
    member.losses = [TrainPoint(**point) for point in values["losses"]]
    member.heldout_losses = [HeldoutPoint(**point) for point in values["heldout_losses"]]
    member.rung_scores = [from_plain(RungScores, point, "scores of a rung") for point in values["rung_scores"]]
    member.since_point = values["since_point"]
    member.random_states = [state.cpu() for state in values["random_states"]]
    return True

"""Checkpoints: a trial in the middle of its training as bytes. A trial that goes on from one ends with the same
weights as a trial that was never stopped."""

import io
import pickle
from dataclasses import asdict

import torch

from sweeplab.evaluation.heldout import HeldoutLosses
from sweeplab.records.record import HeldoutPoint, RungScores, TrainPoint
from sweeplab.records.store import write_bytes
from sweeplab.records.stored import from_plain
from sweeplab.runtime.errors import describe_error_with_kind
from sweeplab.runtime.out_of_memory import known_as_out_of_memory
from sweeplab.training.bitsandbytes_states import wait_for_paged
from sweeplab.training.kept import KeptWeights
from sweeplab.training.running_trial import RunningTrial


class CheckpointError(Exception):
    """The file is no checkpoint or is damaged; the message says why."""


def _read_random_states(device: torch.device) -> list[torch.Tensor]:
    """State of torch's generator on the CPU and, for a CUDA device, of the one on that device."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def set_random_states(states: list[torch.Tensor], device: torch.device) -> None:
    """Restores what `_read_random_states` returned, on a device of the same kind."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


def write_checkpoint(trial: RunningTrial) -> None:
    """Writes weights, those kept, optimizer, schedule, curves and random states. The order of the data and the dropout
    are not stored: seed and step determine them. Raises `StoreError`."""
    wait_for_paged(trial.optimizer)
    buffer = io.BytesIO()
    values = {
        "identity": trial.identity(),
        "weights": [weight.detach() for weight in trial.parameters],
        "optimizer": trial.optimizer.state_dict(),
        "schedule": trial.scheduler.last_epoch,
        "step": trial.step,
        "num_tokens": trial.num_tokens,
        "seconds": trial.seconds,
        "losses": [asdict(point) for point in trial.losses],
        "heldout_losses": [asdict(point) for point in trial.heldout_losses],
        "rung_scores": [asdict(point) for point in trial.rung_scores],
        "kept": None if trial.kept is None else {**trial.kept._asdict(), "losses": trial.kept.losses._asdict()},
        "since_point": trial.since_point,
        "random_states": _read_random_states(trial.parameters[0].device),
    }
    torch.save(values, buffer)
    write_bytes(trial.checkpoint_path, buffer.getvalue())


def continue_from_checkpoint(trial: RunningTrial) -> None:
    """Restores a trial that has not trained yet from its checkpoint; does nothing where that is missing or is another
    trial's.

    Only plain values and tensors are loaded, so that a file cannot run code. Raises `CheckpointError` for a file that
    is no checkpoint; the trial may then be half restored and must be started anew.
    """
    if not trial.checkpoint_path.exists():
        return
    try:
        with known_as_out_of_memory():
            _restore(trial, trial.checkpoint_path.read_bytes())
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


def _restore(trial: RunningTrial, data: bytes) -> None:
    """Restores `trial` from the bytes `data`. Bytes that are no checkpoint raise whatever torch or Python raises."""
    values = torch.load(io.BytesIO(data), weights_only=True, map_location=trial.parameters[0].device)
    if values["identity"] != trial.identity():
        return
    with torch.no_grad():
        for weight, stored in zip(trial.parameters, values["weights"], strict=True):
            weight.copy_(stored)
    trial.optimizer.load_state_dict(values["optimizer"])
    trial.scheduler.last_epoch = values["schedule"]
    trial.step, trial.num_tokens, trial.seconds = values["step"], values["num_tokens"], values["seconds"]
    trial.losses = [TrainPoint(**point) for point in values["losses"]]
    trial.heldout_losses = [HeldoutPoint(**point) for point in values["heldout_losses"]]
    trial.rung_scores = [from_plain(RungScores, point, "scores of a rung") for point in values["rung_scores"]]
    kept = values["kept"]
    if kept is not None:
        weights = [weight.cpu() for weight in kept["weights"]]
        trial.kept = KeptWeights(kept["step"], kept["loss"], HeldoutLosses(**kept["losses"]), weights)
    trial.since_point = values["since_point"]
    trial.random_states = [state.cpu() for state in values["random_states"]]

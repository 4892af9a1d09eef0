"""A worker without a model: sends a worker's messages, and ends as its plan says. Arguments: its folder, ignored."""

import json
import math
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from sweeplab.execution.link import Link, Message, connect_from_stdin
from sweeplab.records.record import HeldoutPoint, Phase, Status, TrainPoint, TrialRecord

FOLDER = Path(sys.argv[1])
UNKNOWN = {"seconds": None, "tokens": None}  # of a forecast


stopping: set[int] = set()  # trials that a person stops


def listen(link: Link) -> Iterator[Message]:
    """The driver's messages but those that stop a trial, which are heard at once."""
    arrived: queue.SimpleQueue[Message | None] = queue.SimpleQueue()

    def read() -> None:
        for message in link.messages():
            if message["kind"] == "stop":
                stopping.add(message["number"])
            else:
                arrived.put(message)
        arrived.put(None)

    threading.Thread(target=read, daemon=True).start()
    while (message := arrived.get()) is not None:
        yield message


class Driver(NamedTuple):
    """The other end of the link."""

    link: Link
    messages: Iterator[Message]
    pruning: bool


def loss_of(params: dict[str, Any], seed: int) -> float:
    """A loss that tells every trial apart."""
    return (
        3.0 - 0.01 * math.log(1 + sum(len(str(value)) + hash_free(value) for value in params.values())) + 0.001 * seed
    )


def hash_free(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float(sum(map(ord, str(value))))


def first_time(number: int) -> bool:
    """True once per trial, over all workers."""
    mark = FOLDER / f"died-{number}"
    if mark.exists():
        return False
    mark.touch()
    return True


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still here")


def ended(spec: Message, plan: dict[str, Any]) -> TrialRecord:
    number, training = spec["number"], spec["config"]["training"]
    loss = loss_of(spec["params"], spec["seed"])
    record = TrialRecord(number, Status.FINISHED, spec["seed"], spec["params"], spec["config"], step=2)
    record.phases = {"train": Phase(0.25)}
    record.losses = [TrainPoint(1, 3.0, 0.1), TrainPoint(2, 2.0, 0.1)]
    if number in plan.get("diverge", []):
        record.status, record.reason, record.phase = Status.DIVERGED, "the training loss became nan", "train"
    elif training["micro_batch_size"] > plan.get("largest", math.inf):
        record.status, record.reason = Status.OUT_OF_MEMORY, f"no room for {training['micro_batch_size']}"
    elif number in plan.get("cannot", []):
        record.status, record.reason, record.phase = Status.REFUSED, "training.max_length=2 cuts it off", "load"
    elif number in plan.get("break", []):
        record.status, record.reason, record.phase = Status.FAILED, "RuntimeError: it broke", "train"
    else:
        record.heldout_losses, record.heldout_loss_nats_per_token = [HeldoutPoint(2, loss)], loss
        record.tokens_per_second = 100.0
    return record


def may_go_on(driver: Driver, number: int, step: int, loss: float) -> str | None:
    """Tells a held-out loss, and why the trial must stop, if it must."""
    driver.link.send("observed", number=number, step=step, values={"heldout_loss": loss, "num_steps": 2})
    if not driver.pruning:
        return None
    verdict = next(driver.messages)
    assert verdict["kind"] == "verdict"
    why: str | None = verdict["why"]
    return why


def run(driver: Driver, spec: Message, plan: dict[str, Any]) -> None:
    number = spec["number"]
    print(f'{{"kind": "ended", a stray print of trial {number}', flush=True)
    note = {key: spec[key] for key in ("number", "seed", "params")} | {"pid": os.getpid()}
    with (FOLDER / "given.jsonl").open("a") as notes:
        notes.write(json.dumps(note) + "\n")
    if number in plan.get("refuse", []):
        driver.link.send("refused", message="data.path=x.json is no good; mend it")
        sys.exit()
    why = None
    for step in (1, 2):
        values = {"train_loss": 4.0 - step, "lr": 0.1, "num_steps": 2}
        driver.link.send("observed", number=number, step=step, values=values)
        if step == 1 and driver.pruning:
            why = may_go_on(driver, number, 1, 1.0 + loss_of(spec["params"], spec["seed"]))
    end = time.monotonic() + plan.get("seconds", 0.0)
    while time.monotonic() < end and number not in stopping:
        time.sleep(0.01)
    while number in plan.get("wait", []) and not (FOLDER / "go").exists() and number not in stopping:
        time.sleep(0.01)
    if number in plan.get("die_always", []) or (number in plan.get("die_once", []) and first_time(number)):
        die()
    if number in plan.get("hang_always", []) or (number in plan.get("hang_once", []) and first_time(number)):
        (FOLDER / f"hangs-{os.getpid()}").touch()
        time.sleep(600)
    made = ended(spec, plan)
    if number in stopping:
        made = replace(made, status=Status.STOPPED, reason="by hand after 2 of 2 steps")
        made = replace(made, heldout_losses=[], heldout_loss_nats_per_token=None)
    if why is not None:
        made = replace(made, status=Status.PRUNED, reason=why, step=1, heldout_loss_nats_per_token=None)
        made.heldout_losses = []
    record = made.to_dict()
    if number in plan.get("cut_off", []) and first_time(number):
        driver.link.socket.sendall(json.dumps({"kind": "ended", "record": record})[:100].encode())
        die()
    if made.heldout_losses:
        may_go_on(driver, number, 2, made.heldout_losses[-1].loss)
    driver.link.send("ended", record=record)


def hear(message: Message) -> list[Message]:
    """The trials of a `cohort` or `refill`, noted; one that is poison kills the worker before any of them begins."""
    numbers = [spec["number"] for spec in message["specs"]]
    with (FOLDER / "heard.jsonl").open("a") as notes:
        notes.write(json.dumps([message["kind"], numbers]) + "\n")
    plan = json.loads((FOLDER / "plan.json").read_text())
    if set(plan.get("poison", [])).intersection(numbers):
        die()
    if any(first_time(number) for number in set(plan.get("poison_once", [])).intersection(numbers)):
        die()
    specs: list[Message] = message["specs"]
    return specs


def main() -> None:
    """A cohort's trials come one after another, refills last."""
    link = connect_from_stdin()
    messages = listen(link)
    driver = Driver(link, messages, next(messages)["pruning"])
    for message in messages:
        if message["only_forecast"]:
            link.send("forecast", **json.loads((FOLDER / "plan.json").read_text()).get("forecast", UNKNOWN))
            link.send("done")
            continue
        waiting = hear(message)
        while waiting:
            spec, plan = waiting.pop(0), json.loads((FOLDER / "plan.json").read_text())
            run(driver, spec, plan)
            waiting += hear(next(messages))
            if spec["number"] in plan.get("die_after", []):
                die()
        link.send("done")


if __name__ == "__main__":
    main()

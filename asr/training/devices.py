"""Where a training runs: device, precision, and the processes that share it.

One process drives one device. All hold the same weights; each computes the gradient of its share of a batch,
and the sum of all is applied by all. So the result is that of one device with the whole batch.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn

from asr.errors import AsrError, ConfigError

Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
Accelerator = Literal["auto", "cpu", "cuda"]

_PATIENCE = timedelta(hours=2)
"""How long a process waits for the others, of which one may be validating."""


def is_main_process() -> bool:
    """Tell whether this process is the one that prints and saves, before the processes have met."""
    ranks = [os.environ.get(name, "0") for name in ("RANK", "NODE_RANK", "LOCAL_RANK")]
    if int(os.environ.get("SLURM_NTASKS", 1)) > 1 and "SLURM_STEP_ID" in os.environ:
        ranks.append(os.environ.get("SLURM_PROCID", "0"))
    return all(rank == "0" for rank in ranks)


def make_fabric(accelerator: Accelerator, precision: Precision, devices: int) -> Fabric:
    """Meet the other processes of the training, starting those that nobody else starts.

    Parameters
    ----------
    devices : int
        Processes to start on this machine. Where torchrun or SLURM's srun started them, theirs count.

    Raises
    ------
    ConfigError
        If there is no such device, or none that computes in this precision.
    """
    on_cuda = accelerator != "cpu" and torch.cuda.is_available()
    if accelerator == "cuda" and not on_cuda:
        raise ConfigError("trainer.accelerator: no CUDA device here; use cpu or auto")
    if precision == "16-mixed" and not on_cuda:
        raise ConfigError("trainer.precision: 16-mixed needs a CUDA device; use bf16-mixed or 32-true here")
    per_machine, machines = _started_elsewhere() or (devices, 1)
    if on_cuda and per_machine > torch.cuda.device_count():
        raise ConfigError(
            f"trainer.devices: {per_machine} processes take a CUDA device each, but this machine has "
            f"{torch.cuda.device_count()}"
        )
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # the loop notes what it prints
    fabric = Fabric(
        accelerator="cuda" if on_cuda else "cpu",
        devices=per_machine,
        num_nodes=machines,
        strategy=DDPStrategy(timeout=_PATIENCE) if per_machine * machines > 1 else "auto",
        precision=pick_precision(precision, on_cuda),  # type: ignore[arg-type]
    )
    if per_machine * machines > 1:
        _meet_under_torchrun(on_cuda)
    fabric.launch()
    if fabric.global_rank > 0:  # draws of its own, not those of the first process
        torch.manual_seed(torch.initial_seed() + fabric.global_rank)
    return fabric


def _started_elsewhere() -> tuple[int, int] | None:
    """Return processes a machine and machines, if torchrun or srun have started them."""
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:
        local = int(environment["LOCAL_WORLD_SIZE"])
        return local, int(environment["WORLD_SIZE"]) // local
    tasks = int(environment.get("SLURM_NTASKS", 1))
    if tasks > 1 and "SLURM_STEP_ID" in environment:
        machines = int(environment.get("SLURM_STEP_NUM_NODES", environment.get("SLURM_NNODES", 1)))
        return tasks // machines, machines
    return None


def _meet_under_torchrun(on_cuda: bool) -> None:
    """Let the processes that torchrun has started on one machine find each other, also after a restart.

    torchrun keeps one store for all attempts. The addresses of an attempt that failed still stand in it, and
    who reads them waits for processes that are gone; so every attempt has its own names. With several
    machines, which do not count attempts alike, this is left to PyTorch.
    """
    environment = os.environ
    if (
        "TORCHELASTIC_RUN_ID" not in environment
        or environment["LOCAL_WORLD_SIZE"] != environment["WORLD_SIZE"]
    ):
        return
    size, rank = int(environment["WORLD_SIZE"]), int(environment["RANK"])
    address, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
    kept = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = torch.distributed.TCPStore(
        address, port, size, is_master=rank == 0 and not kept, timeout=_PATIENCE
    )
    torch.distributed.init_process_group(
        "nccl" if on_cuda else "gloo",
        store=torch.distributed.PrefixStore(f"attempt {environment['TORCHELASTIC_RESTART_COUNT']}", store),
        rank=rank,
        world_size=size,
        timeout=_PATIENCE,
    )


def pick_precision(precision: Precision, on_cuda: bool) -> str:
    """Turn "auto" into bfloat16 autocast where the hardware computes in it, else float32."""
    if precision != "auto":
        return precision
    if on_cuda:
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    flags = _cpu_flags()
    return "bf16-mixed" if "amx_bf16" in flags or "avx512_bf16" in flags else "32-true"


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def any_process(fabric: Fabric, *flags: bool) -> tuple[bool, ...]:
    """Tell all processes alike which flags are up in any of them."""
    if fabric.world_size == 1:
        return flags
    counts = _sum(fabric, torch.tensor(flags, dtype=torch.float32, device=fabric.device))
    return tuple(count > 0 for count in counts.tolist())


@contextlib.contextmanager
def names_lost_process(fabric: Fabric) -> Iterator[None]:
    """Say in one line that another process went away, which shows when values are to be exchanged with it."""
    try:
        yield
    except RuntimeError as error:
        signs = ("gloo", "NCCL", "Connection closed", "Connection reset", "ProcessGroup")
        if fabric.world_size == 1 or not any(sign in str(error) for sign in signs):
            raise
        reason = str(error).split("\n")[0]
        raise AsrError(
            f"another process of this training is gone ({reason}); start the training again, and it goes on "
            "from its last checkpoint, as 'torchrun --max-restarts' does by itself"
        ) from error


def gather(fabric: Fabric, value: Any) -> list[Any]:
    """Return the value of every process, by rank."""
    if fabric.world_size == 1:
        return [value]
    values: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(values, value)
    return values


@torch.no_grad()
def reduce_gradients(fabric: Fabric, model: nn.Module, weight: float, sums: Tensor) -> Tensor:
    """Replace each process's mean gradient by that of the whole batch; return sums over all processes.

    The floating-point buffers, which are batch normalisation's running statistics, become their means.

    Parameters
    ----------
    weight : float
        Tokens that this process's gradient is the mean over.
    sums : Tensor, float, (N,)
        What else to add up.
    """
    if fabric.world_size == 1:
        return sums
    parameters = [p for p in model.parameters() if p.requires_grad]
    for parameter in parameters:
        if parameter.grad is None:  # took no part in this process's share
            parameter.grad = torch.zeros_like(parameter)
    gradients = [p.grad for p in parameters if p.grad is not None]
    buffers = [b for b in model.buffers() if b.is_floating_point()]
    counted = sums.new_tensor([weight]).float()
    pieces = [*(g.float() * weight for g in gradients), *(b.float() for b in buffers), sums.float(), counted]
    flat = _sum(fabric, torch.cat([piece.flatten() for piece in pieces]))
    found = flat.split([piece.numel() for piece in pieces])
    total = found[-1].clamp(min=1)
    _write(gradients, [piece / total for piece in found[: len(gradients)]])
    _write(buffers, [piece / fabric.world_size for piece in found[len(gradients) : -2]])
    return found[-2].double()


def _sum(fabric: Fabric, values: Tensor) -> Tensor:
    return cast(Tensor, fabric.all_reduce(values, reduce_op="sum"))


def _write(targets: Iterable[Tensor], values: Iterable[Tensor]) -> None:
    for target, value in zip(targets, values, strict=True):
        target.copy_(value.view_as(target))

"""Long-lag tasks: how far back recurrent cells remember, from which initial values, clipped or not.

    python recipes/memory/run.py
    python recipes/memory/run.py --tasks copy --lags 10 100 --cells lstm gru -o runs/memory

Writes results.json, tables.md, reach.png and updates.png into the output folder; what is there already is
not computed again.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from networks import CELLS, LEARNING_RATES, VARIANTS, Population, Variant
from report import plot_reach, plot_updates, tables
from tasks import TASKS, Task
from torch import Tensor

from asr.errors import AsrError
from asr.files import atomic_write, make_folder

WINDOW = 20  # updates that an error is averaged over; every batch is new, so this is a test error


@dataclass(frozen=True, slots=True)
class Result:
    """How one network did.

    Attributes
    ----------
    max_updates : int
        How many it was given.
    error : float
        Mean over the last `WINDOW` updates, on sequences never seen before; chance if it diverged.
    updates : int or None
        Updates until that mean was below the task's `solved`; None if it never was.
    largest_gradient : float
        The largest norm of the gradient of all weights before clipping; infinite if it overflowed.
    diverged : bool
        Whether the loss stopped being a number.
    frames_back : tuple of int
    reach_before, reach_after : tuple of float
        Norm of the gradient of the loss for the state so many frames before the last one, over that for
        the last; before and after training. NaN if it diverged.
    """

    task: str
    lag: int
    variant: str
    seed: int
    max_updates: int
    error: float
    updates: int | None
    largest_gradient: float
    diverged: bool
    frames_back: tuple[int, ...]
    reach_before: tuple[float, ...]
    reach_after: tuple[float, ...]


def train(
    task_name: str,
    lag: int,
    variants: Sequence[Variant],
    seeds: Sequence[int],
    *,
    max_updates: int | None = None,
    batch_size: int = 32,
    hidden_size: int = 32,
) -> list[Result]:
    """Train variants of one cell with every seed until all solve the task or `max_updates` are done.

    Adam with a constant learning rate; every batch is drawn anew.
    """
    task = TASKS[task_name]
    max_updates = task.max_updates if max_updates is None else max_updates
    population = Population(task, lag, variants, seeds, hidden_size)
    members = population.members
    generators = {seed: torch.Generator().manual_seed(seed) for seed in seeds}

    def draw() -> tuple[Tensor, Tensor]:
        drawn = {seed: task.draw(rng, batch_size, lag) for seed, rng in generators.items()}
        inputs, targets = zip(*(drawn[seed] for _, seed in members), strict=True)
        return torch.stack(inputs), torch.stack(targets)

    frames_back = sorted({round(lag ** (i / 40)) - 1 for i in range(41)})
    before = gradient_reach(population, task, *draw(), frames_back)
    clip = torch.tensor([variant.clip for variant, _ in members])
    optimizer = torch.optim.Adam(population.parameters(), lr=LEARNING_RATES[variants[0].cell])
    errors: list[Tensor] = []
    recent = torch.full((len(members),), task.chance)
    largest = torch.zeros(len(members))
    diverged = torch.zeros(len(members), dtype=torch.bool)
    updates: list[int | None] = [None] * len(members)
    for update in range(1, max_updates + 1):
        x, targets = draw()
        outputs, _ = population(x)
        losses = task.losses(outputs, targets).mean(1)
        optimizer.zero_grad()
        losses.sum().backward()  # a sum over models: each one's gradient is that of its own loss
        largest = torch.maximum(largest, clip_each(population.parameters(), clip).nan_to_num(math.inf))
        optimizer.step()
        diverged |= ~losses.detach().isfinite()
        errors.append(task.errors(outputs.detach(), targets))
        recent = torch.stack(errors[-WINDOW:]).mean(0)
        if update >= WINDOW:
            for m in range(len(members)):
                if updates[m] is None and not diverged[m] and recent[m] < task.solved:
                    updates[m] = update
        if all(n is not None or gone for n, gone in zip(updates, diverged, strict=True)):
            break
    after = gradient_reach(population, task, *draw(), frames_back)
    return [
        Result(
            task=task_name,
            lag=lag,
            variant=variant.name,
            seed=seed,
            max_updates=max_updates,
            error=task.chance if diverged[m] else recent[m].item(),
            updates=updates[m],
            largest_gradient=largest[m].item(),
            diverged=bool(diverged[m]),
            frames_back=tuple(frames_back),
            reach_before=tuple(before[m].tolist()),
            reach_after=tuple(after[m].tolist()),
        )
        for m, (variant, seed) in enumerate(members)
    ]


def gradient_reach(
    population: Population, task: Task, x: Tensor, targets: Tensor, frames_back: Sequence[int]
) -> Tensor:
    """Return how large the loss's gradient is for earlier states, over the last one's: (M, frames).

    The norm is over all that a cell carries (an LSTM: hidden and cell state), the mean over the batch.
    """
    outputs, states = population(x)
    chosen = [state for k in frames_back for state in states[len(states) - 1 - k]]
    gradients = torch.autograd.grad(task.losses(outputs, targets).mean(1).sum(), chosen)
    parts = len(chosen) // len(frames_back)
    norms_KMB = torch.stack(
        [
            torch.cat(gradients[parts * k : parts * (k + 1)], dim=2).double().norm(dim=2)
            for k in range(len(frames_back))
        ]
    )
    means = norms_KMB.mean(2)
    return (means / means[0]).t()


@torch.no_grad()
def clip_each(parameters: Any, max_norms: Tensor) -> Tensor:
    """Scale each model's gradient, the parts (M, ...) of all parameters together, to its largest norm.

    As `torch.nn.utils.clip_grad_norm_` does for one model (Pascanu et al., arXiv:1211.5063). Returns the
    norms before, (M,).
    """
    gradients = [parameter.grad for parameter in parameters]
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
    scale = torch.where(norms > max_norms, max_norms / norms, 1.0)  # no NaN where nothing is clipped
    for gradient in gradients:
        gradient *= scale.view(-1, *[1] * (gradient.ndim - 1))
    return norms


def run(
    output_dir: Path,
    tasks: Sequence[str],
    lags: Sequence[int],
    cells: Sequence[str],
    seeds: Sequence[int],
    train_to: int,
    max_updates: int | None,
) -> list[Result]:
    """Train everything, short lags first; keep what an earlier call has done with as many updates."""
    path = output_dir / "results.json"
    results = [Result(**record) for record in json.loads(path.read_text())] if path.exists() else []
    for lag, task, cell in product(lags, tasks, cells):
        variants = [variant for variant in VARIANTS if variant.cell == cell]
        names = {variant.name for variant in variants}
        done = [r for r in results if (r.task, r.lag) == (task, lag) and r.variant in names]
        wanted = TASKS[task].max_updates if max_updates is None else max_updates
        wanted = wanted if lag <= train_to else 0
        if {(r.variant, r.seed) for r in done if r.max_updates == wanted} >= set(product(names, seeds)):
            continue
        start = time.monotonic()
        new = train(task, lag, variants, seeds, max_updates=wanted)
        results = [r for r in results if r not in done] + new
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps([asdict(result) for result in results]))
        print(
            f"{task} lag {lag} {cell}: {sum(r.updates is not None for r in new)} of {len(new)} solved, "
            f"{time.monotonic() - start:.0f} s",
            file=sys.stderr,
            flush=True,
        )
    return results


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--lags", nargs="+", type=int, default=[10, 30, 100, 300, 1000])
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument(
        "--max-updates", type=int, help="to stop after (default: 600 for adding, 300 for copy)"
    )
    parser.add_argument(
        "--train-to",
        type=int,
        default=100,
        help="longest lag to train at; at longer ones only the gradient is measured (default: 100)",
    )
    parser.add_argument("--output-dir", "-o", type=Path, default=Path("runs/memory"))
    args = parser.parse_args()
    if min(args.lags) < 2:
        parser.error(f"--lags: a lag is 2 frames or more, found {min(args.lags)}")
    try:
        make_folder(args.output_dir, "--output-dir")
    except AsrError as error:
        parser.error(str(error))
    # A gradient that vanishes ends in numbers below 1e-38, with which a CPU is ten times slower.
    torch.set_flush_denormal(True)
    results = run(
        args.output_dir, args.tasks, args.lags, args.cells, args.seeds, args.train_to, args.max_updates
    )
    with atomic_write(args.output_dir / "tables.md") as temporary:
        temporary.write_text(tables(results))
    plot_reach(args.output_dir / "reach.png", results)
    plot_updates(args.output_dir / "updates.png", results)
    print(tables(results))


if __name__ == "__main__":
    main()

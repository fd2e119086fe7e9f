"""Adapt a model to a new voice by recordings without transcripts (self-training).

    asr run recipes/fsdd/new_voice.yaml speaker=george output_dir=runs/george
    python recipes/fsdd/adapt.py runs/george

The recordings of the voice that was left out are divided in two. For each half, the model labels the other
half, trains on, with the settings of RUN, beside the other voices on the labels it is surest of, at most so
many of a word, and does so again; then the half, which it has not heard, is recognised and scored.
Transcripts serve the scores alone. Writes hyp.jsonl and wer.json into RUN/adapt; trainings that are there
already are not made again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import yaml

from asr.cli.config import quoted
from asr.cli.main import main as asr
from asr.data.manifest import read_manifest, write_manifest
from asr.errors import AsrError, DataError
from asr.files import atomic_write
from asr.scoring.wer import confidence_interval, score
from asr.types import Utterance

# Of a word's recordings, if all words were equally frequent: more labels of one are more than there can be,
# and a word that others are taken for would be learnt ever better. Zou et al., ECCV 2018 (arXiv:1810.07911).
SHARE = 0.9
# Labelled recordings come so often in an epoch, each time augmented anew; so many of the synthetic stay.
COPIES, SYNTHETIC = 4, 2000
EPOCHS, LEARNING_RATE = 4, 0.001


def surest(hypotheses: Iterable[dict], num_words: int = 10) -> list[dict]:
    """Return the hypotheses of most confidence, of every text at most `SHARE` of an equal part of all.

    Where nothing was recognised there is no label.
    """
    ranked = sorted(hypotheses, key=lambda hypothesis: -hypothesis["confidence"])
    most, counts, chosen = int(SHARE * len(ranked) / num_words), Counter[str](), []
    for hypothesis in ranked:
        counts[hypothesis["pred_text"]] += 1
        if hypothesis["pred_text"] and counts[hypothesis["pred_text"]] <= most:
            chosen.append(hypothesis)
    return chosen


def in_half(utterance: Utterance, half: int) -> bool:
    """Whether a recording belongs to this half (0 or 1) of the voice: every other one of each digit."""
    return int(utterance.id.rsplit("-", 1)[1]) % 2 == half


def command(*arguments: object) -> None:
    """Run ``asr`` with these arguments; end the program as it does, if it fails."""
    status = asr([str(argument) for argument in arguments])
    if status:
        sys.exit(status)


def recognise(model: Path, manifest: Path, lm: Path, output_dir: Path) -> list[dict]:
    """Return what ``asr evaluate`` with the bigram writes into hyp.jsonl."""
    command("evaluate", model, manifest, "--lm", lm, "--unknown-words", "refuse", "-o", output_dir)
    return [json.loads(line) for line in (output_dir / "hyp.jsonl").read_text("utf-8").splitlines()]


def adapt(run: Path, rounds: int) -> None:
    """Adapt to each half of the voice, and score the other."""
    config = yaml.safe_load((run / "config.yaml").read_text("utf-8"))
    if config.get("speaker") in (None, "official"):
        raise DataError(f"{run}: was trained with all voices; train with speaker=NAME to leave one out")
    train, test = read_manifest(config["data"]["train"]), read_manifest(config["data"]["test"]["test"])
    folder, lm = run / "adapt", run / "adapt" / "digits.arpa"
    folder.mkdir(exist_ok=True)
    command("lm", "train", config["data"]["train"], "--model", run / "model.asr", "--order", 2, "-o", lm)
    synthetic = [u for u in train if u.id.startswith("synthetic-")]
    others = [u for u in train if not u.id.startswith("synthetic-")] + synthetic[:SYNTHETIC]
    hypotheses: list[dict] = []
    for half in (0, 1):
        place = folder / f"half{half}"
        heard = {u.id: u for u in test if not in_half(u, half)}
        write_manifest(place / "heard.jsonl", heard.values())
        write_manifest(place / "test.jsonl", [u for u in test if in_half(u, half)])
        model = run / "model.asr"
        for number in range(1, rounds + 1):
            labels = surest(recognise(model, place / "heard.jsonl", lm, place / f"labels{number}"))
            labelled = [
                replace(heard[label["id"]], id=f"{label['id']}-copy{copy}", text=label["pred_text"])
                for label in labels
                for copy in range(COPIES)
            ]
            write_manifest(place / f"train{number}.jsonl", [*others, *labelled])
            overrides = {
                "init_from": model,
                "data.train": place / f"train{number}.jsonl",
                "output_dir": place / f"round{number}",
            }
            command(
                *("train", run / "config.yaml", f"trainer.epochs={EPOCHS}", f"optimizer.lr={LEARNING_RATE}"),
                *(f"{key}={quoted(str(path.absolute()))}" for key, path in overrides.items()),
            )
            model = place / f"round{number}" / "model.asr"
        hypotheses += recognise(model, place / "test.jsonl", lm, place / "test")
    with atomic_write(folder / "hyp.jsonl") as path:
        lines = [json.dumps(hypothesis, ensure_ascii=False) + "\n" for hypothesis in hypotheses]
        path.write_text("".join(lines), encoding="utf-8")
    total = score([h["text"] for h in hypotheses], [h["pred_text"] for h in hypotheses], alternatives=False)
    with atomic_write(folder / "wer.json") as path:
        path.write_text(json.dumps(total.to_dict(), indent=2) + "\n", encoding="utf-8")
    low, high = confidence_interval(total)
    print(f"{config['speaker']}: WER {total.wer:.2%} ({low:.2%} to {high:.2%}), {total.num_words} words")


def main() -> None:
    """Adapt a run's model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="the output_dir of recipes/fsdd/new_voice.yaml")
    parser.add_argument("--rounds", type=int, default=3, help="how often to label and train (default: 3)")
    args = parser.parse_args()
    missing = [name for name in ("model.asr", "config.yaml") if not (args.run / name).is_file()]
    if missing or args.rounds < 1:
        parser.error(
            f"{args.run}: needs a finished run with model.asr and config.yaml, and --rounds 1 or more"
        )
    try:
        adapt(args.run, args.rounds)
    except AsrError as error:
        sys.exit(f"adapt.py: {error}")


if __name__ == "__main__":
    main()

"""Find the weights of a language model on a dev set, and say what they are worth.

Texts are pooled from beam searches at a few settings, each with its exact acoustic and language scores. Any
other setting only ranks the pool anew, so a whole grid costs little more than one search. What the grid
prefers is searched with and joins the pool, until the preferred setting has been searched.

The decoder stays greedy unless the interval of the gain on the dev set lies above zero. Choosing among many
settings flatters the chosen one, so the gain must also show in cross-validation: each part of the dev set is
decoded with the setting that is best on the other parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.build import TARGET, build
from asr.decoding.base import Decoder
from asr.decoding.beam import BEAM_SIZE_TOKEN, BEAM_THRESHOLD, BeamDecoder, Candidate
from asr.decoding.confidence import calibrate
from asr.decoding.error_surface import Setting, Surface, cross_validate, paired_gain
from asr.decoding.greedy import GreedyDecoder
from asr.scoring.wer import score
from asr.types import Hypothesis

GREEDY = {TARGET: f"{GreedyDecoder.__module__}.{GreedyDecoder.__name__}"}
BEAM = f"{BeamDecoder.__module__}.{BeamDecoder.__name__}"

LM_WEIGHTS = tuple(round(0.1 * i, 1) for i in range(31))
WORD_BONUSES = tuple(round(0.5 * i, 1) for i in range(-6, 11))
RESCORE_WEIGHTS = tuple(round(0.1 * i, 1) for i in range(16))
BEAM_SIZES = (10, 25, 50, 100, 200)

POOL_WEIGHTS = (0.2, 0.6, 1.2)
POOL_SIZE = 40
MAX_ROUNDS = 4
_UTTERANCES_PER_BATCH = 32


@dataclass(frozen=True, slots=True)
class DevUtterance:
    """An utterance to tune on.

    Attributes
    ----------
    reference : str
        Normalised transcript.
    log_probs : Tensor, float32, (T, V)
    group : str
        What belongs together in cross-validation, such as a speaker.
    """

    reference: str
    log_probs: Tensor
    group: str


@dataclass(frozen=True)
class Tuning:
    """What tuning found.

    Attributes
    ----------
    config : dict
        Of the decoder that won, for `asr.build.build`.
    assets : mapping of str to bytes
        That it needs.
    accepted : bool
        Whether that is the beam search; else greedy has stayed.
    setting : Setting
        The best one, accepted or not.
    beam_size : int
    num_words : int
        In the references.
    greedy_errors, tuned_errors : int
        Words. `tuned_errors` are of real searches with the best setting.
    gain : float
        Over greedy on the whole dev set, in points of word error rate.
    interval : (float, float)
        95% of the paired bootstrap over utterances, of that gain.
    validated_gain : float
        The gain by cross-validation, in points: without the flattery of choosing.
    surface : Surface
    beams : tuple of (int, int)
        Beam sizes that were tried at the best setting, and their errors.
    num_outside : int
        Words of the references that the lexicon lacks; 0 without a lexicon.
    hypotheses : list of Hypothesis
        Of the winner, uncalibrated.
    """

    config: dict[str, Any]
    assets: Mapping[str, bytes]
    accepted: bool
    setting: Setting
    beam_size: int
    num_words: int
    greedy_errors: int
    tuned_errors: int
    gain: float
    interval: tuple[float, float]
    validated_gain: float
    surface: Surface
    beams: tuple[tuple[int, int], ...]
    num_outside: int
    hypotheses: list[Hypothesis] = field(repr=False)


def tune(
    utterances: Sequence[DevUtterance],
    pieces: Sequence[str],
    frame_shift: float,
    options: Mapping[str, Any],
    assets: Mapping[str, bytes],
    *,
    beam_sizes: Sequence[int] = BEAM_SIZES,
    num_workers: int = 1,
    progress: Callable[[int], None] = lambda utterances: None,
) -> Tuning:
    """Search for the best weights and beam.

    Parameters
    ----------
    utterances : sequence of DevUtterance
        At least one word of reference among them.
    pieces : sequence of str, length V
    frame_shift : float
        Seconds per frame.
    options : mapping
        Of `BeamDecoder`, but for what is tuned.
    assets : mapping of str to bytes
        With ``lm``, and ``lexicon`` and ``rescorer`` if there are.
    beam_sizes : sequence of int
        To choose from, rising.
    num_workers : int
        Processes that search together; the result does not depend on it.
    progress : callable
        Called with the number of utterances searched since its last call.
    """
    search = _Search(utterances, pieces, frame_shift, dict(options), dict(assets), num_workers, progress)
    greedy = search.errors_of(GreedyDecoder())
    for weight in POOL_WEIGHTS:
        search.fill(Setting(weight, 0.0))
    surface, index = search.settle()
    setting = surface.setting(index)

    beams, errors = [], {}
    for size in beam_sizes:
        errors[size] = search.errors_of(search.decoder(setting, size))
        beams.append((size, int(errors[size].sum())))
    fewest = min(errors for _, errors in beams)
    beam_size = next(size for size, errors in beams if errors == fewest)

    num_words = sum(len(u.reference.split()) for u in utterances)
    validated = cross_validate(surface, [u.group for u in utterances])
    words_of = [len(u.reference.split()) for u in utterances]
    validated_gain, _ = paired_gain(greedy, validated, words_of)
    gain, interval = paired_gain(greedy, errors[beam_size], words_of)
    accepted = interval[0] > 0 and validated_gain > 0
    config: dict[str, Any] = search.config(setting, beam_size) if accepted else dict(GREEDY)
    decoder: Decoder = search.decoder(setting, beam_size) if accepted else GreedyDecoder()
    hypotheses = search.decode(decoder)
    if isinstance(decoder, BeamDecoder):
        decoder.close()
    if any(hypothesis.words for hypothesis in hypotheses):
        config["calibration"] = calibrate([u.reference for u in utterances], hypotheses).to_config()
    return Tuning(
        config=config,
        assets=assets if accepted else {},
        accepted=accepted,
        setting=setting,
        beam_size=beam_size,
        num_words=num_words,
        greedy_errors=int(greedy.sum()),
        tuned_errors=fewest,
        gain=gain,
        validated_gain=validated_gain,
        interval=interval,
        surface=surface,
        beams=tuple(beams),
        num_outside=search.count_outside(),
        hypotheses=hypotheses,
    )


class _Search:
    """The dev set, and the texts found in it so far."""

    def __init__(
        self,
        utterances: Sequence[DevUtterance],
        pieces: Sequence[str],
        frame_shift: float,
        options: dict[str, Any],
        assets: dict[str, bytes],
        num_workers: int,
        progress: Callable[[int], None],
    ) -> None:
        self.utterances, self.pieces, self.frame_shift = utterances, pieces, frame_shift
        self.options, self.assets = options, assets
        self.num_workers, self.progress = num_workers, progress
        self.pool: list[dict[str, _Scores]] = [{} for _ in utterances]
        self.searched: set[Setting] = set()

    def config(self, setting: Setting, beam_size: int) -> dict[str, Any]:
        chosen: dict[str, Any] = {
            # Written out, so that a model file decodes alike whatever the defaults become.
            "beam_threshold": BEAM_THRESHOLD,
            "beam_size_token": BEAM_SIZE_TOKEN,
            "beam_size": beam_size,
            "lm_weight": setting.lm_weight,
            "word_bonus": setting.word_bonus,
        }
        if "rescorer" in self.assets:
            chosen |= {"rescore_weight": setting.rescore_weight, "nbest": POOL_SIZE}
        return {TARGET: BEAM, **chosen, **self.options}

    def decoder(self, setting: Setting, beam_size: int) -> BeamDecoder:
        decoder = build(self.config(setting, beam_size), BeamDecoder, assets=self.assets)
        decoder.num_workers = self.num_workers
        return decoder

    def batches(self) -> Iterable[tuple[list[int], Tensor, Tensor]]:
        order = sorted(range(len(self.utterances)), key=lambda i: len(self.utterances[i].log_probs))
        for start in range(0, len(order), _UTTERANCES_PER_BATCH):
            chosen = order[start : start + _UTTERANCES_PER_BATCH]
            rows = [self.utterances[i].log_probs for i in chosen]
            yield chosen, pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])

    def decode(self, decoder: Decoder) -> list[Hypothesis]:
        found: dict[int, Hypothesis] = {}
        for chosen, log_probs, lengths in self.batches():
            found.update(zip(chosen, decoder(log_probs, lengths, self.pieces, self.frame_shift), strict=True))
            self.progress(len(chosen))
        return [found[i] for i in range(len(self.utterances))]

    def errors_of(self, decoder: Decoder) -> np.ndarray:
        texts = [hypothesis.text for hypothesis in self.decode(decoder)]
        if isinstance(decoder, BeamDecoder):
            decoder.close()
        return _errors([u.reference for u in self.utterances], texts)

    def fill(self, setting: Setting) -> None:
        """Search with a setting and add what is found to the pool."""
        self.searched.add(setting)
        decoder = self.decoder(setting, max(50, POOL_SIZE))
        new: list[tuple[int, Candidate]] = []
        for chosen, log_probs, lengths in self.batches():
            for i, candidates in zip(
                chosen, decoder.nbest(log_probs, lengths, self.pieces, POOL_SIZE), strict=True
            ):
                new += [(i, c) for c in candidates if c.text not in self.pool[i]]
            self.progress(len(chosen))
        decoder.close()
        errors = _errors([self.utterances[i].reference for i, _ in new], [c.text for _, c in new])
        for (i, candidate), count in zip(new, errors.tolist(), strict=True):
            self.pool[i][candidate.text] = _Scores.of(candidate, setting, count)

    def settle(self) -> tuple[Surface, tuple[int, int, int]]:
        """Search with the best setting of the grid until the best has been searched."""
        for _ in range(MAX_ROUNDS):
            surface = self.surface()
            index = surface.best()
            if surface.setting(index) in self.searched:
                break
            self.fill(surface.setting(index))
        surface = self.surface()
        return surface, surface.best()

    def surface(self) -> Surface:
        rescore_weights = RESCORE_WEIGHTS if "rescorer" in self.assets else (0.0,)
        shape = (len(LM_WEIGHTS), len(WORD_BONUSES), len(rescore_weights))
        axes = np.meshgrid(LM_WEIGHTS, WORD_BONUSES, rescore_weights, indexing="ij")
        weights = np.stack([np.ones(shape), *axes], axis=-1).reshape(-1, 4)
        errors = np.empty((len(self.pool), *shape), dtype=np.int64)
        for row, texts in zip(errors, self.pool, strict=True):
            scores = np.array([entry.features for entry in texts.values()])
            totals = weights @ scores.T + np.array([entry.rest for entry in texts.values()])
            counts = np.array([entry.errors for entry in texts.values()])
            row[...] = counts[totals.argmax(axis=1)].reshape(shape)
        return Surface(LM_WEIGHTS, WORD_BONUSES, rescore_weights, errors)

    def count_outside(self) -> int:
        lexicon = self.decoder(Setting(0.0, 0.0), 1).lexicon
        if lexicon is None:
            return 0
        known = set(lexicon.vocabulary)
        return sum(word not in known for u in self.utterances for word in u.reference.split())


@dataclass(frozen=True, slots=True)
class _Scores:
    """A text of the pool: acoustic and language score, words and rescoring score; all other bonus; errors."""

    features: tuple[float, float, int, float]
    rest: float
    errors: int

    @classmethod
    def of(cls, candidate: Candidate, setting: Setting, errors: int) -> _Scores:
        num_words = len(candidate.words)
        return cls(
            (candidate.acoustic, candidate.language, num_words, candidate.rescored),
            candidate.bonus - setting.word_bonus * num_words,
            errors,
        )


def _errors(references: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    """Return the word errors of each text, int64 (N,)."""
    if not texts:
        return np.zeros(0, dtype=np.int64)
    return score(references, texts, alternatives=False).counts[:, 1:].sum(axis=1)

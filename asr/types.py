"""The values that pass between the parts of the toolkit.

All are frozen. Times and durations are seconds (float), confidences are probabilities in [0, 1],
lengths are int64 counts of samples, frames or tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Utterance:
    """One line of a manifest: a stretch of speech and, if known, what was said.

    Attributes
    ----------
    id : str
        Unique within its manifest.
    duration : float
        Seconds.
    text : str or None
        The reference transcript as the manifest has it, before normalisation.
    audio_filepath : str or None
        Absolute path of the audio file. None only if `features_filepath` is given.
    offset : float
        Where the utterance starts in the audio file, seconds.
    speaker, lang : str or None
        Speaker and language labels.
    features_filepath : str or None
        Absolute path of a precomputed feature file, used instead of the audio. For a Kaldi
        archive: ``path.ark:byte_offset``.
    extra : mapping
        Fields of the manifest line that the toolkit does not know; kept and passed through.
    """

    id: str
    duration: float
    text: str | None = None
    audio_filepath: str | None = None
    offset: float = 0.0
    speaker: str | None = None
    lang: str | None = None
    features_filepath: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Batch:
    """Utterances padded to one length, ready for the device.

    Attributes
    ----------
    ids : tuple of str, length B
    inputs : Tensor, float32
        Waveforms (B, N) with samples in [-1, 1], or frames (B, T, F). Zero beyond each utterance's length.
    input_lengths : Tensor, int64, (B,)
        Samples (waveforms) or frames (features).
    targets : Tensor, int64, (B, L)
        Token ids, 0 beyond `target_lengths`.
    target_lengths : Tensor, int64, (B,)
    texts : tuple of str, length B
        Normalised reference transcripts.
    seconds : float
        Audio in the batch, without padding.
    finished : bool
        Whether `inputs` are what the model reads: the front end and the augmentation are behind them.
    """

    ids: tuple[str, ...]
    inputs: Tensor
    input_lengths: Tensor
    targets: Tensor
    target_lengths: Tensor
    texts: tuple[str, ...]
    seconds: float
    finished: bool = False

    def pin_memory(self) -> Batch:
        """Return the batch in memory from which a CUDA device copies by itself; PyTorch's loader calls it."""
        tensors = ("inputs", "input_lengths", "targets", "target_lengths")
        return replace(self, **{name: getattr(self, name).pin_memory() for name in tensors})


@dataclass(frozen=True, slots=True)
class Word:
    """A recognised word.

    Attributes
    ----------
    text : str
    start, end : float
        Seconds.
    confidence : float
        Mean probability of its tokens; from a calibrated decoder, the probability that the word is right.
    tokens : tuple of int
        Token ids, with the spaces before the word where those are tokens of their own.
    """

    text: str
    start: float
    end: float
    confidence: float
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What a decoder found in one utterance.

    Attributes
    ----------
    text : str
    words : tuple of Word
    tokens : tuple of int
        Token ids of the text, blanks and repeats removed.
    log_prob : float
        Natural logarithm of the probability of the decoded path; from beam search, of the text over all
        its alignments.
    confidence : float
        Mean probability of the emitted tokens, 1.0 if there are none; from a calibrated decoder, the
        probability that the text is right.
    """

    text: str
    words: tuple[Word, ...]
    tokens: tuple[int, ...]
    log_prob: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a transcribed recording, as subtitles show it.

    Attributes
    ----------
    start, end : float
        Seconds from the start of the recording.
    text : str
    words : tuple of Word
    tokens : tuple of int
    avg_logprob : float
        Mean natural-log probability per emitted token.
    """

    start: float
    end: float
    text: str
    words: tuple[Word, ...]
    tokens: tuple[int, ...]
    avg_logprob: float

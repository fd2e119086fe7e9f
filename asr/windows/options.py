"""How recordings are cut, and what suits a model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from asr.errors import ConfigError
from asr.vad import DETECTORS

# The shortest and the longest window, seconds; between them, the longest utterance of the training.
MIN_WINDOW, MAX_WINDOW = 2.0, 30.0
# The window of a model that does not say how long its utterances were, seconds.
DEFAULT_WINDOW = 15.0


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """How recordings are cut; the names and units of the detector's options are faster-whisper's.

    Attributes
    ----------
    vad : {"auto", "silero", "energy", "none"}
        What finds speech. "auto" takes recordings (or clips) that fit into one window as they are, and for
        others the best there is; "none" takes everything for speech.
    threshold : float
        Probability that a frame of speech reaches. From 0.15 below it on, what is around belongs to it.
    min_speech_duration_ms : int
        Shorter speech is passed over. A frame of probability p counts for p of its length: what the
        detector is hardly sure of, as a note of music, must last longer.
    max_speech_duration_s : float
        The longest window, seconds, what it shares with its neighbours included.
    min_silence_duration_ms : int
        The pause that ends a stretch of speech.
    speech_pad_ms : int
        Kept on either side of speech, at most to the quietest moment of the pause and 0.8 s beyond where
        the detector hears speech or, before that, loud words. Where speech hardly stands out from the
        background, the window begins and ends at the quietest moment of the 0.4 s around it instead. A window
        that would be too long has less.
    context_s : float
        What a window hears beyond a cut within speech, seconds.
    """

    vad: Literal["auto", "silero", "energy", "none"] = "auto"
    threshold: float = 0.35
    min_speech_duration_ms: int = 0
    max_speech_duration_s: float = DEFAULT_WINDOW
    min_silence_duration_ms: int = 1000
    speech_pad_ms: int = 400
    context_s: float = 1.5

    def __post_init__(self) -> None:
        if self.vad not in ("auto", *DETECTORS):
            raise ConfigError(f"vad {self.vad}: unknown; choose from auto, {', '.join(DETECTORS)}")
        if not 0 < self.threshold < 1:
            raise ConfigError(f"threshold {self.threshold:g}: not a probability between 0 and 1")
        for name in ("min_speech_duration_ms", "min_silence_duration_ms", "speech_pad_ms"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} {getattr(self, name)}: give 0 or more milliseconds")
        if not 1 <= self.max_speech_duration_s <= 30 * 60:
            raise ConfigError(f"max_speech_duration_s {self.max_speech_duration_s:g}: give 1 to 1800 seconds")
        if not 0 <= self.context_s <= self.max_speech_duration_s / 4:
            raise ConfigError(
                f"context_s {self.context_s:g}: give 0 to {self.max_speech_duration_s / 4:g} seconds, a "
                "quarter of the window"
            )

    @classmethod
    def for_model(cls, max_train_seconds: float | None, **chosen: object) -> WindowOptions:
        """Return options that suit a model, which hears best what is like its training.

        Parameters
        ----------
        max_train_seconds : float, optional
            Its longest training utterance, `Recognizer.max_train_seconds`: the window, from 2 to 30 s. A
            tenth of it is the pause that ends a stretch, from 0.3 to 2 s, and 1/35 of it the padding,
            up to 0.4 s. The least speech is 1/42 of it, up to 0.2 s: a model of short utterances is
            there for single words.
        **chosen
            Options to set otherwise; None leaves them.
        """
        wishes = {name: value for name, value in chosen.items() if value is not None}
        window = wishes.get("max_speech_duration_s", max_train_seconds or DEFAULT_WINDOW)
        assert isinstance(window, int | float)
        if "max_speech_duration_s" not in wishes:
            window = min(max(window, MIN_WINDOW), MAX_WINDOW)
        suited = cls(
            max_speech_duration_s=window,
            min_speech_duration_ms=round(1000 * min(window / 42, 0.2)),
            min_silence_duration_ms=round(1000 * min(max(window / 10, 0.3), 2.0)),
            speech_pad_ms=round(1000 * min(window / 35, 0.4)),
            context_s=min(window / 5, 1.5),
        )
        return replace(suited, **wishes)  # type: ignore[arg-type]

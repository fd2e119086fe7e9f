"""The toolkit from Python: what `asr.load` returns."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from asr.live import LiveTranscriber
from asr.recognizer import Recognizer
from asr.transcribe import TranscriptionResult, transcribe
from asr.windows import WHOLE_FILE, Clip, WindowOptions


class Model:
    """A trained model that transcribes.

    Parameters
    ----------
    recognizer : Recognizer

    Examples
    --------
    ::

        model = asr.load("model.asr")
        result = model.transcribe("talk.wav")
        for word in result.words:
            print(word.start, word.end, word.text, word.confidence)
    """

    def __init__(self, recognizer: Recognizer) -> None:
        self.recognizer = recognizer

    @property
    def sample_rate(self) -> int:
        """Hertz of the audio that the model was trained on; other rates are resampled."""
        return self.recognizer.sample_rate

    def transcribe(
        self,
        source: str | os.PathLike[str] | np.ndarray,
        sample_rate: int | None = None,
        *,
        options: WindowOptions | None = None,
        clips: Sequence[Clip] = WHOLE_FILE,
        batch_seconds: float = 120.0,
    ) -> TranscriptionResult:
        """Transcribe a recording of any length; parameters and errors as of `asr.transcribe.transcribe`.

        Returns
        -------
        TranscriptionResult
            With ``text``, ``words``, ``segments``, ``duration`` in seconds and ``notes`` on the audio.
        """
        return transcribe(
            self.recognizer, source, sample_rate, options=options, clips=clips, batch_seconds=batch_seconds
        )

    def stream(self, sample_rate: int | None = None) -> LiveTranscriber:
        """Begin a live stream of samples, at the model's own rate by default; see `LiveTranscriber`."""
        return LiveTranscriber(self.recognizer, sample_rate)

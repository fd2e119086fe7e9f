"""An utterance whose transcript a model does not believe."""

from __future__ import annotations

from dataclasses import dataclass

from asr.data.checks.problems import Problem
from asr.data.checks.splits import Split
from asr.data.checks.texts import shortened
from asr.data.checks.utterances import problem_of
from asr.types import Utterance

WRONG_NATS = 3.0
"""Where another text is e^3 times as probable a token as the transcript, that is called wrong. For the true
texts of AN4's and FSDD's test sets it reaches 1.9, for texts of other utterances it begins at 5."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """An utterance and how much better another text fits it.

    Attributes
    ----------
    split : Split
    index : int
        Of the utterance in the split.
    text, recognized : str
        The normalised transcript, and the text of the most probable path.
    loss : float
        Negative log-probability of the transcript, nats a token; what suspects are ranked by.
    advantage : float
        By how many nats a token the most probable path beats the transcript. Unlike the loss it is small
        where the audio is merely hard, so that it tells what to call wrong.
    wer, cer : float
        Of the recognised text against the transcript.
    """

    split: Split
    index: int
    text: str
    recognized: str
    loss: float
    advantage: float
    wer: float
    cer: float

    @property
    def utterance(self) -> Utterance:
        """The utterance as the manifest has it."""
        return self.split.utterances[self.index]

    def problem(self) -> Problem | None:
        """Return what to report, None if the transcript may well be right."""
        if self.advantage < WRONG_NATS:
            return None
        message = (
            f"the model hears {shortened(self.recognized)} instead of {shortened(self.text)}, "
            f"{self.advantage:.1f} nats a token more probable; listen, and correct the text or drop it"
        )
        return self.split.locate(problem_of(self.utterance, "wrong_text", message), self.index)

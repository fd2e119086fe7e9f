"""Word and character error rates of transcripts. Knows strings only: no audio, no torch."""

from asr.scoring.formats import read_pair, read_transcripts
from asr.scoring.pairing import Pairing, pair
from asr.scoring.wer import Score, align, confidence_interval, score

__all__ = [
    "Pairing",
    "Score",
    "align",
    "confidence_interval",
    "pair",
    "read_pair",
    "read_transcripts",
    "score",
]

"""Word and character error rates of transcripts. Knows strings only: no audio, no torch."""

from asr.scoring.breakdown import Group, Grouping, group_by
from asr.scoring.confusions import (
    difference,
    frequent_errors,
    out_of_vocabulary,
    read_vocabulary,
    worst_utterances,
)
from asr.scoring.formats import Transcripts, read_transcripts
from asr.scoring.normalization import Normalization, make_normalization
from asr.scoring.page import make_page
from asr.scoring.pairing import Pairing, pair, read_many, read_pair
from asr.scoring.report import Report
from asr.scoring.statistics import Comparison, compare
from asr.scoring.wer import Score, align, confidence_interval, score

__all__ = [
    "Comparison",
    "Group",
    "Grouping",
    "Normalization",
    "Pairing",
    "Report",
    "Score",
    "Transcripts",
    "align",
    "compare",
    "confidence_interval",
    "difference",
    "frequent_errors",
    "group_by",
    "make_normalization",
    "make_page",
    "out_of_vocabulary",
    "pair",
    "read_many",
    "read_pair",
    "read_transcripts",
    "read_vocabulary",
    "score",
    "worst_utterances",
]

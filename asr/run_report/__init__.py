"""A page about a training run: its curves, its scores, its worst utterances, and how it came about."""

from asr.run_report.folder import Run, read_run
from asr.run_report.page import make_run_report

__all__ = ["Run", "make_run_report", "read_run"]

"""Errors that a user can cause.

Each message is one line that names the file or key, says what is wrong with the value found,
and how to put it right. The command line prints it without a traceback and exits with status 2.
"""


class AsrError(Exception):
    """Base of every error that a user can cause."""


class ConfigError(AsrError):
    """A configuration key, value or command-line override that cannot be used."""


class DataError(AsrError):
    """A manifest, transcript, archive or feature file that cannot be used."""


class AudioError(AsrError):
    """An audio file that cannot be read or is not usable speech."""


class ModelError(AsrError):
    """A model file or checkpoint that cannot be loaded or does not fit."""

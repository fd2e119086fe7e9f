"""Corpora that lhotse knows: its preparer, and its download where there is one, to our manifests."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from asr.data.convert import complete
from asr.data.dialects.base import Problems, Source
from asr.data.dialects.lhotse_records import from_pair, from_recordings
from asr.data.dialects.media import Headers, Media, Progress
from asr.data.manifest import write_manifest
from asr.errors import ConfigError, DataError

_WHERE = ("corpus_dir", "corpus_path", "audio_dir", "data_dir", "corpus_zip")
_SUPPLIED = ("output_dir", "target_dir", "num_jobs")


def prepare_corpus(
    corpus: str,
    output_dir: Path,
    *,
    folder: Path | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Progress = lambda *_: None,
    say: Callable[[str], object] = lambda _: None,
) -> dict[str, int]:
    """Write a manifest for every set that lhotse's preparer of a corpus returns.

    Parameters
    ----------
    corpus : str
        As lhotse calls it: ``yesno`` for ``lhotse.recipes.prepare_yesno``.
    output_dir : Path
        Gets ``<set>.jsonl``; a corpus without sets gets ``<corpus>.jsonl``.
    folder : Path, optional
        The unpacked corpus. Without it lhotse downloads it into ``output_dir/<corpus>``, where it can.
    options : mapping, optional
        Further arguments of lhotse's two functions, by name.
    progress, say : callable
        `say` is told what takes long.

    Returns
    -------
    dict of str to int
        Utterances by manifest name.

    Raises
    ------
    ConfigError
        lhotse is missing or does not know the corpus or an option.
    DataError
        The corpus is not there, or lhotse cannot prepare it.
    """
    prepare, download = _functions(corpus)
    options = _checked(dict(options or {}), corpus, prepare, download)
    parameters = inspect.signature(prepare).parameters
    where = next((name for name in parameters if name in _WHERE), next(iter(parameters)))
    if folder is not None and not folder.exists():
        raise DataError(f"{folder}: no such folder; give the unpacked corpus with --archive")
    if folder is None and where not in options:
        folder = _download(corpus, download, output_dir / corpus, options, say)
    arguments = {name: value for name, value in options.items() if name in parameters}
    if folder is not None:
        arguments[where] = folder.absolute()
    if "num_jobs" in parameters:
        arguments.setdefault("num_jobs", os.cpu_count() or 1)
    if "output_dir" in parameters and parameters["output_dir"].default is inspect.Parameter.empty:
        arguments["output_dir"] = output_dir / "lhotse"
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in arguments]
    if missing:
        raise ConfigError(f"lhotse:{corpus}: needs {', '.join(missing)}; give each as {missing[0]}=...")
    say(f"lhotse prepares {corpus} from {arguments.get(where)}")
    remedy = (
        f"check that {arguments.get(where)} is the corpus as {inspect.getsourcefile(prepare)} describes it"
    )
    prepared = _call(corpus, prepare, arguments, remedy)
    count = {}
    headers = Headers(progress)
    for path, manifests in _sets(prepared, ()):
        name = re.sub(r"[^\w.-]+", "-", "-".join(path)) or corpus
        found = _utterances(name, manifests, headers, output_dir)
        utterances = complete(found, headers, f"lhotse:{corpus} {name}")
        write_manifest(output_dir / f"{name}.jsonl", utterances)
        count[name] = len(utterances)
    if not count:
        raise DataError(f"lhotse:{corpus}: lhotse found nothing in {folder}; check that it is the corpus")
    return count


def _functions(corpus: str) -> tuple[Callable[..., Any], Callable[..., Any] | None]:
    try:
        from lhotse import recipes
    except ImportError as error:
        raise ConfigError(f"lhotse:{corpus}: lhotse is not installed; pip install 'asr[lhotse]'") from error
    # Some recipes are modules that lhotse.recipes does not pass on.
    modules = {module.name for module in pkgutil.iter_modules(recipes.__path__)}
    home = recipes
    if not hasattr(recipes, f"prepare_{corpus}") and corpus in modules:
        home = importlib.import_module(f"lhotse.recipes.{corpus}")
    if not hasattr(home, f"prepare_{corpus}"):
        known = sorted(name.removeprefix("prepare_") for name in dir(recipes) if name.startswith("prepare_"))
        near = difflib.get_close_matches(corpus, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"it knows {', '.join(known)}"
        raise ConfigError(f"lhotse:{corpus}: lhotse knows no such corpus; {hint}")
    return getattr(home, f"prepare_{corpus}"), getattr(home, f"download_{corpus}", None)


def _checked(
    options: dict[str, Any], corpus: str, prepare: Callable[..., Any], download: Callable[..., Any] | None
) -> dict[str, Any]:
    """Return the options with paths where lhotse wants paths; raise ConfigError on one it does not have."""
    parameters = dict(inspect.signature(prepare).parameters)
    if download is not None:
        parameters = {**inspect.signature(download).parameters, **parameters}
    known = [name for name in parameters if name not in _SUPPLIED]
    for name, value in options.items():
        if name not in parameters:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known) or 'none'}"
            raise ConfigError(f"{name}={value}: not an option of lhotse:{corpus}; {hint}")
        if isinstance(value, str) and re.search(r"_(dir|path)s?$", name):
            options[name] = Path(value).absolute()
    return options


def _download(
    corpus: str,
    download: Callable[..., Any] | None,
    folder: Path,
    options: Mapping[str, Any],
    say: Callable[[str], object],
) -> Path:
    if download is None:
        raise ConfigError(
            f"lhotse:{corpus}: lhotse cannot download it; give the folder of your copy with --archive"
        )
    parameters = inspect.signature(download).parameters
    target = next(iter(parameters))
    arguments = {name: value for name, value in options.items() if name in parameters} | {target: folder}
    folder.mkdir(parents=True, exist_ok=True)
    say(f"lhotse downloads {corpus} into {folder}; how much that is, lhotse does not say")
    remedy = "run it again, or fetch the corpus yourself and give its folder with --archive"
    found = _call(corpus, download, arguments, remedy)
    return found if isinstance(found, Path) else folder


def _call(corpus: str, function: Callable[..., Any], arguments: Mapping[str, Any], remedy: str) -> Any:
    """Call lhotse; whatever it raises, on corpora that are not what it expects, becomes one line."""
    try:
        return function(**arguments)
    except Exception as error:
        reason = ": ".join(filter(None, (type(error).__name__, " ".join(str(error).split()))))
        raise DataError(f"lhotse:{corpus}: {function.__name__} failed ({reason}); {remedy}") from error


def _sets(prepared: Any, name: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Yield the sets that a preparer returned: nested by split, language, microphone, or not at all."""
    if not isinstance(prepared, Mapping):
        return
    if "recordings" in prepared or "audio" in prepared:
        yield name, prepared
        return
    for key, value in prepared.items():
        yield from _sets(value, (*name, str(key)))


def _utterances(name: str, manifests: Mapping[str, Any], headers: Headers, output_dir: Path) -> Iterator[Any]:
    recordings = manifests.get("recordings") or manifests.get("audio")
    known = {record["id"]: record for record in map(_record, recordings or ())}
    source = Source(headers, Media(output_dir / f"{name}_audio"), run_commands=True)
    if manifests.get("supervisions") is None:
        yield from from_recordings(known, source, Path.cwd())
        return
    problems = Problems()
    lines = ((f"{name}: supervision {s.id}", _record(s)) for s in manifests["supervisions"])
    yield from from_pair(known, lines, source, Path.cwd(), problems)
    problems.check()


def _record(item: Any) -> dict[str, Any]:
    return item.to_dict()

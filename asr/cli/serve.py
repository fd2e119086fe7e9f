"""`asr serve`: a model as a web service."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Any

from asr.cli.decoding import add_decoder_arguments, add_option, choose_decoder
from asr.cli.memory import keep_memory_flat
from asr.errors import ConfigError

EPILOG = """\
examples:
  asr serve runs/an4/model.asr                       then open http://127.0.0.1:8000
  ASR_TOKEN=$(openssl rand -hex 16) asr serve model.asr --host 0.0.0.0 --max-mb 50 --rate 60

  curl http://127.0.0.1:8000/v1/audio/transcriptions -F file=@talk.wav -F response_format=srt
  curl http://127.0.0.1:8000/v1/audio/transcriptions -H "Authorization: Bearer $ASR_TOKEN" \\
      -F file=@talk.mp3 -F response_format=verbose_json -F "timestamp_granularities[]=word"

  from openai import OpenAI
  client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key=os.environ.get("ASR_TOKEN", "none"))
  print(client.audio.transcriptions.create(model="asr", file=open("talk.wav", "rb")).text)

Also there: ws://HOST:PORT/v1/audio/transcriptions/live?sample_rate=16000 for live audio (16-bit mono samples
in, JSON out), /health, /metrics for Prometheus, /openapi.json. Ctrl-C or SIGTERM: what has begun is finished
and nothing new is taken; a second one ends at once. Uploads are deleted with their answer; neither audio nor
text is logged.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``asr serve``."""
    parser = subparsers.add_parser(
        "serve",
        help="serve a model: OpenAI's transcription API, live audio, and a page",
        description="Serve a model over HTTP: OpenAI's transcription API, live audio over a WebSocket, and a "
        "page for the browser.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, metavar="MODEL.asr")

    def add(name: str, **options: Any) -> None:
        add_option(parser, name, **options)

    add("host", default="127.0.0.1", help="address to serve on; 0.0.0.0 for all (default: 127.0.0.1)")
    add("port", default=8000, type=int, help="0 for any that is free (default: 8000)")
    add(
        "token",
        action="append",
        metavar="TOKEN",
        help="clients have to name it, or one of several; better set ASR_TOKEN, which other users do not see",
    )
    add(
        "cors_origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="pages of https://example.org may use the server, * for all; repeatable (default: none)",
    )
    add("name", help="what clients call the model (default: the name of its training)")
    add("device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    add("threads", type=_count, metavar="N", help="CPU threads (default: PyTorch's choice)")
    add(
        "batch_seconds",
        default=30.0,
        type=_number,
        metavar="S",
        help="seconds of audio recognised at a time: less answers sooner, more does more (default: 30)",
    )
    limits = parser.add_argument_group("limits")

    def limit(name: str, **options: Any) -> None:
        add_option(limits, name, **options)

    limit("max_mb", default=200.0, type=_number, metavar="MB", help="of an upload (default: 200)")
    limit("max_minutes", default=240.0, type=_number, metavar="M", help="of audio (default: 240)")
    limit(
        "max_requests",
        default=64,
        type=_count,
        metavar="N",
        help="files received, waiting and transcribed at the same time (default: 64)",
    )
    limit(
        "max_live", default=16, type=_count, metavar="N", help="live streams at the same time (default: 16)"
    )
    limit(
        "rate",
        default=float("inf"),
        type=_number,
        metavar="N",
        help="requests a minute from one address (default: any number)",
    )
    limit(
        "upload_timeout",
        default=30.0,
        type=_number,
        metavar="S",
        help="the longest pause in an upload, and the time after which it must come at 16 kB/s (default: 30)",
    )
    add_decoder_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop.

    Raises
    ------
    AsrError
        The model or the address cannot be used, or a package is missing.
    """
    keep_memory_flat()
    import torch

    try:
        from asr.serve.app import make_app
        from asr.serve.limits import Limits
        from asr.serve.server import Server, bind
        from asr.serve.service import Service
    except ModuleNotFoundError as error:
        raise ConfigError(f"asr serve needs the package {error.name}: pip install 'asr[serve]'") from error
    from asr.model_file import load_model, read_header

    tokens = args.token or [token for token in os.environ.get("ASR_TOKEN", "").split(",") if token]
    if not all(tokens):
        raise ConfigError("--token: is empty; give a word that is hard to guess")
    if args.threads:
        torch.set_num_threads(args.threads)
    address = bind(args.host, args.port)
    recognizer = load_model(args.model, args.device)
    # Processes that were forked from a server would end with Ctrl-C, before the work is done.
    choose_decoder(recognizer, args, threads=1)
    service = Service(
        recognizer,
        model=args.name or read_header(args.model)["info"].get("run", {}).get("name") or args.model.stem,
        limits=Limits(
            max_bytes=round(args.max_mb * 1e6),
            max_seconds=args.max_minutes * 60,
            max_requests=args.max_requests,
            max_live=args.max_live,
            requests_per_minute=args.rate,
            upload_seconds=args.upload_timeout,
        ),
        tokens=tokens,
        origins=args.cors_origin,
        batch_seconds=args.batch_seconds,
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("asr.serve").setLevel(logging.INFO)
    host, port = address.getsockname()[:2]
    _say(f"{args.model} on http://{f'[{host}]' if ':' in host else host}:{port}; Ctrl-C stops")
    if not (tokens or host in ("127.0.0.1", "::1")):
        _say("anyone who reaches this address can use it: set ASR_TOKEN to ask for a token")
    server = Server(make_app(service), service)
    server.run([address])
    _say("stopped" if not server.force_exit else "stopped at once; what had begun is lost")
    return 1 if server.force_exit else 0


def _say(message: str) -> None:
    print(f"asr: {message}", file=sys.stderr, flush=True)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1")
    return int(text)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return number

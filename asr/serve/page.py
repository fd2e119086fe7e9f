"""The page of the service: one file that asks nobody else for anything."""

from __future__ import annotations

import html
import json
from pathlib import Path

from asr.serve.gate import LIVE, LIVE_PROTOCOL, TRANSCRIPTIONS
from asr.serve.service import Service

_SCRIPTS = (
    "elements.js",
    "subtitles.js",
    "player.js",
    "timeline.js",
    "transcript.js",
    "upload.js",
    "microphone.js",
    "main.js",
)

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline' blob:; worker-src blob:; "
    "style-src 'unsafe-inline'; connect-src 'self'; media-src blob:; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def make_page(service: Service) -> str:
    """Return the page, with what it has to know about the service."""
    data = {
        "model": service.model,
        "needsToken": bool(service.tokens),
        "maxBytes": service.limits.max_bytes,
        "maxSeconds": service.limits.max_seconds,
        "transcriptions": TRANSCRIPTIONS,
        "live": LIVE,
        "liveProtocol": LIVE_PROTOCOL,
    }
    # Within a script element only "<" can end it or begin a comment.
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    script = "\n".join(_read(name) for name in _SCRIPTS)
    worklet = _read("worklet.js").replace("<", "\\u003c")
    page = _read("page.html").replace("@STYLE@", _read("page.css")).replace("@SCRIPT@", script)
    page = page.replace("@WORKLET@", worklet).replace("@TITLE@", html.escape(service.model))
    return page.replace("@DATA@", text)


def _read(name: str) -> str:
    return (Path(__file__).with_name("assets") / name).read_text(encoding="utf-8")

"""A browser for the tests: chromium without a window, driven by chromedriver (W3C WebDriver over HTTP)."""

import base64
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request

import pytest

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
    "--force-device-scale-factor=1",
    *(
        f"--disable-{what}"
        for what in ("gpu", "quic", "background-networking", "component-update", "sync", "dev-shm-usage")
    ),
]


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """Return a `Browser`; skips where there is none."""
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    if absent:
        pytest.skip(f"{' and '.join(absent)} not installed (Debian: apt install chromium chromium-driver)")
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


class Browser:
    """One chromium; use as a context manager."""

    def __init__(self, profile, *arguments):
        self._driver = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        port = next(
            m[1] for line in self._driver.stdout if (m := re.search(r"successfully on port (\d+)", line))
        )
        self._address = f"http://127.0.0.1:{port}/session"
        options = {
            "binary": shutil.which("chromium"),
            "args": [*ARGUMENTS, f"--user-data-dir={profile}", *arguments],
        }
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        try:
            session = self._call("POST", "", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
        except BaseException:
            self._driver.terminate()
            raise
        self._address += f"/{session}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._call("DELETE", "")
        self._driver.terminate()
        self._driver.wait()

    def _call(self, method, path, body=None):
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self._address + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from error

    def open(self, path, width=1280, height=900):
        """Open a file, at the size of a window in CSS pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)
        self._call("POST", "/url", {"url": path.absolute().as_uri()})

    def devtools(self, command, parameters):
        return self._call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def run(self, script, *arguments):
        """Run the body of a function in the page and return its value; a promise is awaited."""
        return self._call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, script, seconds=10):
        """Wait until a script returns something true, and return that."""
        end = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"still false: {script}"
            time.sleep(0.02)
        return value

    def log(self):
        """Return the messages of the console since the last call."""
        return [entry["message"] for entry in self._call("POST", "/se/log", {"type": "browser"})]

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self._call("GET", "/screenshot")))

"""The page in a real browser: files dropped and chosen, speech, words that play, downloads, layout."""

import json
import re
import shutil
import time
from html.parser import HTMLParser

import httpx
import pytest
import srt
import webvtt

selenium = pytest.importorskip("selenium.webdriver")

# Keys as the W3C's WebDriver knows them.
ENTER, END, LEFT, RIGHT = "\ue007", "\ue010", "\ue012", "\ue014"
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--mute-audio",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--autoplay-policy=no-user-gesture-required",
    "--force-device-scale-factor=1",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory, wav):
    """A chromium whose microphone hears a file."""
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    if absent:
        pytest.skip(f"{' and '.join(absent)} not installed (Debian: apt install chromium chromium-driver)")
    folder = tmp_path_factory.mktemp("browser")
    (folder / "voice.wav").write_bytes(wav(20.0))
    options = selenium.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in (*ARGUMENTS, f"--use-file-for-fake-audio-capture={folder / 'voice.wav'}"):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(folder)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(shutil.which("chromedriver")))
    driver.downloads = folder
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, start):
    """Return a function that opens the page of a new server at a size and gives a `Page`."""

    def show(width=1280, height=900, dark=False, **options):
        server = start(**options)
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        browser.get_log("browser")
        browser.get(server.url)
        return Page(browser, server)

    return show


class Page:
    """What a test does with the page."""

    def __init__(self, browser, server):
        self.browser, self.server = browser, server

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def find(self, selector):
        return self.browser.find_elements("css selector", selector)

    def click(self, selector, index=0):
        self.find(selector)[index].click()

    def wait(self, script, seconds=15):
        end = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < end, (script, self.status)
            time.sleep(0.02)
        return value

    def wait_for(self, state):
        self.wait(f"return document.body.dataset.state === '{state}'")

    def choose(self, path):
        self.find("#file")[0].send_keys(str(path))

    @property
    def status(self):
        return self.find("#status")[0].text

    @property
    def words(self):
        return self.run("return [...document.querySelectorAll('#words button')].map(b => b.textContent)")


@pytest.fixture
def talk(tmp_path, wav):
    path = tmp_path / "talk.wav"
    path.write_bytes(wav(9.0))
    return path


def transcribe(page, talk, response_format="verbose_json"):
    fields = {"response_format": response_format}
    if response_format == "verbose_json":
        fields["timestamp_granularities[]"] = ["word", "segment"]
    answer = page.server.client.post(
        "/v1/audio/transcriptions", files={"file": (talk.name, talk.read_bytes())}, data=fields
    )
    return answer.json() if response_format == "verbose_json" else answer.text


def test_a_chosen_file_is_transcribed_its_words_play_and_its_subtitles_download(page, talk, until):
    page = page()
    page.choose(talk)
    page.wait_for("done")
    expected = transcribe(page, talk)
    assert page.words == [word["word"] for word in expected["words"]]
    assert page.status.startswith(f"{len(page.words)} words in 9.0 s")
    page.wait("return document.querySelector('#track').dataset.drawn")
    assert page.wait("return document.querySelectorAll('#labels button').length > 3")

    # A word plays from its beginning to its end, and is marked meanwhile, in the text and over the waveform.
    page.run(
        """
        window.marked = {words: [], labels: []};
        for (const id of ['words', 'labels'])
            new MutationObserver(changes => changes.forEach(({target}) => {
                if (target.className === 'now') marked[id].push(Number(target.dataset.word));
            })).observe(document.getElementById(id), {attributes: true, subtree: true});
        document.querySelector('audio').addEventListener('playing',
            event => { marked.from = event.target.currentTime; });
        """
    )
    lengths = [word["end"] - word["start"] for word in expected["words"]]
    index = max(range(len(lengths) - 5), key=lengths.__getitem__)
    target = expected["words"][index]
    page.click("#words button", index)
    begun = page.wait("return marked.from")
    assert target["start"] - 0.01 <= begun <= target["end"]
    page.wait("return document.querySelector('audio').paused")
    stopped = page.run("return document.querySelector('audio').currentTime")
    assert target["end"] <= stopped <= target["end"] + 1
    marked = page.run("return marked")
    assert marked["words"][0] == marked["labels"][0] == index

    for name in ("txt", "srt", "vtt", "json"):
        page.click(f"[data-format={name}]")
        path = page.browser.downloads / f"talk.{name}"
        until(lambda path=path: path.exists() and path.stat().st_size)
        content = path.read_text(encoding="utf-8")
        path.unlink()
        if name == "json":
            written = json.loads(content)
            assert written["text"] == expected["text"]
            assert written["segments"] == expected["segments"]
            assert written["words"] == expected["words"]
        elif name == "txt":
            assert content.split() == expected["text"].split()
        else:  # the page writes what the server does, to the letter
            assert content == transcribe(page, talk, name)
            parsed = list(srt.parse(content)) if name == "srt" else webvtt.from_string(content)
            assert len(list(parsed)) == len(expected["segments"])
    assert page.browser.get_log("browser") == []


def test_a_dropped_file_is_transcribed(page, wav):
    page = page()
    page.run(
        """
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(arguments[0])], 'dropped.wav', { type: 'audio/wav' }));
        for (const kind of ['dragenter', 'dragover', 'drop'])
            document.querySelector('#drop').dispatchEvent(
                new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
        """,
        list(wav(2.0)),
    )
    page.wait_for("done")
    assert page.words
    assert page.find("#name")[0].text == "dropped.wav"


def test_words_come_before_the_file_is_done(page, tmp_path, wav, monkeypatch, recognizer):
    original = type(recognizer).recognize_audio

    def slowly(self, waveforms):
        time.sleep(0.15)
        return original(self, waveforms)

    monkeypatch.setattr(type(recognizer), "recognize_audio", slowly)
    path = tmp_path / "long.wav"
    path.write_bytes(wav(30.0))
    page = page(batch_seconds=2.0)
    page.choose(path)
    page.wait("return document.querySelectorAll('#words button').length > 2")
    assert page.run("return document.body.dataset.state") == "transcribing"
    assert re.fullmatch(r"Transcribed 0:\d\d of 0:30", page.status)
    page.click("#cancel")
    page.wait_for("idle")


def test_speech_is_transcribed_while_it_is_spoken(page):
    page = page()
    page.click("#speak")
    page.wait_for("listening")
    page.wait("return document.querySelectorAll('#words button, #partial').length")
    time.sleep(1)
    page.click("#speak")
    page.wait_for("done")
    duration = page.wait("return document.querySelector('audio').duration")
    assert f"in {duration:.1f} s of speech" in page.status
    if page.words:
        page.click("#words button")
        page.wait("return document.querySelector('audio').currentTime > 0")
    assert page.browser.get_log("browser") == []


def test_the_keyboard_reaches_every_word(page, talk):
    page = page()
    page.choose(talk)
    page.wait_for("done")
    assert len(page.find('#words button[tabindex="0"]')) == 1
    page.run("document.querySelector('#words button').focus()")
    for key, index in ((RIGHT, 1), (RIGHT, 2), (LEFT, 1), (END, -1)):
        page.browser.switch_to.active_element.send_keys(key)
        assert page.browser.switch_to.active_element == page.find("#words button")[index]
    page.browser.switch_to.active_element.send_keys(ENTER)
    page.wait("return !document.querySelector('audio').paused")
    unnamed = page.run(
        """
        return [...document.querySelectorAll('button, input, audio, [tabindex]')]
            .filter(e => e.checkVisibility())
            .filter(e => !(e.textContent.trim() || e.ariaLabel || e.labels?.length || e.controls))
            .map(e => e.outerHTML)
        """
    )
    assert unnamed == []


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (b"rubbish", {}, "talk.wav: not audio"),
        (None, {"max_bytes": 1000}, "this server takes up to 0.001 MB"),
        (None, {"max_seconds": 1.0}, "longer than 1 s"),
        (None, {"max_requests": 0}, "0 transcriptions are in progress"),
    ],
)
def test_what_goes_wrong_is_said(page, talk, content, options, said):
    if content:
        talk.write_bytes(content)
    page = page(**options)
    page.choose(talk)
    page.wait_for("error")
    assert said in page.status


def test_a_token_is_asked_for(page, talk):
    page = page(tokens=["s3cret"])
    page.choose(talk)
    page.wait_for("error")
    assert "token" in page.status
    page.find("#token")[0].send_keys("s3cret")
    page.choose(talk)
    page.wait_for("done")
    assert page.words
    page.click("#speak")
    page.wait_for("listening")
    page.click("#speak")
    page.wait_for("done")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_runs_over_the_edge_and_text_can_be_read(page, talk, width, dark):
    page = page(width, 844, dark)
    page.choose(talk)
    page.wait_for("done")
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")
    outside = page.run(
        """
        return [...document.querySelectorAll('main *')]
            .filter(e => !e.closest('#timeline') && e.checkVisibility())
            .map(e => [e.getBoundingClientRect(), e.outerHTML.slice(0, 100)])
            .filter(([r]) => r.left < 0 || r.right > innerWidth + 1)
        """
    )
    assert outside == []
    small = page.run(
        """
        return [...document.querySelectorAll('.button')].map(e => e.getBoundingClientRect())
            .filter(r => r.width && (r.height < 40 || r.width < 40)).length
        """
    )
    assert small == 0
    # WCAG 2.1, 1.4.3: text has a contrast of 4.5 to its background.
    contrasts = page.run(
        """
        const luminance = color => {
            const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
                .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
            return .2126 * r + .7152 * g + .0722 * b;
        };
        const background = e => { for (; e; e = e.parentElement) {
            const color = getComputedStyle(e).backgroundColor;
            if (!/, 0\\)$|transparent/.test(color)) return color; } return 'rgb(255, 255, 255)'; };
        const texts = ['body', '.note', '#status', '#words time', '#words button', '.button.main',
            '#labels button'];
        return texts.map(selector => {
            const e = document.querySelector(selector);
            const [a, b] = [luminance(getComputedStyle(e).color), luminance(background(e))];
            return (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
        });
        """
    )
    assert min(contrasts) >= 4.5


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]


def test_the_page_is_one_file_that_asks_nobody_else(start):
    server = start()
    answer = httpx.get(server.url)
    assert answer.headers["content-type"].startswith("text/html")
    links = Links()
    links.feed(answer.text)
    assert links.found == ["data:,"]
    assert not re.search(r"https?://(?!127)", answer.text)
    assert "@" not in re.sub(r"@(media|keyframes)\b", "", answer.text)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_what_is_recognised_cannot_become_markup(page, talk, recognizer, monkeypatch):
    hostile = "<img/src=x/onerror=document.title='broken'>"
    pieces = [hostile if piece == "one" else piece for piece in recognizer.tokenizer.pieces]
    monkeypatch.setattr(type(recognizer.tokenizer), "pieces", property(lambda _: pieces), raising=False)
    hostile_name = talk.with_name("<b>talk<.wav")
    talk.rename(hostile_name)
    page = page()
    page.choose(hostile_name)
    page.wait_for("done")
    assert page.find("#name")[0].text == "<b>talk<.wav"
    assert page.find("main img") == page.find("main b") == []
    assert "broken" not in page.browser.title

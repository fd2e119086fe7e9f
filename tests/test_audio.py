import os
import shutil
import subprocess
import tarfile
import time

import numpy as np
import pytest
import soundfile as sf

from asr import audio
from asr.errors import AudioError

RATE = 16000
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def tone(seconds=1.0, rate=RATE, frequency=440.0):
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("a.wav", {}, 1e-4),
        ("a24.wav", {"subtype": "PCM_24"}, 1e-6),
        ("u8.wav", {"subtype": "PCM_U8"}, 1e-2),
        ("float.wav", {"subtype": "FLOAT"}, 1e-7),
        ("double.wav", {"subtype": "DOUBLE"}, 1e-7),
        ("ulaw.wav", {"subtype": "ULAW"}, 2e-2),
        ("a.flac", {}, 1e-4),
        ("a.ogg", {}, 0.05),
        ("a.opus", {"format": "OGG", "subtype": "OPUS"}, 0.05),
        ("a.mp3", {}, 0.05),
        ("a.sph", {"format": "NIST", "subtype": "PCM_16"}, 1e-4),
        ("a.aiff", {}, 1e-4),
        ("a.au", {}, 1e-4),
        ("a.w64", {}, 1e-4),
    ],
)
def test_reads_every_format_to_the_sample(tmp_path, name, options, tolerance):
    path = tmp_path / name
    # Opus overshoots at the edges: leave it room.
    samples = tone() / 2
    sf.write(path, samples, RATE, **options)
    loaded = audio.load(path, sample_rate=RATE)
    assert loaded.samples.dtype == np.float32
    assert loaded.samples.shape == (RATE,)
    assert np.abs(loaded.samples - samples)[1000:-1000].max() < tolerance
    assert loaded.notes == ()
    assert audio.info(path) == audio.AudioInfo(RATE, 1, RATE, 1.0)


@needs_ffmpeg
def test_reads_m4a_through_ffmpeg(tmp_path):
    path = transcode(tmp_path, "a.m4a", ["-c:a", "aac"])
    samples = audio.load(path, sample_rate=RATE).samples
    # The encoder fills its last frame of 1024 samples.
    assert RATE <= len(samples) <= RATE + 1024
    assert audio.info(path).num_samples == len(samples)
    np.testing.assert_array_equal(
        audio.load(path, sample_rate=RATE, offset=0.25, duration=0.5).samples, samples[4000:12000]
    )


@needs_ffmpeg
@pytest.mark.parametrize(
    "options", [["-write_xing", "0", "-q:a", "5"], []], ids=["no length header", "joined"]
)
def test_mp3_with_a_wrong_length_is_read_to_its_end(tmp_path, options):
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * RATE)
    path = transcode(tmp_path, "a.mp3", options, np.concatenate([noise, np.zeros(4 * RATE)]))
    expected = 6.0
    if not options:
        path.write_bytes(2 * path.read_bytes())
        expected = 12.0
    assert sf.info(path).duration < 0.7 * expected, "libsndfile alone would now do"
    assert audio.info(path).duration == pytest.approx(expected, abs=0.3)
    assert audio.load(path, sample_rate=RATE).duration == pytest.approx(expected, abs=0.3)


def test_without_ffmpeg_the_remedy_is_said(tmp_path, monkeypatch):
    path = tmp_path / "a.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(2000))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        AudioError, match=r"a\.m4a: .*needs ffmpeg, which is not installed; install ffmpeg or"
    ):
        audio.load(path, sample_rate=RATE)


def test_channels_are_averaged_with_a_note(tmp_path):
    path = tmp_path / "a.wav"
    sf.write(path, np.stack([tone(), np.zeros(RATE)], axis=1), RATE, subtype="FLOAT")
    loaded = audio.load(path, sample_rate=RATE)
    np.testing.assert_allclose(loaded.samples, tone() / 2, atol=1e-7)
    assert loaded.notes == ("mixed down 2 channels",)
    assert audio.info(path).channels == 2


@pytest.mark.parametrize(
    ("rate", "note"),
    [
        (8000, "resampled 8000 -> 16000 Hz; the band above 4 kHz is empty"),
        (11025, "resampled 11025 -> 16000 Hz; the band above 5.5125 kHz is empty"),
        (44100, "resampled 44100 -> 16000 Hz"),
        (48000, "resampled 48000 -> 16000 Hz"),
    ],
)
def test_resamples_with_a_note(tmp_path, rate, note):
    path = tmp_path / "a.wav"
    sf.write(path, tone(rate=rate), rate, subtype="FLOAT")
    loaded = audio.load(path, sample_rate=RATE)
    assert loaded.notes == (note,)
    assert loaded.samples.shape == (RATE,)
    np.testing.assert_allclose(loaded.samples[500:-500], tone()[500:-500], atol=1e-3)


def test_resampled_length_is_counted_in_integers(tmp_path):
    for n in (401, 1001, 4410, 99991):
        path = tmp_path / f"{n}.wav"
        sf.write(path, np.full(n, 0.1), 11025)
        assert len(audio.load(path, sample_rate=44100).samples) == 4 * n


def test_parts_are_cut_to_the_sample(tmp_path):
    path = tmp_path / "a.wav"
    ramp = np.arange(RATE, dtype=np.int16)
    sf.write(path, ramp, RATE)
    for offset, duration in [(0, None), (0.1, None), (0.1, 0.3), (0.123456, 0.029), (0.7, 0.3), (0.29, 0.57)]:
        start = round(offset * RATE)
        stop = RATE if duration is None else round((offset + duration) * RATE)
        part = audio.load(path, sample_rate=RATE, offset=offset, duration=duration)
        np.testing.assert_array_equal(part.samples * 32768, ramp[start:stop])
        assert part.notes == ()


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.mp3"])
def test_parts_of_compressed_files_equal_the_whole(tmp_path, name):
    path = tmp_path / name
    sf.write(path, tone(3), RATE)
    whole = audio.load(path, sample_rate=RATE).samples
    part = audio.load(path, sample_rate=RATE, offset=1.2, duration=0.7).samples
    np.testing.assert_allclose(part, whole[19200:30400], atol=1e-6)


def test_a_part_that_runs_over_the_end_is_noted(tmp_path):
    path = tmp_path / "a.wav"
    sf.write(path, tone(), RATE)
    loaded = audio.load(path, sample_rate=RATE, offset=0.5, duration=1.0)
    assert len(loaded.samples) == RATE // 2
    assert loaded.notes == ("ends 0.50 s before the end that was asked for",)


def test_silence_is_noted_and_is_no_error(tmp_path):
    path = tmp_path / "a.wav"
    sf.write(path, np.zeros(RATE), RATE)
    assert audio.load(path, sample_rate=RATE).notes == ("silent: all samples are zero",)


def test_samples_beyond_full_scale_are_clipped_with_a_note(tmp_path):
    path = tmp_path / "a.wav"
    sf.write(path, 3 * tone(), RATE, subtype="FLOAT")
    loaded = audio.load(path, sample_rate=RATE)
    assert np.abs(loaded.samples).max() == 1.0
    assert loaded.notes == ("clipped to full scale: samples reach 1.5",)


def write(path, samples=None, rate=RATE, cut=0, **options):
    """Write audio and take the last `cut` bytes away."""
    sf.write(path, tone() if samples is None else samples, rate, **options)
    os.truncate(path, path.stat().st_size - cut)


def with_nan(value, position):
    samples = tone()
    samples[position:] = value
    return samples


BAD = {
    "missing.wav": (lambda p: None, "no such file; check the path"),
    "folder.wav": (lambda p: p.mkdir(), "is a folder; name an audio file in it"),
    "empty.wav": (lambda p: p.touch(), r"empty file \(0 bytes\); record"),
    "empty.mp3": (lambda p: p.touch(), r"empty file \(0 bytes\); record"),
    "no_samples.wav": (lambda p: write(p, np.zeros(0)), "no samples: the file is a header only"),
    "text.wav": (lambda p: p.write_text("hello\n" * 100), "not audio.*; convert it to WAV or FLAC"),
    "random.flac": (lambda p: p.write_bytes(np.random.default_rng(0).bytes(4000)), "not audio"),
    "zeros.wav": (lambda p: p.write_bytes(bytes(4000)), "not audio"),
    "raw.raw": (lambda p: p.write_bytes(bytes(4000)), "raw samples without a header; convert it"),
    "cut.wav": (
        lambda p: write(p, cut=9000),
        "truncated or damaged: it has 23000 of the 32000 bytes announced",
    ),
    "cut_header.wav": (lambda p: write(p, cut=32010), "truncated or damaged: .*No 'data' chunk"),
    "cut24.wav": (lambda p: write(p, cut=3, subtype="PCM_24"), "it has 47997 of the 48000 bytes"),
    "cut.flac": (lambda p: write(p, cut=2000), "truncated or damaged"),
    "cut.ogg": (lambda p: write(p, cut=10), "truncated or damaged: it stops inside a page"),
    "cut.opus": (lambda p: write(p, cut=10, format="OGG", subtype="OPUS"), "truncated or damaged"),
    "cut.mp3": (lambda p: write(p, cut=1000), r"truncated or damaged: it has \d+ of the 16000 samples"),
    "cut.sph": (lambda p: write(p, cut=2, format="NIST", subtype="PCM_16"), "has 15999 of the 16000 samples"),
    "cut.aiff": (lambda p: write(p, cut=2), "it has 15999 of the 16000 samples"),
    "cut.au": (lambda p: write(p, cut=2), "it has 31998 of the 32000 bytes"),
    "cut.w64": (lambda p: write(p, cut=2000), "truncated or damaged"),
    "one.wav": (lambda p: write(p, tone()[:1]), r"only one sample long .*at least 25 ms"),
    "short.wav": (lambda p: write(p, tone()[:399]), r"only 399 samples long \(24.9 ms\)"),
    "nan.wav": (
        lambda p: write(p, with_nan(np.nan, 8000), subtype="FLOAT"),
        r"sample 8000 \(at 0.500 s\) is nan, no finite number; export",
    ),
    "inf.wav": (lambda p: write(p, with_nan(-np.inf, 15999), subtype="DOUBLE"), r"sample 15999 .* is -inf"),
    "integers.wav": (
        lambda p: write(p, 32768 * tone(), subtype="FLOAT"),
        "samples reach 16384 where full scale is 1",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_audio_is_named_in_one_line(tmp_path, name):
    make, problem = BAD[name]
    path = tmp_path / name
    make(path)
    with pytest.raises(AudioError, match=problem) as caught:
        audio.load(path, sample_rate=RATE)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "; " in message, "no remedy"
    assert "\n" not in message


@pytest.mark.parametrize(
    "name", ["missing.wav", "folder.wav", "empty.wav", "no_samples.wav", "text.wav", "cut.wav"]
)
def test_info_finds_what_a_header_shows(tmp_path, name):
    make, problem = BAD[name]
    make(tmp_path / name)
    with pytest.raises(AudioError, match=problem):
        audio.info(tmp_path / name)


def test_a_file_without_read_permission_is_named(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    sf.write(path, tone(), RATE)

    # Root may read everything, so the refusal is the system call's, not the file's.
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("asr.audio.frames.io.FileIO", refuse)
    with pytest.raises(AudioError, match=r"a\.wav: no permission to read it"):
        audio.load(path, sample_rate=RATE)


@pytest.mark.parametrize(
    ("offset", "duration", "problem"),
    [
        (1.0, None, "offset 1 s is beyond its end at 1.000 s"),
        (7.5, 0.5, "offset 7.5 s is beyond its end"),
        (-0.1, None, "offset -0.1 s"),
        (float("nan"), None, "offset nan s"),
        (0.0, 0.0, "duration 0.0 s"),
        (0.0, 0.01, "only 160 samples long"),
        (0.99, 5.0, "only 160 samples long"),
    ],
)
def test_a_part_that_is_not_there_is_an_error(tmp_path, offset, duration, problem):
    path = tmp_path / "a.wav"
    sf.write(path, tone(), RATE)
    with pytest.raises(AudioError, match=problem):
        audio.load(path, sample_rate=RATE, offset=offset, duration=duration)


def test_the_position_of_a_nan_counts_from_the_start_of_the_file(tmp_path):
    path = tmp_path / "a.wav"
    sf.write(path, with_nan(np.nan, 8000), RATE, subtype="FLOAT")
    assert len(audio.load(path, sample_rate=RATE, duration=0.5).samples) == 8000
    with pytest.raises(AudioError, match="sample 8000 "):
        audio.load(path, sample_rate=RATE, offset=0.4)


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0xFFFFFFFF], ids=hex)
@pytest.mark.parametrize("silence", [0, 100])
def test_wav_from_a_pipe_is_read_whole(tmp_path, size, silence):
    # ffmpeg leaves 0xFFFFFFFF, sox 0x7FFFF000, others 0 where the size could not be filled in.
    path = tmp_path / "a.wav"
    samples = np.concatenate([np.zeros(silence), tone()])
    sf.write(path, samples, RATE)
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = size.to_bytes(4, "little")
    path.write_bytes(content)
    assert audio.info(path).num_samples == len(samples)
    np.testing.assert_allclose(audio.load(path, sample_rate=RATE).samples, samples, atol=1e-4)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "A.WAV"])
def test_save_and_load_agree_to_16_bits(tmp_path, name):
    path = tmp_path / name
    audio.save(path, tone(), RATE)
    assert sf.info(path).subtype == "PCM_16"
    np.testing.assert_allclose(audio.load(path, sample_rate=RATE).samples, tone(), atol=1 / 32768)


def test_save_refuses_what_it_cannot_write(tmp_path):
    with pytest.raises(AudioError, match=r"a\.mp3: cannot write '\.mp3' files; use"):
        audio.save(tmp_path / "a.mp3", tone(), RATE)
    with pytest.raises(AudioError, match=r"a\.wav: cannot be written"):
        audio.save(tmp_path / "none" / "a.wav", tone(), RATE)


def test_corpus_recordings_have_their_published_rate(archive, tmp_path):
    # The dataset's own README: recordings at 8 kHz, mono.
    with tarfile.open(archive("free-spoken-digit-dataset-1.0.10.tar.gz")) as tar:
        for member in tar:
            if member.name.endswith("7_jackson_0.wav"):
                path = tmp_path / "7.wav"
                path.write_bytes(tar.extractfile(member).read())
                break
    assert audio.info(path).sample_rate == 8000
    assert audio.info(path).channels == 1
    assert audio.load(path, sample_rate=8000).notes == ()


def test_a_changed_mp3_is_counted_again(tmp_path):
    path = tmp_path / "a.mp3"
    for seconds in (1, 2):
        sf.write(path, tone(seconds), RATE)
        time.sleep(0.01)
        assert audio.info(path).duration == seconds


def transcode(folder, name, options, samples=None):
    source = folder / "source.wav"
    sf.write(source, tone() if samples is None else samples, RATE)
    subprocess.run(
        ["ffmpeg", "-v", "error", "-y", "-i", source, *options, folder / name],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return folder / name


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize("name", ["list.m3u8", "list.mp3", "list.wav"])
@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nsecret.wav\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile secret.wav\n",
    ],
)
def test_playlists_lead_to_no_other_file(tmp_path, name, playlist):
    audio.save(tmp_path / "secret.wav", np.full(16000, 0.1, np.float32), 8000)
    (tmp_path / name).write_text(playlist)
    with pytest.raises(AudioError, match="playlist") as caught:
        audio.load(tmp_path / name, sample_rate=8000)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("stored", ["file", "part"])
def test_plain_wav_is_read_to_the_bit_as_libsndfile_reads_it(tmp_path, channels, stored):
    values = np.random.default_rng(0).integers(-32768, 32768, (4000, channels), np.int16)
    sf.write(tmp_path / "a.wav", values, 8000, subtype="PCM_16")
    content = (tmp_path / "a.wav").read_bytes()
    # Chunks that a program may put before and after the samples, of odd length and padded.
    extra = b"note" + (5).to_bytes(4, "little") + b"hello\0"
    body = content[8:36] + extra + content[36:] + extra
    (tmp_path / "b.wav").write_bytes(b"RIFF" + len(body).to_bytes(4, "little") + body)
    (tmp_path / "c.tar").write_bytes(b"x" * 77 + (tmp_path / "b.wav").read_bytes() + b"x" * 9)
    path = {"file": tmp_path / "b.wav", "part": f"{tmp_path}/c.tar:77:{len(body) + 8}"}[stored]
    expected = sf.read(tmp_path / "b.wav", dtype="float32", always_2d=True)[0].mean(axis=1)
    assert audio.info(path).num_samples == 4000
    np.testing.assert_array_equal(audio.load(path, sample_rate=8000).samples, expected)
    found = audio.load(path, sample_rate=8000, offset=0.1, duration=0.2).samples
    np.testing.assert_array_equal(found, expected[800:2400])


@pytest.mark.parametrize("suffix", ["flac", "mp3", "ogg", "m4a"])
def test_a_part_of_a_file_is_read_as_the_file_itself(tmp_path, suffix):
    samples = 0.3 * np.sin(np.arange(16000) * 0.2)
    path = tmp_path / f"a.{suffix}"
    if suffix == "m4a":
        if shutil.which("ffmpeg") is None:
            pytest.skip("no ffmpeg")
        sf.write(tmp_path / "a.wav", samples, 16000)
        subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", path], check=True)
    else:
        sf.write(path, samples, 16000)
    content = path.read_bytes()
    (tmp_path / "b").write_bytes(b"x" * 1001 + content + b"x" * 9)
    part = f"{tmp_path}/b:1001:{len(content)}"
    assert audio.info(part) == audio.info(path)
    np.testing.assert_array_equal(
        audio.load(part, sample_rate=16000, offset=0.25).samples,
        audio.load(path, sample_rate=16000, offset=0.25).samples,
    )


def test_what_is_encoded_in_16_bits_comes_back_as_it_was(tmp_path):
    values = np.random.default_rng(0).integers(-32768, 32768, (4000, 2), np.int16)
    for kind in ("wav", "flac"):
        (tmp_path / kind).write_bytes(audio.encode(values / 32768, 8000, kind))
        samples, rate = audio.load_channels(tmp_path / kind, 0.0, None)
        assert rate == 8000
        np.testing.assert_array_equal(samples * 32768, values)

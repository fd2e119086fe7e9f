import struct
import tarfile

import numpy as np
import pytest

from asr.data.feature_files import read_features, read_scp
from asr.errors import DataError

FRAMES = np.arange(26, dtype=np.float32).reshape(2, 13) - 5


def matrix_header(token, rows, columns):
    return b"\0B" + token + struct.pack("<bibi", 4, rows, 4, columns)


@pytest.mark.parametrize("order", [">", "<"])
def test_mfc_of_either_byte_order(tmp_path, order):
    path = tmp_path / "a.mfc"
    path.write_bytes(struct.pack(f"{order}i26f", 26, *FRAMES.ravel()))
    frames = read_features(str(path))
    assert frames.dtype == np.float32
    np.testing.assert_array_equal(frames, FRAMES)
    assert read_features(str(path), num_cepstra=2).shape == (13, 2)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i2"])
def test_npy(tmp_path, dtype):
    np.save(tmp_path / "a.npy", FRAMES.astype(dtype))
    frames = read_features(str(tmp_path / "a.npy"))
    assert frames.dtype == np.float32
    np.testing.assert_array_equal(frames, FRAMES)


# Kaldi's CompressedMatrix: minimum -1 and range 65535 make each stored integer its value plus 1.
COMPRESSED = struct.pack("<ffii", -1.0, 65535.0, 2, 3)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (matrix_header(b"FM ", 2, 13) + FRAMES.tobytes(), FRAMES),
        (matrix_header(b"DM ", 2, 13) + FRAMES.astype("<f8").tobytes(), FRAMES),
        (b"\0BCM2 " + COMPRESSED + struct.pack("<6H", *range(6)), [[-1, 0, 1], [2, 3, 4]]),
        (b"\0BCM3 " + COMPRESSED + bytes([0, 1, 2, 3, 4, 255]), [[-1, 256, 513], [770, 1027, 65534]]),
        (
            b"\0BCM "
            + COMPRESSED
            + struct.pack("<12H", 0, 64, 192, 255, 10, 20, 30, 40, 7, 7, 7, 7)
            + bytes([1, 200, 0, 128, 255, 9]),
            [[0, 9, 6], [199, 24, 6]],
        ),
    ],
    ids=["float", "double", "CM2", "CM3", "CM"],
)
def test_kaldi_matrices(tmp_path, data, expected):
    path = tmp_path / "a.ark"
    path.write_bytes(b"first " + data)
    frames = read_features(f"{path}:6")
    assert frames.dtype == np.float32
    np.testing.assert_allclose(frames, expected, rtol=1e-5, atol=1e-4)
    path.write_bytes(b"first " + data[:-1])
    with pytest.raises(DataError, match="beyond the end"):
        read_features(f"{path}:6")


def test_an4_kaldi_folder(archive, tmp_path):
    """Frames of 25 ms every 10 ms, Kaldi's default: two fewer than the duration has shifts."""
    with tarfile.open(archive("an4_wav_sample.tar.gz")) as tar:
        tar.extractall(tmp_path, filter="data")
    folder = tmp_path / "an4_wav_sample" / "kaldi_an4"
    index = read_scp(folder / "feats.scp")
    durations = dict(line.split() for line in (folder / "utt2dur").read_text().splitlines())
    assert index.keys() == durations.keys()
    for utterance, path in index.items():
        assert read_features(path).shape == (round(100 * float(durations[utterance])) - 2, 13)


def test_an4_mfc(archive, tmp_path):
    with tarfile.open(archive("an4_feat.tar.gz")) as tar:
        member = next(m for m in tar if m.name.endswith("an251-fash-b.mfc"))
        tar.extract(member, tmp_path, filter="data")
    assert read_features(str(tmp_path / member.name)).shape == (99, 13)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.mfc", b"", "0 bytes do not agree"),
        ("a.mfc", struct.pack(">i13f", 26, *range(13)), "56 bytes do not agree"),
        ("a.mfc", struct.pack(">i12f", 12, *range(12)), "12 values are not a multiple of 13"),
        ("a.mfc", struct.pack(">i", 0), "holds no frames"),
        ("a.mfc", struct.pack(">i26f", 26, *range(20), *[np.nan] * 6), r"frame 1 holds NaN .*1 of 2"),
        ("a.mfc", struct.pack(">i13f", 13, *[np.inf] * 13), "frame 0 holds NaN or infinity"),
        ("a.npy", b"\x93NUMPY", "truncated or not a plain .npy"),
        ("a.npy", b"", "truncated or not a plain .npy"),
        ("a.ark", b"utt \0BFM ", "no binary Kaldi matrix starts"),
        ("a.ark", matrix_header(b"FM ", -1, 13), "beyond the end"),
        ("a.ark", matrix_header(b"FM ", 0, 0), "holds no frames"),
        ("a.htk", b"", ".htk is no kind of feature file"),
        ("a", b"", "no suffix is no kind of feature file"),
    ],
)
def test_bad_files_are_named(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message) as error:
        read_features(str(tmp_path / name))
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "array", [np.zeros(5), np.array([[{}]], dtype=object), np.array([["a"]]), np.zeros((1, 2, 3))], ids=str
)
def test_npy_of_another_kind(tmp_path, array):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=r"a\.npy"):
        read_features(str(tmp_path / "a.npy"))


@pytest.mark.parametrize("name", ["a.mfc", "a.npy", "a.ark:5"])
def test_missing_file(tmp_path, name):
    with pytest.raises(DataError, match="No such file"):
        read_features(str(tmp_path / name))


def test_scp_finds_archives_from_three_folders(tmp_path, monkeypatch):
    for folder in ("cwd", "data", "data/train"):
        (tmp_path / folder).mkdir()
    for place in ("cwd/a.ark", "data/train/b.ark", "data/c.ark"):
        (tmp_path / place).write_bytes(b"")
    scp = tmp_path / "data" / "train" / "feats.scp"
    scp.write_text("u1 a.ark:1\nu2 b.ark:22\n\nu3 c.ark\n")
    monkeypatch.chdir(tmp_path / "cwd")
    assert read_scp(scp) == {
        "u1": f"{tmp_path}/cwd/a.ark:1",
        "u2": f"{tmp_path}/data/train/b.ark:22",
        "u3": f"{tmp_path}/data/c.ark:0",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no utterances"),
        ("u1\n", "feats.scp:1: 'u1' names no archive"),
        ("u1 copy-feats x.ark - |\n", "feats.scp:1: .* is a command or a range"),
        ("u1 a.ark:3[0:4]\n", "feats.scp:1: .* is a command or a range"),
        ("u1 a.ark:3\nu1 a.ark:9\n", "feats.scp:2: utterance u1 appears twice"),
        ("u1 gone.ark:3\n", "feats.scp:1: gone.ark not found"),
    ],
)
def test_bad_scp_lines_are_named(tmp_path, text, message):
    (tmp_path / "a.ark").write_bytes(b"")
    (tmp_path / "feats.scp").write_text(text)
    with pytest.raises(DataError, match=message):
        read_scp(tmp_path / "feats.scp")

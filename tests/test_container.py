"""The one-file format: what goes in comes out; foreign, damaged and other content is refused in one line."""

import json

import pytest
import torch
from safetensors.torch import save

from asr import container
from asr.errors import ModelError

KIND = "asr-language-model"
TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 255], dtype=torch.uint8)}
CONTENT = container.pack(KIND, {"info": {"seed": 3}}, TENSORS)


def with_description(described):
    return save(TENSORS, metadata={KIND: described})


def test_what_is_packed_is_unpacked():
    header, tensors = container.unpack(CONTENT, "lm", KIND)
    assert header["info"] == {"seed": 3}
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_content_and_file_are_the_same(tmp_path):
    path = tmp_path / "lm.asr"
    container.write(path, KIND, {"info": {"seed": 3}}, TENSORS)
    assert path.read_bytes() == CONTENT
    assert container.read_header(path, KIND) == container.unpack(CONTENT, "lm", KIND)[0]
    assert torch.equal(container.read_tensors(path)["a"], TENSORS["a"])


def test_views_and_transposes_are_stored_as_they_look():
    content = container.pack(KIND, {}, {"t": TENSORS["a"].T})
    assert torch.equal(container.unpack(content, "lm", KIND)[1]["t"], TENSORS["a"].T)


BAD = {
    "empty": (b"", "not a model file"),
    "text": (b"no model\n" * 20, "not a model file"),
    "cut in the length": (CONTENT[:5], "cut short"),
    "cut in the description": (CONTENT[:40], "cut short"),
    "cut in the tensors": (CONTENT[:-1], "cut short"),
    "more than there should be": (CONTENT + b"x", "cut short"),
    "description is no JSON": (CONTENT[:8] + b"x" + CONTENT[9:], "not a model file"),
    "another program's": (save(TENSORS), "another program"),
    "another program's, with metadata": (save(TENSORS, metadata={"format": "pt"}), "another program"),
    "a recogniser": (container.pack("asr-model", {}, TENSORS), "holds a speech recogniser, not a language"),
    "description inside is no JSON": (with_description("{"), "description inside is damaged"),
    "description inside is a list": (with_description("[]"), "description inside is damaged"),
    "no version": (with_description("{}"), "description inside is damaged"),
    "a later version": (with_description(json.dumps({"version": 99})), "model format 99"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_content_is_refused_in_one_line_that_names_it(name, tmp_path):
    content, message = BAD[name]
    with pytest.raises(ModelError, match=message) as in_memory:
        container.unpack(content, "the language model", KIND)
    path = tmp_path / "lm.asr"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as in_file:
        container.read_header(path, KIND)
    for error, start in ((in_memory, "the language model: "), (in_file, f"{path}: ")):
        assert str(error.value).startswith(start)
        assert "\n" not in str(error.value)

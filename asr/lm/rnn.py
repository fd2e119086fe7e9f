"""Recurrent language models over the tokens of `asr.text`: characters, words or subwords.

Token id 0, the blank of an acoustic model, has no place in text; here it stands for the start of a sentence
where it is read and for its end where it is predicted. One id more than the tokenizer has, the last, stands
for all that the tokenizer cannot spell. So the ids of a language model and of an acoustic model with the
same tokenizer are the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from asr import container
from asr.build import TARGET, build
from asr.errors import AsrError, DataError, ModelError
from asr.lm.perplexity import Perplexity
from asr.models.encoder import RecurrentEncoder
from asr.models.layers import RecurrentLayer
from asr.text import BpeTokenizer, CharacterTokenizer, Normalizer, Tokenizer, WordTokenizer

KIND = "asr-language-model"
BOUNDARY = 0
"""The id of a sentence's start and end."""

_TOKENS_PER_BATCH = 8192
_TEXTS_PER_BLOCK = 10_000


class RnnLm(nn.Module):
    """Embedding, a stack of LSTM or GRU layers, and a linear layer.

    Parameters
    ----------
    tokenizer : Tokenizer
    normalizer : Normalizer
        What the training text went through.
    encoder : RecurrentEncoder
        Of one direction; its input size is that of the embedding.
    embedding_size : int

    Attributes
    ----------
    size : int
        Number of ids, V + 1: the tokenizer's and the one for what it cannot spell.
    """

    def __init__(
        self, tokenizer: Tokenizer, normalizer: Normalizer, encoder: RecurrentEncoder, embedding_size: int
    ) -> None:
        super().__init__()
        self.tokenizer, self.normalizer = tokenizer, normalizer
        self.size = tokenizer.vocabulary_size + 1
        self.embedding = nn.Embedding(self.size, embedding_size)
        self.encoder = encoder
        self.head = nn.Linear(encoder.output_size, self.size)
        self.config: dict[str, Any] = {}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build one with fresh weights from ``tokenizer, text, encoder, embedding_size``.

        Raises
        ------
        ConfigError
        """
        config = {key: config[key] for key in ("tokenizer", "text", "encoder", "embedding_size")}
        encoder = build(
            config["encoder"],
            RecurrentEncoder,
            input_size=config["embedding_size"],
            bidirectional=False,
        )
        made = cls(
            build(config["tokenizer"], Tokenizer),
            build(config["text"], Normalizer),
            encoder,
            config["embedding_size"],
        )
        made.config = config
        return made

    @property
    def unit(self) -> str:
        """What a token is: "character", "word" or "piece" (of a word)."""
        names = {CharacterTokenizer: "character", WordTokenizer: "word", BpeTokenizer: "piece"}
        return names[type(self.tokenizer)]

    @property
    def unknown_id(self) -> int:
        """The id of what the tokenizer cannot spell."""
        return self.size - 1

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.weight.device

    def encode(self, text: str) -> list[int]:
        """Return the ids of a normalised text; each unknown word or character is `unknown_id`."""
        unknown = self.tokenizer.unknown(text)
        if not unknown:
            return self.tokenizer.encode(text)
        in_words = isinstance(self.tokenizer, WordTokenizer)
        ids: list[int] = []
        for is_unknown, group in groupby(text.split() if in_words else text, unknown.__contains__):
            units = list(group)
            known = (" " if in_words else "").join(units)
            ids += [self.unknown_id] * len(units) if is_unknown else self.tokenizer.encode(known)
        return ids

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Predict after each token what comes next.

        Parameters
        ----------
        ids : Tensor, int64, (B, T)
            Each sequence begins with `BOUNDARY`; anything beyond its length.
        lengths : Tensor, int64, (B,)

        Returns
        -------
        Tensor, float32, (B, T, V + 1)
            Natural-log probabilities of the next token.
        """
        x = self.encoder.dropout(self.embedding(ids))
        x, _ = self.encoder(x, lengths)
        return self.head(x).float().log_softmax(dim=2)

    def start(self, n: int = 1) -> Tensor:
        """Return the state before the start of `n` sentences: float32 (n, S), a row each.

        The first step must read `BOUNDARY`. Rows can be picked and joined freely.
        """
        return torch.zeros(n, sum(self._state_sizes()), device=self.device)

    @torch.inference_mode()
    def step(self, state: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Read one token of each sentence.

        Parameters
        ----------
        state : Tensor, float32, (N, S)
        ids : Tensor, int64, (N,)

        Returns
        -------
        log_probs : Tensor, float32, (N, V + 1)
            Natural-log probabilities of the next token.
        state : Tensor, float32, (N, S)
        """
        x = self.embedding(ids.to(self.device))[None]
        after = []
        own_states = state.split(self._state_sizes(), dim=1)
        for layer, norm, own in zip(self._layers, self.encoder.norms, own_states, strict=True):
            # An LSTM has two vectors a layer, the others one.
            parts = tuple(part[None].contiguous() for part in own.split(layer.output_size, dim=1))
            x, parts = layer.rnn(x, parts if len(parts) > 1 else parts[0])
            after += [part[0] for part in (parts if isinstance(parts, tuple) else (parts,))]
            x = norm(x)
        return self.head(x[0]).log_softmax(dim=1), torch.cat(after, dim=1)

    def _state_sizes(self) -> list[int]:
        return [layer.output_size * (2 if isinstance(layer.rnn, nn.LSTM) else 1) for layer in self._layers]

    @property
    def _layers(self) -> list[RecurrentLayer]:
        return [cast(RecurrentLayer, layer) for layer in self.encoder.layers]

    def token_log_probs(self, sequences: Sequence[Sequence[int]]) -> list[Tensor]:
        """Return the natural-log probability of every token of sentences and of their ends.

        Parameters
        ----------
        sequences : sequence of sequences of int
            From `encode`.

        Returns
        -------
        list of Tensor, float32, (tokens + 1,)
        """
        order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
        found: list[Tensor] = [torch.empty(0)] * len(sequences)
        while order:
            longest = len(sequences[order[-1]]) + 1
            chosen = [order.pop() for _ in range(min(len(order), max(1, _TOKENS_PER_BATCH // longest)))]
            inputs, targets, lengths = make_batch([sequences[i] for i in chosen])
            log_probs = self._infer(inputs, lengths)
            picked = log_probs.gather(2, targets.to(self.device)[:, :, None])[:, :, 0].cpu()
            for i, row, length in zip(chosen, picked, lengths.tolist(), strict=True):
                found[i] = row[:length]
        return found

    @torch.inference_mode()
    def _infer(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        training = self.training
        self.eval()
        try:
            return self(inputs.to(self.device), lengths.to(self.device))
        finally:
            self.train(training)

    def score_texts(self, texts: Sequence[str]) -> list[float]:
        """Return the natural-log probability of each normalised sentence, its end included."""
        return [float(row.double().sum()) for row in self.token_log_probs([self.encode(t) for t in texts])]

    def perplexity(self, lines: Iterable[str]) -> Perplexity:
        """Return the perplexity of normalised text, one sentence a line; blank lines are no sentences.

        Raises
        ------
        DataError
            If there is no text.
        """
        num_sentences = num_tokens = num_text_words = num_oov = 0
        total = of_oov = 0.0
        texts = (line for line in lines if line.strip())
        while block := list(islice(texts, _TEXTS_PER_BLOCK)):
            sequences = [self.encode(" ".join(text.split())) for text in block]
            num_sentences += len(block)
            num_text_words += sum(len(text.split()) for text in block)
            for ids, row in zip(sequences, self.token_log_probs(sequences), strict=True):
                unknown = torch.tensor([*ids, BOUNDARY]) == self.unknown_id
                num_tokens += len(ids)
                num_oov += int(unknown.sum())
                total += float(row.double().sum())
                of_oov += float(row.double()[unknown].sum())
        if not num_sentences:
            raise DataError("there is no text to score: every line is blank")
        to_log10 = 1 / math.log(10)
        return Perplexity(
            self.unit, num_sentences, num_tokens, num_oov, total * to_log10, of_oov * to_log10, num_text_words
        )

    @torch.inference_mode()
    def sample(
        self, num_sentences: int, *, seed: int = 0, temperature: float = 1.0, max_tokens: int = 200
    ) -> list[str]:
        """Write sentences.

        Parameters
        ----------
        seed : int
            The same seed gives the same sentences.
        temperature : float
            Logits are divided by it: below 1 likely sentences become likelier; 0 takes the best token always.
        max_tokens : int
            Where a sentence is cut that has not ended by then.
        """
        generator = torch.Generator().manual_seed(seed)
        ids = torch.full((num_sentences,), BOUNDARY)
        state, written = self.start(num_sentences), []
        going = torch.ones(num_sentences, dtype=torch.bool)
        for _ in range(max_tokens):
            log_probs, state = self.step(state, ids)
            log_probs = log_probs.cpu()
            log_probs[:, self.unknown_id] = -math.inf  # there is no way to write it
            if temperature == 0:
                ids = log_probs.argmax(dim=1)
            else:
                probs = (log_probs.double() / temperature).softmax(dim=1)
                ids = torch.multinomial(probs, 1, generator=generator)[:, 0]
            going &= ids != BOUNDARY
            if not going.any():
                break
            ids = torch.where(going, ids, BOUNDARY)
            written.append(ids)
        columns = torch.stack(written, dim=1).tolist() if written else [[]] * num_sentences
        return [self.tokenizer.decode(row) for row in columns]


def normalizer_config(normalizer: Normalizer) -> dict[str, Any]:
    """Return the configuration from which `asr.build.build` makes a normaliser again."""
    return {TARGET: "asr.text.Normalizer", **asdict(normalizer)}


def make_batch(sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Return what is read and what is to be predicted, int64 (B, T), and the lengths, int64 (B,).

    Padding is `BOUNDARY`.
    """
    inputs = pad_sequence([torch.tensor([BOUNDARY, *ids]) for ids in sequences], batch_first=True)
    targets = pad_sequence([torch.tensor([*ids, BOUNDARY]) for ids in sequences], batch_first=True)
    return inputs, targets, torch.tensor([len(ids) + 1 for ids in sequences])


def save_language_model(path: Path | str, lm: RnnLm, info: Mapping[str, Any]) -> None:
    """Write a recurrent language model to one file, whole or not at all.

    Parameters
    ----------
    info : mapping
        JSON-able facts about the training.
    """
    container.write(path, KIND, {"config": lm.config, "info": dict(info)}, lm.state_dict())


def load_language_model(path: Path | str) -> RnnLm:
    """Load a recurrent language model onto the CPU, ready to use.

    Raises
    ------
    ModelError
        If the file is missing, damaged or holds something else.
    """
    return _make(container.read_header(path, KIND), container.read_tensors(path), str(path))


def unpack_language_model(content: bytes, name: str) -> RnnLm:
    """Load one from a file's content; `name` is for the message of an error.

    Raises
    ------
    ModelError
    """
    header, tensors = container.unpack(content, name, KIND)
    return _make(header, tensors, name)


def _make(header: Mapping[str, Any], tensors: Mapping[str, Tensor], name: str) -> RnnLm:
    try:
        lm = RnnLm.from_config(header["config"])
        lm.load_state_dict(tensors)
    except (AsrError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{name}: cannot be loaded: {' '.join(str(error).split())}") from error
    return lm.eval()

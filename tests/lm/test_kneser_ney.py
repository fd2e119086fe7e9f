"""Modified Kneser-Ney against the paper's equations, KenLM, and the rule that probabilities sum to one."""

import json
import math
import tarfile
from collections import Counter, defaultdict
from itertools import product

import numpy as np
import pytest

from asr.errors import ConfigError, DataError
from asr.lm import train_ngram
from asr.lm.arpa import read_arpa
from asr.lm.counts import LINES_PER_BLOCK, bits_for, count_ngrams, pack, unpack

SMALL = [
    "the cat sat on the mat",
    "the dog sat on the cat",
    "a cat and a dog sat",
    "the cat sat",
    "a mat",
    "the dog and the cat sat on a mat",
    "on the mat the dog sat",
]


class Reference:
    """Chen and Goodman (1998), equations 26 and 27, one probability at a time from dictionaries.

    The conventions are those of KenLM's lmplz: counts of what begins with <s> stay, unigrams are
    interpolated with 1 / V, and a pruned n-gram gives its whole count to the back-off.
    """

    def __init__(self, lines, order, prune=()):
        self.counts = defaultdict(Counter)  # history -> word -> count in the text
        before = defaultdict(set)
        self.words = {"</s>", "<unk>"}
        for line in lines:
            sentence = ["<s>", *line.split(), "</s>"]
            self.words.update(sentence[1:])
            for n in range(1, order + 1):
                for end in range(max(n, 2), len(sentence) + 1):
                    *history, word = sentence[end - n : end]
                    self.counts[tuple(history)][word] += 1
                    if end > n:
                        before[*history, word].add(sentence[end - n - 1])
        self.modified = defaultdict(dict)  # the counts that Kneser-Ney smooths
        for history, following in self.counts.items():
            for word, count in following.items():
                plain = len(history) == order - 1 or history[:1] == ("<s>",)
                self.modified[history][word] = count if plain else len(before[*history, word])
        thresholds = [*prune, *[prune[-1] if prune else 0] * (order - len(prune))]
        self.threshold = dict(enumerate(thresholds))
        self.discounts = {n: self.discount(n) for n in range(order)}

    def discount(self, n):
        of_order = [c for h, following in self.modified.items() if len(h) == n for c in following.values()]
        n1, n2, n3, n4 = (of_order.count(k) for k in (1, 2, 3, 4))
        if n1 and n2 and n3:
            y = n1 / (n1 + 2 * n2)
            found = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
            if all(0 <= d <= k for k, d in enumerate(found, start=1)):
                return [0, *found]
        return [0, 0.5, 1.0, 1.5]

    def prob(self, word, history):
        if history and history not in self.modified:
            return self.prob(word, history[1:])
        following = self.modified[history]
        total = sum(following.values())
        taken = {}
        for w, count in following.items():
            kept = self.counts[history][w] > self.threshold[len(history)]
            taken[w] = self.discounts[len(history)][min(count, 3)] if kept else count
        lower = self.prob(word, history[1:]) if history else 1 / len(self.words)
        return (following.get(word, 0) - taken.get(word, 0)) / total + sum(taken.values()) / total * lower


def log10_prob(model, history, word):
    bos = history[:1] == ("<s>",)
    return model.log10_probs(
        [*history[bos:], *([] if word == "</s>" else [word])], bos=bos, eos=word == "</s>"
    )[-1]


def test_a_case_worked_by_hand():
    # Bigrams: <s> a 3, a b 2, a c 1, b </s> 2, c </s> 1. One each is met 1, 2, 2, ... times: n1 = 2, n2 = 2,
    # n3 = 1, n4 = 0, so Y = 2/6, D1 = 1/3, D2 = 3/2, D3 = 3. Unigrams are preceded by 1 (a), 1 (b), 1 (c) and
    # 2 (</s>) different words; too few for discounts, so 1/2 and 1: 1/2 is left for a, 1 for </s>, of 5; the
    # 5/2 taken are spread over the five outcomes with <unk>.
    model = train_ngram(["a b", "a b", "a c"], 2)
    unigrams = {"a": 0.2, "b": 0.2, "c": 0.2, "</s>": 0.3, "<unk>": 0.1}
    for word, prob in unigrams.items():
        assert 10 ** log10_prob(model, (), word) == pytest.approx(prob, abs=1e-12)
    backoff = (3 / 2 + 1 / 3) / 3
    assert 10 ** log10_prob(model, ("a",), "b") == pytest.approx((2 - 3 / 2) / 3 + backoff * 0.2, abs=1e-12)
    assert 10 ** log10_prob(model, ("a",), "c") == pytest.approx((1 - 1 / 3) / 3 + backoff * 0.2, abs=1e-12)
    assert 10 ** log10_prob(model, ("a",), "</s>") == pytest.approx(backoff * 0.3, abs=1e-12)


@pytest.mark.parametrize(
    ("order", "prune"), [(1, ()), (2, ()), (3, ()), (4, ()), (3, (0, 1)), (4, (0, 0, 1)), (3, (0, 1, 2))]
)
def test_equals_the_papers_equations(order, prune):
    model = train_ngram(SMALL, order, prune=prune)
    reference = Reference(SMALL, order, prune)
    words = sorted(reference.words)
    histories = [(), ("<s>",), *product(words[2:], repeat=1), *product(words[2:], repeat=2)]
    histories += [("<s>", *history) for history in histories[2:]]
    for history in histories:
        history = history[-(order - 1) :] if order > 1 else ()
        if "</s>" in history:
            continue
        expected = [reference.prob(word, history) for word in words]
        found = [10 ** log10_prob(model, history, word) for word in words]
        assert found == pytest.approx(expected, abs=1e-9)
        assert sum(found) == pytest.approx(1, abs=1e-9)


def largest_sum_error(model):
    """Return how far the probabilities after any history of the model are from one.

    After a history, its own n-grams sum to S and the back-off weight must give the rest:
    S + backoff * (1 - what the lower order gives to the same words) = 1, if the lower order sums to one.
    """
    outcomes = np.arange(len(model.words)) != 0
    worst = abs(1 - (10 ** model.levels[0].log10_prob[outcomes]).sum())
    for n in range(2, model.order + 1):
        level, lower = model.levels[n - 1], model.levels[n - 2]
        prefix = level.keys // len(model.words)
        columns = model.columns(n)
        at = columns[1]
        for order, column in enumerate(columns[2:], start=2):
            at = model.levels[order - 1].find(at * len(model.words) + column)
        assert (at >= 0).all()
        size = len(lower.keys)
        own = np.bincount(prefix, 10**level.log10_prob, size)
        below = np.bincount(prefix, 10 ** lower.log10_prob[at], size)
        is_history = np.bincount(prefix, minlength=size) > 0
        total = own + 10**lower.backoff * (1 - below)
        worst = max(worst, np.abs(total[is_history] - 1).max(initial=0))
    return worst


def zipf_text(num_words, seed=0):
    """Return lines whose words depend on the one before and have Zipf's frequencies."""
    rng = np.random.default_rng(seed)
    drawn = rng.zipf(1.3, num_words) % 20_000
    mixed = np.where(rng.random(num_words) < 0.5, (np.roll(drawn, 1) * 7 + 13) % 20_000, drawn)
    return [" ".join(map(str, mixed[i : i + 20])) for i in range(0, num_words, 20)]


@pytest.mark.parametrize(
    "options", [{}, {"prune": (0, 0, 1)}, {"limit": 500}, {"limit": 500, "closed": True}]
)
def test_probabilities_sum_to_one_after_every_history(options):
    assert largest_sum_error(train_ngram(zipf_text(60_000), 4, **options)) < 1e-9


@pytest.mark.slow
def test_probabilities_sum_to_one_on_a_million_words():
    assert largest_sum_error(train_ngram(zipf_text(1_200_000), 4)) < 1e-9


def test_probabilities_sum_to_one_on_an4(archive):
    with tarfile.open(archive("an4_feat.tar.gz")) as tar:
        file = tar.extractfile("an4/etc/an4_train.transcription")
        transcripts = file.read().decode().lower().splitlines()
    lines = [line.rpartition("(")[0].replace("<s>", "").replace("</s>", "") for line in transcripts]
    assert len(lines) == 948
    for unit, order in (("word", 4), ("character", 8)):
        assert largest_sum_error(train_ngram(lines, order, unit=unit)) < 1e-9


def kenlm_perplexity(path, model, sentences):
    pytest.importorskip("flashlight.lib.text.decoder.kenlm")
    from flashlight.lib.text.decoder.kenlm import KenLM
    from flashlight.lib.text.dictionary import Dictionary

    dictionary = Dictionary(model.words)
    lm = KenLM(str(path), dictionary)
    total, count = 0.0, 0
    for sentence in sentences:
        state = lm.start(False)
        for word in sentence:
            index = dictionary.get_index(word if dictionary.contains(word) else "<unk>")
            state, score = lm.score(state, index)
            total += score
        total += lm.finish(state)[1]
        count += len(sentence) + 1
    return 10 ** (-total / count)


@pytest.mark.parametrize(
    ("unit", "order", "options"),
    [
        ("word", 3, {}),
        ("word", 4, {"prune": (0, 0, 1)}),
        ("word", 3, {"vocabulary": ["the", "cat", "sat", "elephant"]}),
        ("character", 6, {}),
    ],
)
def test_kenlm_finds_the_same_perplexity(tmp_path, unit, order, options):
    model = train_ngram(SMALL, order, unit=unit, **options)
    model.write(tmp_path / "lm.arpa")
    lines = ["the cat sat on a mat", "a zebra and the dog", "mat", "on on the the"]
    sentences = [line.split() if unit == "word" else list(line.replace(" ", "|")) for line in lines]
    expected = kenlm_perplexity(tmp_path / "lm.arpa", model, sentences)
    assert model.perplexity(lines, unit).ppl == pytest.approx(expected, rel=1e-4)


def test_perplexity_counts_ends_of_sentences_and_tells_unknown_words_apart():
    model = train_ngram(SMALL, 2)
    lines = ["the zebra sat", "", "a cat"]
    found = model.perplexity(lines)
    scores = [model.log10_probs(line.split()) for line in lines if line]
    assert (found.num_sentences, found.num_words, found.num_oov) == (2, 5, 1)
    assert found.ppl == pytest.approx(10 ** (-sum(s.sum() for s in scores) / 7))
    assert found.ppl_without_oov == pytest.approx(10 ** (-(sum(s.sum() for s in scores) - scores[0][1]) / 6))
    assert found.oov_rate == 0.2


def test_character_models_are_compared_with_word_models_by_the_word():
    model = train_ngram(SMALL, 5, unit="character")
    found = model.perplexity(["a cat", "the mat"])
    assert model.unit == "character"
    assert (found.unit, found.num_words, found.num_text_words) == ("character", 12, 4)
    assert found.ppl_per_text_word == pytest.approx(found.ppl ** (14 / 6))


def test_a_closed_vocabulary_gives_nothing_to_other_words():
    options = {"vocabulary": ["the", "cat", "sat"]}
    opened = train_ngram(SMALL, 3, **options)
    closed = train_ngram(SMALL, 3, closed=True, **options)
    assert opened.vocabulary == closed.vocabulary == ["cat", "sat", "the"]
    assert opened.log10_prob(["dog"]) > -3
    assert closed.log10_prob(["dog"]) < -90
    unknown = closed.ids["<unk>"]
    for n in (2, 3):
        assert not any((column == unknown).any() for column in closed.columns(n))


def test_words_of_the_vocabulary_that_the_text_lacks_get_the_uniform_share():
    model = train_ngram(SMALL, 2, vocabulary=["the", "cat", "sat", "elephant", "tiger"])
    assert model.log10_prob(["elephant"], bos=False, eos=False) == model.log10_prob(
        ["tiger"], bos=False, eos=False
    )
    assert math.isfinite(model.log10_prob(["elephant"]))


def test_limit_keeps_the_most_frequent_words():
    notes = []
    model = train_ngram(SMALL, 2, limit=3, note=notes.append)
    assert model.vocabulary == ["cat", "sat", "the"]
    assert any("18 of 38 words are outside the vocabulary" in note for note in notes)


def test_small_texts_fall_back_to_fixed_discounts_and_say_so():
    notes = []
    train_ngram(["a b"], 2, note=notes.append)
    assert notes == [
        f"order {n}: too few {n}-grams to estimate discounts from; took 0.5, 1.0, 1.5" for n in (1, 2)
    ]


@pytest.mark.parametrize(("options", "counts"), [({}, [5, 4, 2, 0]), ({"prune": (0, 5)}, [5, 0, 0, 0])])
def test_orders_without_n_grams_change_nothing(tmp_path, options, counts):
    notes = []
    model = train_ngram(["a", "b", "a"], 4, note=notes.append, **options)
    assert model.counts == counts
    assert "order 4: the text has no 4-grams" in notes
    model.write(tmp_path / "lm.arpa")
    assert read_arpa(tmp_path / "lm.arpa").counts == counts
    lines = ["a", "a b", "c a"]
    shorter = train_ngram(["a", "b", "a"], 3, **options)
    assert model.perplexity(lines) == shorter.perplexity(lines)
    expected = kenlm_perplexity(tmp_path / "lm.arpa", model, [line.split() for line in lines])
    assert model.perplexity(lines).ppl == pytest.approx(expected, rel=1e-4)


def test_counts_do_not_depend_on_blocks_or_on_how_ids_are_packed():
    # More than one block, more ids than 8 and 16 bits hold, and n-grams wider than one 64-bit number.
    rng = np.random.default_rng(0)
    lines = [f"{a} {b}" for a, b in rng.integers(0, 70_000, (LINES_PER_BLOCK + 1000, 2))]
    found = count_ngrams(lines, 5)
    expected = Counter()
    for line in lines:
        padded = ["<s>"] * 4 + line.split() + ["</s>"]
        expected.update(tuple(padded[i : i + 5]) for i in range(len(padded) - 4))
    rows = zip(*([found.words[i] for i in column.tolist()] for column in found.columns), strict=True)
    assert dict(zip(rows, found.counts.tolist(), strict=True)) == expected


@pytest.mark.parametrize("highest", [1, 255, 256, 65_535, 65_536, 3_000_000, 2**33])
def test_packed_ids_come_back_and_sort_as_they_did(highest):
    rng = np.random.default_rng(0)
    columns = [rng.integers(0, highest + 1, 1000) for _ in range(5)]
    bits = bits_for(highest)
    keys = pack(columns, bits)
    assert all((a == b).all() for a, b in zip(unpack(keys, bits, 5), columns, strict=True))
    assert (np.lexsort(keys[::-1]) == np.lexsort(columns[::-1])).all()


def test_the_order_of_the_text_changes_nothing(tmp_path):
    for name, lines in (("a", SMALL), ("b", SMALL[::-1])):
        train_ngram(lines, 3).write(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("lines", "options", "error", "message"),
    [
        ([], {}, DataError, "there is no text to train a language model on"),
        (["", "  "], {}, DataError, "every line is blank"),
        (["a", "b <s> c"], {}, DataError, "line 2: '<s>' has a meaning of its own"),
        (["a <UNK>"], {}, DataError, "line 1: '<UNK>' has a meaning of its own"),
        (["a", "b|c"], {"unit": "character"}, DataError, r"line 2: '\|' stands for the space"),
        (["a"], {"order": 0}, ConfigError, "order: must be 1 or more, found 0"),
        (["a"], {"limit": 0}, ConfigError, "limit: must be 1 or more, found 0"),
        (["a"], {"prune": (1,)}, ConfigError, "begin with 0 and do not fall, as 0 0 1, found 1"),
        (["a"], {"prune": (0, 2, 1)}, ConfigError, "found 0 2 1"),
        (["a"], {"prune": (0, 0, 0, 1)}, ConfigError, "up to 3 counts"),
    ],
)
def test_what_cannot_be_trained_is_named(lines, options, error, message):
    with pytest.raises(error, match=message):
        train_ngram(lines, **{"order": 3} | options)


def test_to_dict_has_no_number_that_json_lacks():
    closed = train_ngram(SMALL, 2, vocabulary=["the"], closed=True)
    record = closed.perplexity(["zebra " * 1000]).to_dict()
    assert json.loads(json.dumps(record, allow_nan=False))["num_oov"] == 1000

"""Each step does what its name says, in every script, and to every wording of alternatives."""

import random
import shutil
import subprocess

import pytest

from asr.errors import AsrError
from asr.scoring.normalization import STEPS, make_normalization

needs_sctk = pytest.mark.skipif(
    shutil.which("sctk") is None, reason="csrfilt.sh (Debian: sctk) is not installed"
)

FAMILY = "👨\u200d👩\u200d👧"


@pytest.mark.parametrize(
    ("steps", "text", "expected"),
    [
        ("", "  A  b\tc ", "A b c"),
        ("lower", "Straße ÉCOLE ΟΔΟΣ", "straße école οδος"),
        ("lower", "I İ", "i i\u0307"),  # without knowing the language, as Unicode says
        ("lower:tr", "IŞIK İstanbul DIŞ I\u0307zmir", "ışık istanbul dış izmir"),
        ("lower:az", "BAKI", "bakı"),
        ("lower:lt", "Ĩ", "i\u0307\u0303"),
        ("upper", "straße i", "STRASSE I"),
        ("upper:tr", "ışık istanbul", "IŞIK İSTANBUL"),
        ("nfc", "e\u0301", "é"),
        ("nfkc", "ＡＢ ﬁ ½", "AB fi 1⁄2"),
        ("accents", "café naïve Łódź Ελλάδα ёлка øre", "cafe naive Lodz Ελλαδα елка ore"),
        ("accents", "हिन्दी が مُحَمَّد 한국", "हिन्दी が مُحَمَّد 한국"),
        ("punctuation", "Don’t say: “Twenty-one”! rock 'n' roll", "Don't say Twenty one rock n roll"),
        ("punctuation", "o'clock, the boys' 90’s ‘tis $5 C++", "o'clock the boys 90's tis $5 C++"),
        ("punctuation", "مرحبا، كيف حالك؟ \u200fשלום־עולם", "مرحبا كيف حالك שלום עולם"),
        ("punctuation", "می\u200cخواهم «خانه»", "می\u200cخواهم خانه"),
        ("punctuation", "हिन्दी। 你好，世界。", "हिन्दी 你好 世界"),
        ("punctuation", f"ok {FAMILY} 👍🏽!", f"ok {FAMILY} 👍🏽"),
        (
            "symbols",
            "1\ufe0f\u20e3 🏴\U000e0067\U000e0062\U000e007f ❤\ufe0f\u200d🔥 می\u200cخواهم",
            "1 می\u200cخواهم",
        ),
        ("symbols", f"ok{FAMILY} 👍🏽 ❤\ufe0f $5 a+b", "ok 5 a b"),
        ("brackets", "a [noise] <unk> (laughs) b", "a b"),
        ("characters", "我有3個apple，です", "我 有 3 個 apple， で す"),
        ("characters", "か\u3099 は\u309a", "が ぱ"),
        ("characters", "ที่นี่", "ที่ นี่"),
        ("characters", "한국 말 abc", "한국 말 abc"),
        ("fillers", "um so, uh, hmm the er umbrella", "so, the umbrella"),
        (
            "contractions",
            "i don't know, he's been and she'll won't",
            "i do not know, he has been and she will will not",
        ),
        ("british", "the colour of the theatre's programme", "the color of the theater's program"),
        (
            "british",
            "organised travellers analysed haemoglobin grey cheques",
            "organized travelers analyzed hemoglobin gray checks",
        ),
        (
            "british",
            "promise four hour advise our story wise exercise does",
            "promise four hour advise our story wise exercise does",
        ),
        ("numbers", "ninth of may", "9th of may"),
        ("lower punctuation", "Don’t { Stop! / GO. }", "don't { stop / go }"),
        ("fillers", "i { um / uh / well } said", "i { @ / @ / well } said"),
        ("lower", "{ A/B } {C / { D / @ } E}", "{ a / b } { c / { d / @ } e }"),
        ("punctuation", "unbalanced { a / b", "unbalanced a b"),
        ("punctuation", "and/or", "and or"),
        ("numbers", "{ twenty one / twenty } five", "{ 21 / 20 } 5"),
    ],
)
def test_a_step(steps, text, expected):
    assert make_normalization(steps.split())(text) == expected


@pytest.mark.parametrize("name", [name for name in STEPS if ":" not in name])
def test_a_step_twice_changes_nothing_more(name):
    texts = [
        "Don’t STOP: café I İ 我有 ½ um colour 25",
        f"{{ A / b’s }} {FAMILY} [x] twenty first",
        "",
        "@ {a/@}",
    ]
    once = make_normalization([name])
    for text in texts:
        assert once(once(text)) == once(text)
        assert once.hypothesis is once


# openai/whisper, tests/test_normalizer.py
WHISPER_NUMBERS = {
    "two": "2",
    "thirty one": "31",
    "five twenty four": "524",
    "nineteen ninety nine": "1999",
    "twenty nineteen": "2019",
    "two point five million": "2500000",
    "four point two billions": "4200000000s",
    "200 thousand": "200000",
    "200 thousand dollars": "$200000",
    "$20 million": "$20000000",
    "€52.4 million": "€52400000",
    "£77 thousands": "£77000s",
    "two double o eight": "2008",
    "three thousand twenty nine": "3029",
    "forty three thousand two hundred sixty": "43260",
    "forty three thousand two hundred and sixty": "43260",
    "nineteen fifties": "1950s",
    "thirty first": "31st",
    "thirty three thousand and three hundred and thirty third": "33333rd",
    "three billion": "3000000000",
    "millions": "1000000s",
    "july third twenty twenty": "july 3rd 2020",
    "august twenty sixth twenty twenty one": "august 26th 2021",
    "3 14": "3 14",
    "3.14": "3.14",
    "3 point 2": "3.2",
    "3 point 14": "3.14",
    "fourteen point 4": "14.4",
    "two point two five dollars": "$2.25",
    "two hundred million dollars": "$200000000",
    "$20.1 million": "$20100000",
    "ninety percent": "90%",
    "seventy six per cent": "76%",
    "double oh seven": "007",
    "double zero seven": "007",
    "nine one one": "911",
    "nine double one": "911",
    "one triple oh one": "10001",
    "two thousandth": "2000th",
    "thirty two thousandth": "32000th",
    "minus 500": "-500",
    "positive twenty thousand": "+20000",
    "two dollars and seventy cents": "$2.70",
    "3 cents": "¢3",
    "$0.36": "¢36",
    "three euros and sixty five cents": "€3.65",
    "three and a half million": "3500000",
    "forty eight and a half dollars": "$48.5",
    "b747": "b 747",
    "10 th": "10th",
    "10th": "10th",
}
WHISPER_TEXTS = {
    "Let's": "let us",
    "he's like": "he is like",
    "she's been like": "she has been like",
    "10km": "10 km",
    "10mm": "10 mm",
    "RC232": "rc 232",
    "Mr. Park visited Assoc. Prof. Kim Jr.": "mister park visited associate professor kim junior",
    "mobilisation": "mobilization",
    "cancelation": "cancellation",
}


@pytest.mark.parametrize(("text", "expected"), WHISPER_NUMBERS.items())
def test_numbers_are_written_as_whisper_writes_them(text, expected):
    assert make_normalization(["numbers"])(text) == expected
    if not text.startswith(("minus", "positive")):
        assert make_normalization(["english"])(text.capitalize()) == expected


@pytest.mark.parametrize(("text", "expected"), WHISPER_TEXTS.items())
def test_english_is_normalised_as_whisper_does(text, expected):
    assert make_normalization(["english"])(text) == expected


def test_optional_words_stay_optional_on_request():
    steps = ["lower", "punctuation"]
    text = "I saw (It, too) { a / (B!) } f(x)"
    assert make_normalization(steps)(text) == "i saw it too { a / b } f x"
    assert make_normalization(steps, optional_words=True)(text) == "i saw (it) (too) { a / (b) } f x"


def test_steps_are_applied_in_order_and_named(tmp_path):
    path = tmp_path / "words.tsv"
    path.write_text("# comment\nnew york\tNYC\nNew York\tNYC\nuh\t\n")
    names = [f"rewrite:{path}", "lower"]
    normalization = make_normalization(names)
    assert normalization.names == tuple(names)
    assert normalization("uh in New York , new york newer") == "in nyc , nyc newer"


@pytest.mark.parametrize(
    ("step", "content", "message"),
    [
        ("lowr", None, "step 'lowr' is unknown; choose from lower, upper, punctuation"),
        ("lower:xx", None, "step 'lower:xx' is unknown"),
        ("glm", None, "step 'glm' is unknown"),
        ("rewrite:{}", None, "file: cannot be read"),
        ("rewrite:{}", "a b\n", "file:1: is 'a b'; write two columns"),
        ("rewrite:{}", "a\tb\na\tc\n", "file:2: 'a' is there already"),
        ("rewrite:{}", "# only\n", "file: has no line to rewrite by"),
        ("glm:{}", ";;\nx = y\n", "file:2: no `=>` in 'x = y'"),
        ("glm:{}", ";;\n => y\n", "file:2: nothing before `=>`"),
        ("glm:{}", ";;\n* name = x\n", "file:2: no value in quotes"),
        ("glm:{}", ";;\n", "file: has no rule"),
    ],
)
def test_a_bad_step_is_named(tmp_path, step, content, message):
    path = tmp_path / "file"
    if content is not None:
        path.write_text(content)
    with pytest.raises(AsrError, match=message) as caught:
        make_normalization([step.format(path)])
    assert "\n" not in str(caught.value)


GLM = """\
;; rules
* name = "test"
* format = 'NIST1'
* case_sensitive = 'F'
[uh] => [%hesitation] / [ ] __ [ ]
CANCELLED => canceled ;; per AHD
Falkner => Faulkner / [William ] __
VIDEOTAPE => VIDEO TAPE / [ ] __ [ ]
[he's] => [{he is / he has}] / [ ] __ [ ]
"x y" => "xy"
del =>
ab => Q / __ c
abc => R
"""


@pytest.fixture
def filtered(tmp_path):
    """Return a function that filters texts by csrfilt.sh."""

    def run(rules, texts):
        (tmp_path / "rules.glm").write_text(rules)
        command = ["sctk", "csrfilt.sh", "-s", "-i", "trn", tmp_path / "rules.glm"]
        lines = "".join(f"{text} (s-{number})\n" for number, text in enumerate(texts))
        output = subprocess.run(command, input=lines, capture_output=True, text=True, check=True).stdout
        expected = [" ".join(line.rsplit("(", 1)[0].split()) for line in output.splitlines()]
        normalization = make_normalization([f"glm:{tmp_path / 'rules.glm'}"])
        return [normalization(text) for text in texts], expected

    return run


@needs_sctk
def test_glm_rules_do_what_csrfilt_does(filtered):
    texts = [
        "Uh uh um cancelled william falkner falkner videotapes Videotape",
        "he's x y delta abc abd zab",
        "{ um / uh } (uh it is) x y",
        "",
    ]
    found, expected = filtered(GLM, texts)
    assert found == expected
    assert found[1] == "{he is / he has} xy ta Qc abd zab"


@needs_sctk
@pytest.mark.parametrize("seed", range(10))
def test_random_glm_rules_do_what_csrfilt_does(filtered, seed):
    rng = random.Random(seed)
    words = ["a", "b", "ab", "abc", "ba", "c", "x y", "he's", "A", "Ab", "%hes"]
    quotes = ["[{}]", "{}", '"{}"', "[ {} ]", "[{} ]"]
    contexts = ["[ ] __ [ ]", "[ ] __ ", "__ [ ]", "[a] __ [b]", "[b ] __", "a __ b"]
    rules = [";; c", f"* case_sensitive = '{rng.choice('TF')}'"]
    for _ in range(12):
        source, target = (rng.choice(quotes).format(rng.choice(words)) for _ in range(2))
        rules.append(f"{source} => {target}" + (f" / {rng.choice(contexts)}" if rng.random() < 0.6 else ""))
    rules.append("[c] => [{c / @}] / [ ] __ [ ]")
    tokens = [*words, "x", "y", "(a)", "(a b)", "{ a / b }", "cab", "(ab c a)"]
    found, expected = filtered(
        "\n".join(rules) + "\n", [" ".join(rng.choices(tokens, k=8)) for _ in range(6)]
    )
    assert found == expected


def test_glm_rules_of_one_side_are_kept_from_the_other(tmp_path):
    path = tmp_path / "rules.glm"
    path.write_text(
        ';;\n[a] => [b]\n;; INPUT_DEPENDENT_APPLICATION = "ctm"\n[he\'s] => [{he is / he has}] / [ ] __ [ ]\n'
        ';; INPUT_DEPENDENT_APPLICATION = "stm|ctm"\n[c] => [d]\n'
    )
    normalization = make_normalization([f"glm:{path}", "lower"])
    assert normalization("a he's c") == "b he's d"
    assert normalization.hypothesis("a he's c") == "b { he is / he has } d"
    assert normalization.hypothesis.names == normalization.names

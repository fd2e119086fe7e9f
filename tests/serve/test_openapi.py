"""schemathesis against the service's own description."""

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

schemathesis = pytest.importorskip("schemathesis")


@pytest.fixture
def check(start, wav):
    """Return a function that runs so many cases of each operation against a server."""
    # A schema cannot say what is audio: where it counts that a request is accepted, its file has to be some.
    schemathesis.openapi.media_type("audio/*", st.sampled_from([wav(0.3), wav(0.5, kind="FLAC")]))

    def check(examples, **options):
        server = start(**options)
        # schemathesis knows its credentials by this very spelling.
        headers = {name.title(): value for name, value in server.client.headers.items()}
        schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json", headers=headers)
        counted = 0
        for mode in schemathesis.GenerationMode:
            for result in schema.get_all_operations():
                operation = result.ok()
                strategy = operation.as_strategy(generation_mode=mode)
                counted += run(strategy, examples, headers)
        return counted

    return check


def run(strategy, examples, headers):
    count = 0

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    @given(case=strategy)
    def ask(case):
        nonlocal count
        count += 1
        case.call_and_validate(headers=headers)

    with contextlib.suppress(Unsatisfiable):  # what takes no input cannot be given a wrong one
        ask()
    return count


def test_nothing_is_found(check):
    assert check(4) >= 10


@pytest.mark.slow
def test_nothing_is_found_with_many_examples_and_tokens(check):
    assert check(150, tokens=["s3cret"]) > 500

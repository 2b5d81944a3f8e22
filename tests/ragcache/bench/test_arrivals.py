"""Readers of arrival traces: each format, its faults by line, and Poisson arrivals."""

import json

import numpy as np
import pytest

from nonet.common.errors import InputError
from nonet.ragcache.bench.arrivals import Arrival, arrivals_of, poisson_times

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.1805900,396,109
2023-11-16 18:15:50.9305900,879,55
"""
BURSTGPT = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45.5,ChatGPT,1087,230,1317,Conversation log
118,GPT-4,417,0,417,API log
120,GPT-4,1360,203,1563,API log
"""
MOONCAKE = """{"timestamp": 3000, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}

{"timestamp": 1500, "input_length": 20, "output_length": 3, "hash_ids": [0]}
"""
SHAREGPT = [
    {"id": "a", "conversations": [{"from": "human", "value": "one two"}, {"from": "gpt", "value": "three four five"}]},
    {"id": "b", "conversations": [{"from": "human", "value": "nobody answers"}]},
    {"id": "c", "conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]},
]


@pytest.fixture
def written(tmp_path):
    def write(text, name="trace"):
        place = tmp_path / name
        place.write_text(text, encoding="utf-8")
        return place

    return write


def count_words(text):
    return len(text.split())


def test_azure_times_count_from_the_first_one(written):
    arrivals = arrivals_of(written("\ufeff" + AZURE))
    assert [one.arrival_s for one in arrivals] == pytest.approx([0.0, 3.5, 4.25], abs=1e-5)
    assert [(one.input_tokens, one.output_tokens) for one in arrivals] == [(374, 44), (396, 109), (879, 55)]


def test_burstgpt_leaves_out_what_was_not_answered(written):
    assert arrivals_of(written(BURSTGPT)) == [Arrival(0, 472, 18), Arrival(40.5, 1087, 230), Arrival(115, 1360, 203)]


def test_mooncake_is_sorted_and_keeps_its_blocks(written):
    assert arrivals_of(written(MOONCAKE)) == [Arrival(0, 20, 3, "", (0,)), Arrival(1.5, 6758, 500, "", (0, 1))]


@pytest.mark.parametrize("indent", [None, 2])
def test_sharegpt_needs_a_tokenizer_and_has_no_times(written, indent):
    place = written(json.dumps(SHAREGPT, indent=indent))
    with pytest.raises(InputError, match="texts and no token counts"):
        arrivals_of(place)
    assert [one.arrival_s for one in arrivals_of(place, count_tokens=count_words)] == [0.0, 0.0]
    first, second = arrivals_of(place, count_tokens=count_words, rate_per_s=2.0)
    assert (first.text, first.input_tokens, first.output_tokens, first.arrival_s) == ("one two", 2, 3, 0.0)
    assert (second.text, second.input_tokens, second.output_tokens) == ("x", 1, 1) and second.arrival_s > 0


def test_a_limit_reads_the_first_ones_only(written):
    assert len(arrivals_of(written(AZURE + "nonsense,1,1\n"), limit=3)) == 3


def test_a_rate_takes_the_place_of_the_times(written):
    arrivals = arrivals_of(written(AZURE), rate_per_s=5.0, seed=3)
    assert [one.arrival_s for one in arrivals] == poisson_times(3, 5.0, seed=3)
    assert [one.input_tokens for one in arrivals] == [374, 396, 879]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (AZURE + "yesterday,1,1\n", r":5: TIMESTAMP 'yesterday' is no time"),
        (AZURE + "2023-11-16 18:16:00,-4,1\n", r":5: ContextTokens is '-4', no number of tokens"),
        (AZURE + "2023-11-16 18:16:00,4\n", r":5: GeneratedTokens is 'None', no number"),
        (BURSTGPT + "7,GPT-4,1.5,2,3,API log\n", r":6: Request tokens is '1.5', no number of tokens"),
        (BURSTGPT + "nan,GPT-4,1,2,3,API log\n", r":6: Timestamp is 'nan', no number"),
        (MOONCAKE + "{oops\n", r":4: not JSON"),
        (MOONCAKE + '{"timestamp": 1, "output_length": 2}\n', r":4: input_length is 'None', no number"),
        (
            MOONCAKE + '{"timestamp": 1, "input_length": 1, "output_length": 2, "hash_ids": 3}\n',
            r':4: "hash_ids" is no',
        ),
        ("a,b\n1,2\n", r":1: columns 'a, b' are none of Azure"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "holds no requests"),
        ("", ":1: columns '' are none of"),
    ],
)
def test_faults_name_file_and_line(written, text, message):
    with pytest.raises(InputError, match=message):
        arrivals_of(written(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[\n {"conversations": []},\n {"id": 1}\n]', r':3: lacks "conversations"'),
        ('[\n\n {"conversations": [{"from": "human"}]}\n]', r':3: a turn lacks "value"'),
        ('[\n {"conversations": []},\n {"conver\n', r":3: not JSON"),
        ('[{"conversations": []}', r":1: not JSON"),
    ],
)
def test_faults_of_an_array_name_its_line(written, text, message):
    with pytest.raises(InputError, match=message):
        arrivals_of(written(text), count_tokens=count_words, rate_per_s=1.0)


def test_no_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        arrivals_of(tmp_path / "nothing")


def test_the_published_trace(mirror):
    arrivals = arrivals_of(mirror / "ragcache" / "mooncake_conversation_trace.jsonl")
    assert len(arrivals) == 12_031 and sum(len(one.blocks) for one in arrivals) == 288_500
    assert round(np.mean([one.input_tokens for one in arrivals])) == 12_035
    assert arrivals[-1].arrival_s == pytest.approx(3_537, abs=5)


def test_poisson_gaps_are_exponential():
    gaps = np.diff(poisson_times(20_000, 4.0, seed=1))
    assert gaps.mean() == pytest.approx(0.25, rel=0.03) and gaps.std() == pytest.approx(0.25, rel=0.03)
    assert np.mean(gaps > 0.5) == pytest.approx(np.exp(-2), abs=0.01)
    assert poisson_times(50, 8.0) == pytest.approx([time_s / 2 for time_s in poisson_times(50, 4.0)])
    with pytest.raises(InputError, match="above 0"):
        poisson_times(3, 0.0)

"""Request logs as they are published, with their flaws."""

import json
import os
from pathlib import Path

import pytest

from nonet.common.errors import InputError
from nonet.power.load.readers import read_requests


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_azure_with_mixed_time_formats(tmp_path):
    # The week of 2024 has times with and without fraction, and with a zone.
    log = _write(
        tmp_path / "azure.csv",
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2024-05-10 00:00:00+00:00,10,5\n"
        "2024-05-10 00:00:01.500000+00:00,20,6\n"
        "2024-05-10 00:00:03,30,7\n"
        "2024-05-10T02:00:02.25+02:00,40,0\n"
        "nonsense,50,8\n",
    )
    load = read_requests(log)
    assert load.arrival_s.tolist() == [0.0, 1.5, 3.0]
    assert load.prompt_tokens.tolist() == [10, 20, 30]
    assert load.repairs["unusable, left out"] == 1
    assert load.repairs["zero tokens, left out"] == 1
    assert load.repairs["time formats"] >= 2


def test_burstgpt_services_and_failures(tmp_path):
    log = _write(
        tmp_path / "burst.csv",
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,1087,230,1317,API log\n50,GPT-4,417,0,417,API log\n",
    )
    load = read_requests(log, low_share={"ChatGPT": 1.0, "GPT-4": 0.0})
    assert load.arrival_s.tolist() == [0.0, 40.0]
    assert [load.service_names[i] for i in load.service] == ["ChatGPT", "GPT-4"]
    assert load.priority.tolist() == [0, 1]


def test_mooncake_json_lines_and_reduced(tmp_path):
    rows = [(0, 6758, 500), (3000, 7322, 490)]
    keys = ("timestamp", "input_length", "output_length")
    lines = "".join(json.dumps({**dict(zip(keys, row, strict=True)), "hash_ids": [1]}) + "\n" for row in rows)
    full = read_requests(_write(tmp_path / "trace.jsonl", lines))
    table = "timestamp_ms,input_tokens,output_tokens\n" + "".join("{},{},{}\n".format(*row) for row in rows)
    reduced = read_requests(_write(tmp_path / "lengths.csv", table))
    assert full.arrival_s.tolist() == reduced.arrival_s.tolist() == [0.0, 3.0]
    assert full.prompt_tokens.tolist() == reduced.prompt_tokens.tolist() == [6758, 7322]
    with pytest.raises(InputError, match="line 2"):
        read_requests(_write(tmp_path / "bad.jsonl", lines.splitlines()[0] + "\n{broken\n"))


def test_splitwise_and_own_columns(tmp_path):
    text = "request_id,arrival_timestamp,prompt_size,token_size\n0,0.0,5,6\n1,0.75,7,8\n"
    assert read_requests(_write(tmp_path / "s.csv", text)).arrival_s.tolist() == [0.0, 0.75]
    own = _write(tmp_path / "own.csv", "when,in,out,app,class\n1000,5,6,x,low\n2500,7,8,y,HIGH\n")
    mapped = {"time": "when", "unit": "ms", "prompt": "in", "output": "out", "service": "app", "priority": "class"}
    load = read_requests(own, columns=mapped)
    assert load.arrival_s.tolist() == [0.0, 1.5]
    assert load.priority.tolist() == [0, 1]
    with pytest.raises(InputError, match="no column 'nope'"):
        read_requests(own, columns={**mapped, "service": "nope"})
    with pytest.raises(InputError, match="name its columns"):
        read_requests(own)
    bad = _write(tmp_path / "class.csv", "when,in,out,class\n1,5,6,urgent\n")
    with pytest.raises(InputError, match="urgent"):
        read_requests(bad, columns={"time": "when", "prompt": "in", "output": "out", "priority": "class"})


def test_unusable_files(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_requests(tmp_path / "none.csv")
    with pytest.raises(InputError, match="unusable"):
        read_requests(_write(tmp_path / "a.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\nx,1,1\ny,2,2\n"))
    with pytest.raises(InputError):
        read_requests(_write(tmp_path / "empty.csv", ""))


@pytest.mark.parametrize(
    ("name", "num", "prompt", "output"),
    [("code", 8819, 2048, 28), ("conv", 19366, 1155, 211)],
)
def test_azure_2023_means_as_published(name, num, prompt, output):
    mirror = os.environ.get("NONET_MIRROR")
    path = Path(mirror or "/nowhere") / f"power/AzureLLMInferenceTrace_2023_{name}.csv"
    if not path.is_file():
        pytest.skip("needs the Azure 2023 traces in NONET_MIRROR")
    load = read_requests(path)
    assert len(load) == num
    assert round(float(load.prompt_tokens.mean())) == prompt
    assert round(float(load.output_tokens.mean())) == output


@pytest.mark.parametrize(
    "text",
    [
        "time,input_tokens,output_tokens\n2025-01-01T00:00:00Z,10,20\n2025-01-01T00:00:01.5Z,11,21\n",
        "timestamp,prompt_tokens,completion_tokens\n1700000000,10,20\n1700000001.5,11,21\n",
        "Timestamp;ContextTokens;GeneratedTokens\n10/13/2025 01:00:00;10;20\n10/13/2025 01:00:01.5;11;21\n",
        "timestamp_ms,prompt_len,output_len\n0,10,20\n1500,11,21\n",
        "timestamp,input_length,output_length\n0,10,20\n1500,11,21\n",
        "timestamp,input_length,output_length\n1700000000,10,20\n1700000001.5,11,21\n",
        "start_time,gen_ai.usage.input_tokens,gen_ai.usage.output_tokens\n0,10,20\n1.5,11,21\n",
    ],
)
def test_logs_with_the_usual_names_need_no_map(tmp_path, text):
    path = tmp_path / "own.csv"
    path.write_text(text)
    load = read_requests(path)
    assert load.arrival_s.tolist() == pytest.approx([0.0, 1.5])
    assert load.prompt_tokens.tolist() == [10, 11] and load.output_tokens.tolist() == [20, 21]


def test_a_missing_column_is_named(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("time,input_tokens,words\n0,1,2\n")
    with pytest.raises(InputError, match="no column for output tokens; rename one"):
        read_requests(path)

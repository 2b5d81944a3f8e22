"""The Drain3 adapter beside the real drain3 0.9.11 on the same messages, its parameters against `re`, and its state."""

from __future__ import annotations

import random
import re
import time
import warnings
from pathlib import Path

import drain3 as peer
import drain3.masking as peer_masking
import drain3.template_miner_config as peer_config
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.logs.drain3 import (
    ExtractedParameter,
    FilePersistence,
    MaskingInstruction,
    TemplateMiner,
    TemplateMinerConfig,
    masking,
)
from nonet.logs.drain3.parameters import align, units_of

IDIOM = r"((?<=[^A-Za-z0-9])|^)({})((?=[^A-Za-z0-9])|$)"
MASKS = [
    (IDIOM.format(r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}"), "IP"),
    (IDIOM.format(r"0x[a-f0-9A-F]+"), "HEX"),
    (IDIOM.format(r"[\-\+]?\d+"), "NUM"),
]


def our_config() -> TemplateMinerConfig:
    config = TemplateMinerConfig(mask_prefix="<:", mask_suffix=":>")
    config.masking_instructions = [MaskingInstruction(*mask) for mask in MASKS]
    return config


def both() -> tuple[TemplateMiner, peer.TemplateMiner]:
    theirs = peer_config.TemplateMinerConfig()
    theirs.mask_prefix, theirs.mask_suffix = "<:", ":>"
    theirs.masking_instructions = [peer_masking.MaskingInstruction(*mask) for mask in MASKS]
    return TemplateMiner(config=our_config()), peer.TemplateMiner(config=theirs)


def messages(seed: int = 0, number: int = 300) -> list[str]:
    source = random.Random(seed)

    def ip() -> str:
        return ".".join(str(source.randrange(256)) for _ in range(4))

    kinds = [
        lambda: f"connected to {ip()}",
        lambda: f"Hex number 0x{source.randrange(1 << 32):X}",
        lambda: f"took {source.randrange(10**6)} us, from {ip()} port {source.randrange(9999)}",
        lambda: f"user {source.choice(['davidoh', 'eranr', 'root', 'guest', 'bob', 'eve', 'amy'])} logged in",
        lambda: "disk full",
    ]
    return [source.choice(kinds)() for _ in range(number)]


def test_results_have_the_peer_s_keys_types_and_meaning() -> None:
    ours, theirs = both()
    for count, message in enumerate(messages(), start=1):
        mine, other = ours.add_log_message(message), theirs.add_log_message(message)
        assert {k: type(v) for k, v in mine.items()} == {k: type(v) for k, v in other.items()}
        assert mine["change_type"] in ("cluster_created", "cluster_template_changed", "none")
        assert mine["cluster_count"] == len(ours.drain.clusters) == len(ours.drain.id_to_cluster)
        assert sum(cluster.size for cluster in ours.drain.clusters) == ours.drain.get_total_cluster_size() == count
        assert ours.drain.id_to_cluster[mine["cluster_id"]].get_template() == mine["template_mined"]
        values = [p.value for p in ours.extract_parameters(mine["template_mined"], message) or ()]
        assert filled(mine["template_mined"], values) == message
    mine_by_text = {c.get_template(): c.size for c in ours.drain.clusters}
    for template in (
        "connected to <:IP:>",
        "Hex number <:HEX:>",
        "took <:NUM:> us, from <:IP:> port <:NUM:>",
        "disk full",
    ):
        assert mine_by_text[template] == {c.get_template(): c.size for c in theirs.drain.clusters}[template]


def filled(template: str, values: list[str]) -> str:
    queue = iter(values)
    return re.sub(r"<:(?:IP|HEX|NUM|\*):>", lambda _: next(queue), template)


def test_the_example_of_the_peer_s_documentation() -> None:
    ours, theirs = both()
    for message in ["connected to 10.0.0.1", "connected to 192.168.0.1", "Hex number 0xDEADBEAF"]:
        assert ours.add_log_message(message) == theirs.add_log_message(message)
        template = ours.match(message).get_template()
        assert [tuple(p) for p in ours.extract_parameters(template, message)] == [
            tuple(p) for p in theirs.extract_parameters(template, message)
        ]
    for strategy in ("never", "fallback", "always"):
        ours_found = ours.match("connected to 9.9.9.9", full_search_strategy=strategy)
        theirs_found = theirs.match("connected to 9.9.9.9", full_search_strategy=strategy)
        assert (ours_found.cluster_id, ours_found.size) == (theirs_found.cluster_id, theirs_found.size)
        assert ours_found.log_template_tokens == theirs_found.log_template_tokens
    assert ours.match("no such thing here") is None and theirs.match("no such thing here") is None
    with pytest.raises(InputError, match="full_search_strategy"):
        ours.match("x", full_search_strategy="sometimes")


def test_a_cluster_keeps_its_number_when_its_template_changes() -> None:
    miner = TemplateMiner(config=TemplateMinerConfig())
    names = [f"user{chr(97 + i)}{chr(97 + i)}" for i in range(26)]
    results = [miner.add_log_message(f"session opened for user {name} by root") for name in names]
    results += [miner.add_log_message(f"other thing number {chr(97 + i)} {'x' * (i + 2)} here") for i in range(26)]
    results += [miner.add_log_message("session opened for user zoe by root") for _ in range(3)]
    assert results[0]["cluster_id"] == results[-1]["cluster_id"] == 1
    assert results[-1]["template_mined"] == "session opened for user <*> by root"
    assert results[-1]["cluster_size"] == 26 + 3
    assert "cluster_template_changed" in {r["change_type"] for r in results}
    numbers = [c.cluster_id for c in miner.drain.clusters]
    assert len(set(numbers)) == len(numbers) and miner.drain.get_total_cluster_size() == len(results)


def test_parameters_of_an_older_template() -> None:
    miner = TemplateMiner(config=TemplateMinerConfig())
    old = miner.add_log_message("value 1 of disk sda")["template_mined"]
    assert miner.extract_parameters(old, "value 17 of disk sda") == [ExtractedParameter("17", "*")]
    assert miner.extract_parameters("value <*> of <*>", "value 17 of  disk sda ") == [
        ExtractedParameter("17", "*"),
        ExtractedParameter("disk sda", "*"),
    ]
    assert miner.extract_parameters("other <*>", "value 17") is None
    assert miner.get_parameter_list("value <*>", "value 17") == ["17"]
    assert miner.get_parameter_list("other <*>", "value 17") == []


def test_exact_matching_wants_what_the_mask_matches() -> None:
    miner = TemplateMiner(config=our_config())
    template = "took <:NUM:> us"
    assert miner.extract_parameters(template, "took 17 us") == [ExtractedParameter("17", "NUM")]
    assert miner.extract_parameters(template, "took long us") is None
    assert miner.extract_parameters(template, "took long us", exact_matching=False) == [
        ExtractedParameter("long", "NUM")
    ]
    mixed = miner.extract_parameters("<:*:> from <:IP:>:<:NUM:> é", "ü 1 from 10.0.0.1:80 é")
    assert mixed == [("ü 1", "*"), ("10.0.0.1", "IP"), ("80", "NUM")]


PIECES = st.lists(st.text("ab ", max_size=4), min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(PIECES, st.text("ab ", max_size=16))
def test_alignment_equals_a_lazy_expression(pieces: list[str], message: str) -> None:
    template = re.sub(" +", " ", "<*>".join(pieces))
    message = re.sub(" +", " ", message)
    expression = re.escape(template).replace(re.escape("<*>"), "(.+?)")
    found = re.fullmatch(expression, message)
    assert align(template, units_of(message, [])) == (list(found.groups()) if found else None)


def test_alignment_is_linear() -> None:
    begin = time.perf_counter()
    assert align("a<*>" * 40 + "b", units_of("a" * 200_000, [])) is None
    assert time.perf_counter() - begin < 3


@pytest.mark.parametrize(
    "message", ["", "   ", "<*>", "a <*> b", "tab\there", "x" * 10_000, "nul \x00 in", "two\nlines"]
)
def test_odd_messages(message: str) -> None:
    miner = TemplateMiner(config=TemplateMinerConfig())
    for _ in range(2):
        result = miner.add_log_message(message)
    assert result["cluster_size"] == 2
    assert miner.match(message).cluster_id == result["cluster_id"]
    values = miner.extract_parameters(result["template_mined"], message)
    queue = iter(v.value for v in values)
    assert re.sub(r"<\*>", lambda _: next(queue), result["template_mined"]) == " ".join(message.split())


def test_state_survives(tmp_path: Path) -> None:
    path = tmp_path / "state.bin"
    ours = TemplateMiner(FilePersistence(path), our_config())
    for message in messages(number=60):
        ours.add_log_message(message)
    ours.save_state("test")
    again = TemplateMiner(FilePersistence(path), our_config())
    assert [str(c) for c in again.drain.clusters] == [str(c) for c in ours.drain.clusters]
    for message in messages(seed=1, number=40):
        assert again.add_log_message(message) == ours.add_log_message(message)


def test_snapshots_are_taken_on_change_and_with_time(tmp_path: Path) -> None:
    saved: list[bytes] = []

    class Handler:
        def save_state(self, state: bytes) -> None:
            saved.append(state)

        def load_state(self) -> bytes | None:
            return None

    miner = TemplateMiner(Handler(), TemplateMinerConfig(snapshot_interval_minutes=60))
    miner.add_log_message("disk full")
    miner.add_log_message("disk full")
    assert len(saved) == 1
    miner.config.snapshot_interval_minutes = 0
    miner.add_log_message("disk full")
    assert len(saved) == 2


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda b: b[:-1], "checksum"),
        (lambda b: b.replace(b"disk", b"task"), "checksum"),
        (lambda b: b"\x80\x04pickled", "not saved by this adapter"),
        (lambda b: b"", "not saved by this adapter"),
    ],
)
def test_a_bad_state_is_refused(tmp_path: Path, spoil, reason: str) -> None:
    path = tmp_path / "state"
    miner = TemplateMiner(FilePersistence(path), TemplateMinerConfig())
    miner.add_log_message("disk full")
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match=reason):
        TemplateMiner(FilePersistence(path), TemplateMinerConfig())


def test_a_state_with_other_masks_is_refused(tmp_path: Path) -> None:
    TemplateMiner(FilePersistence(tmp_path / "s"), TemplateMinerConfig()).add_log_message("disk full")
    with pytest.raises(InputError, match="other masks"):
        TemplateMiner(FilePersistence(tmp_path / "s"), our_config())


INI = """
[SNAPSHOT]
snapshot_interval_minutes = 10
compress_state = True

[MASKING]
masking = [
    {"regex_pattern":"((?<=[^A-Za-z0-9])|^)([\\\\-\\\\+]?\\\\d+)((?=[^A-Za-z0-9])|$)", "mask_with": "NUM"}
    ]
mask_prefix = <:
mask_suffix = :>

[DRAIN]
sim_th = 0.5
depth = 4
max_clusters = 1024
extra_delimiters = ["_"]

[PROFILING]
enabled = False
"""


def test_ini_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "drain3.ini").write_text(INI + "\n[OTHER]\nkey = 1\n")
    config = TemplateMinerConfig()
    config.load(str(tmp_path / "drain3.ini"))
    reference = peer_config.TemplateMinerConfig()
    reference.load(str(tmp_path / "drain3.ini"))
    for name in ("snapshot_interval_minutes", "mask_prefix", "mask_suffix", "drain_sim_th", "drain_depth"):
        assert getattr(config, name) == getattr(reference, name)
    assert config.drain_max_clusters == reference.drain_max_clusters
    assert [(m.pattern, m.mask_with) for m in config.masking_instructions] == [
        (m.pattern, m.mask_with) for m in reference.masking_instructions
    ]
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match=r"drain_sim_th, \[OTHER\] key$"):
        miner = TemplateMiner()
    assert miner.add_log_message("took 7 us")["template_mined"] == "took <:NUM:> us"


def test_default_settings_warn_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TemplateMiner(config=our_config())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no section\n", "not an INI file"),
        ("[DRAIN]\ndepth = deep\n", r"\[DRAIN\] depth = 'deep'"),
        ("[MASKING]\nmasking = [{}]\n", "mask_with"),
        ("[MASKING]\nmasking = {\n", "masking"),
        ("[DRAIN]\nextra_delimiters = 3\n", "a list"),
    ],
)
def test_bad_ini_files(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "x.ini").write_text(text)
    with pytest.raises(InputError, match=reason) as error:
        TemplateMinerConfig().load(tmp_path / "x.ini")
    assert "\n" not in str(error.value) and "x.ini" in str(error.value)


README_MASKS = [
    (r"((?<=[^A-Za-z0-9])|^)(([0-9a-f]{2,}:){3,}([0-9a-f]{2,}))((?=[^A-Za-z0-9])|$)", "ID"),
    (r"((?<=[^A-Za-z0-9])|^)(\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})((?=[^A-Za-z0-9])|$)", "IP"),
    (r"((?<=[^A-Za-z0-9])|^)([0-9a-f]{6,} ?){3,}((?=[^A-Za-z0-9])|$)", "SEQ"),
    (r"((?<=[^A-Za-z0-9])|^)([0-9A-F]{4} ?){4,}((?=[^A-Za-z0-9])|$)", "SEQ"),
    (r"((?<=[^A-Za-z0-9])|^)(0x[a-f0-9A-F]+)((?=[^A-Za-z0-9])|$)", "HEX"),
    (r"((?<=[^A-Za-z0-9])|^)([\-\+]?\d+)((?=[^A-Za-z0-9])|$)", "NUM"),
    (r'(?<=executed cmd )(".+?")', "CMD"),
]
OTHER_MASKS = [
    (r"(?<=user=)\w+", "USER"),
    (r"id\d+(?=;\s)", "ID"),
    (r"\b(?!0x)[a-f0-9]{6,}\b", "HEX"),
]


WORDS = [
    'executed cmd "ls -l"',
    '"x"',
    "user=bob",
    "id17;",
    "id17",
    "0xc0ffee17",
    "c0ffee17",
    "10.0.0.1",
    "aa:bb:cc:dd",
]


@pytest.mark.parametrize("instructions", [README_MASKS, OTHER_MASKS], ids=["README", "others"])
@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join))
def test_the_peer_s_masker_gives_the_same(instructions: list[tuple[str, str]], message: str) -> None:
    ours = masking.LogMasker([MaskingInstruction(*one) for one in instructions], "<:", ":>")
    theirs = peer_masking.LogMasker([peer_masking.MaskingInstruction(*one) for one in instructions], "<:", ":>")
    assert list(ours.mask_names) == list(theirs.mask_names)
    assert len(ours.instructions_by_mask_name("SEQ")) == len(theirs.instructions_by_mask_name("SEQ"))
    assert ours.mask(message) == theirs.mask(message)


def delimited(delimiters: list[str], masks: list[tuple[str, str]] = MASKS) -> tuple[TemplateMiner, peer.TemplateMiner]:
    config = TemplateMinerConfig(mask_prefix="<", mask_suffix=">", drain_extra_delimiters=delimiters)
    config.masking_instructions = [MaskingInstruction(*mask) for mask in masks]
    theirs = peer_config.TemplateMinerConfig()
    theirs.masking_instructions = [peer_masking.MaskingInstruction(*mask) for mask in masks]
    theirs.drain_extra_delimiters = delimiters
    return TemplateMiner(config=config), peer.TemplateMiner(config=theirs)


DELIMITED = [
    (["_"], ["key_5_value x", "key_6_value x", "key_77_value x"]),
    (["_"], ["_disk full_", "_disk full_"]),
    (["_"], ["__took_-5_us from_10.0.0.1_", "took_6_us_from_10.0.0.2"]),
    (["=", ":"], ["cpu=5:mem=7 of node", "cpu=6:mem=8 of node", "cpu=60:mem=81 of node"]),
    (["->"], ["0xff->done", "0xfa->done"]),
    (["é", ""], ["größeé2 é", "größeé3"]),
]


@pytest.mark.parametrize(("delimiters", "lines"), DELIMITED)
def test_delimiters_part_words_as_with_the_peer(delimiters: list[str], lines: list[str]) -> None:
    ours, theirs = delimited(delimiters)
    theirs.config.drain_extra_delimiters = [one for one in delimiters if one]  # an empty one would part all letters
    theirs.drain.extra_delimiters = theirs.config.drain_extra_delimiters
    for line in lines:
        mine, other = ours.add_log_message(line), theirs.add_log_message(line)
        assert mine == other
        found = ours.extract_parameters(mine["template_mined"], line)
        wanted = theirs.extract_parameters(mine["template_mined"], line.strip("_ é"))
        assert [tuple(p) for p in found] == [tuple(p) for p in wanted]
        assert ours.match(line).cluster_id == theirs.match(line).cluster_id
    assert ours.extract_parameters("other <*>", lines[0]) is None


def test_delimiters_in_what_a_mask_matches_stay() -> None:
    ours, theirs = delimited(["_"], [(r"blk_\d+", "BLK"), (r"(?<=_)0x\w+", "HEX")])
    for line in ("got blk_17 in_part_0x1f", "got blk_18 in_part_0xab"):
        assert ours.add_log_message(line) == theirs.add_log_message(line)
    template = "got <BLK> in part <HEX>"
    assert ours.extract_parameters(template, line) == [("blk_18", "BLK"), ("0xab", "HEX")]
    assert ours.extract_parameters("got <BLK> in <*> <HEX>", line) == [
        ("blk_18", "BLK"),
        ("part", "*"),
        ("0xab", "HEX"),
    ]


def test_delimiters_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state"
    config = TemplateMinerConfig(drain_extra_delimiters=["_"], masking_instructions=[MaskingInstruction(r"\d+", "N")])
    before = TemplateMiner(FilePersistence(path), config)
    template = before.add_log_message("key_5_value")["template_mined"]
    again = TemplateMiner(FilePersistence(path), config)
    assert again.match("key_6_value").get_template() == template == "key <N> value"
    assert again.extract_parameters(template, "key_6_value") == [("6", "N")]


def test_missing_ini_file_and_unlinear_mask() -> None:
    with pytest.raises(InputError, match="no-such"):
        TemplateMinerConfig().load("no-such.ini")
    config = TemplateMinerConfig(masking_instructions=[MaskingInstruction(r"(a)\1", "X")])
    with pytest.raises(InputError, match="back-references"):
        TemplateMiner(config=config)

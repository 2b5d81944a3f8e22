"""Small inputs worked by hand from the published pseudo-code, a few for each parser, in both modes."""

from __future__ import annotations

import pytest

from nonet.common.errors import InputError
from nonet.logs.parsers import AEL, LFA, Drain, IPLoM, Parsed, Parser, Spell
from nonet.logs.parsers.masking import Masker
from nonet.logs.parsers.settings import header_format, masks_for, parameters_for


def per_line(parsed: Parsed) -> list[str]:
    return [parsed.templates[label] for label in parsed.labels.tolist()]


def test_drain_accepts_at_the_threshold_and_not_below() -> None:
    lines = ["a b c d", "a b x y", "a p q r"]  # 2 of 4 equal; then 1 of 4
    assert per_line(Drain(st=0.5, depth=4).parse(lines)) == ["a b <*> <*>", "a b <*> <*>", "a p q r"]
    assert per_line(Drain(st=0.51, depth=4).parse(lines)) == lines


def test_drain_counts_constants_only_and_prefers_more_wildcards_on_a_tie() -> None:
    lines = [
        "s a b c d",  # cluster 0
        "s a b x y",  # 3 of 5: cluster 0 becomes "s a b <*> <*>"
        "s p q c d",  # 1 of 5: cluster 1
        "s a q m n",  # 2 of 5 with both clusters: the one with two wildcards takes it
    ]
    assert per_line(Drain(st=0.4, depth=4).parse(lines)) == [
        "s a <*> <*> <*>",
        "s a <*> <*> <*>",
        "s p q c d",
        "s a <*> <*> <*>",
    ]


def test_drain_sends_tokens_with_digits_to_the_wildcard_child() -> None:
    assert per_line(Drain(st=0.5, depth=4).parse(["n1 is up", "n2 is up", "nx is up"])) == ["<*> is up"] * 3
    # With a child for its own token, a line no longer meets the wildcard's clusters.
    assert per_line(Drain(st=0.5, depth=4).parse(["nx is up", "n1 is up"])) == ["nx is up", "n1 is up"]


def test_drain_keeps_the_last_child_for_the_wildcard() -> None:
    lines = ["a up", "b up", "c up"]  # two children at most: a, and the wildcard, in which b and c meet
    assert per_line(Drain(st=0.5, depth=4, max_child=2).parse(lines)) == ["a up", "<*> up", "<*> up"]


def test_drain_compat_never_stores_messages_as_short_as_its_layers() -> None:
    lines = ["up 1", "up 2", "up 1"]
    assert per_line(Drain(st=0.5, depth=5, mode="compat").parse(lines)) == lines
    assert per_line(Drain(st=0.5, depth=4, mode="compat").parse(lines)) == ["up <*>"] * 3
    assert per_line(Drain(st=0.5, depth=5, mode="fixed").parse(["x up", "y1 up", "z2 up"])) == [
        "x up",
        "<*> up",
        "<*> up",
    ]


def test_ael_merges_within_a_bin_against_the_leader() -> None:
    lines = ["a b c d", "a b c x", "a b y x", "<*> b c d"]
    # The leader is "a b c d": one difference joins, two do not at .25; the fourth line is in another bin.
    parser = AEL(min_event_count=1, merge_percent=0.25)
    assert per_line(parser.parse(lines)) == ["a b c <*>", "a b c <*>", "a b y x", "<*> b c d"]


def test_ael_leaves_small_bins_alone() -> None:
    lines = ["a b", "a c"]
    assert per_line(AEL(min_event_count=2, merge_percent=0.5).parse(lines)) == lines
    assert per_line(AEL(min_event_count=1, merge_percent=0.5).parse(lines)) == ["a <*>"] * 2


def test_ael_blanks() -> None:
    lines = ["a  b", "a b"]
    assert per_line(AEL(min_event_count=0, mode="compat").parse(lines)) == lines
    assert per_line(AEL(min_event_count=0, mode="fixed").parse(lines)) == ["a b"] * 2


def test_lfa_cuts_at_the_first_largest_gap() -> None:
    # Counts at their positions: k 3, v1..v3 1, m 2 or 1. Line 1: 1 2 3, gaps equal, cut at 1; line 3: 1 1 3, cut at 1.
    lines = ["k v1 m", "k v2 m", "k v3 n"]
    assert per_line(LFA().parse(lines)) == ["k <*> m", "k <*> m", "k <*> <*>"]


def test_lfa_keeps_lines_of_equal_counts_and_of_one_word() -> None:
    assert per_line(LFA().parse(["a b", "c <*>", "d"])) == ["a b", "c <*>", "d"]


def test_iplom_splits_by_the_position_with_the_fewest_words() -> None:
    lines = ["open 1 x", "open 2 y", "shut 3 x", "shut 4 y"]
    # Step 2 splits at position 0 (as few words as position 2, but earlier); in the parts, positions 1 and 2 map 1-1.
    assert per_line(IPLoM(ct=0.9, mode="compat").parse(lines)) == lines
    # With a goodness threshold of 1/3 the parts are good enough.
    assert per_line(IPLoM(ct=0.33, mode="compat").parse(lines)) == ["open <*> <*>"] * 2 + ["shut <*> <*>"] * 2


def test_iplom_takes_the_many_side_for_variables_above_the_lower_bound() -> None:
    lines = ["a 1", "a 2", "b 3", "b 4"]
    # a and b each map to two words in two lines: ratio 1.
    assert per_line(IPLoM(lower_bound=0.9, mode="compat").parse(lines)) == ["a <*>", "a <*>", "b <*>", "b <*>"]
    assert per_line(IPLoM(lower_bound=1.0, mode="compat").parse(lines)) == lines


def test_iplom_separators_and_masks_by_mode() -> None:
    lines = ["uid=7 from 10.0.0.1: ok", "uid=8 from 10.0.0.2: ok"]
    masks = (r"(\d+\.){3}\d+",)
    # The two words for the user map 1-1 to nothing else that varies, and position 1 is the only one to vary.
    assert per_line(IPLoM(mode="compat", masks=masks).parse(lines)) == ["uid <*> from ok"] * 2
    assert per_line(IPLoM(mode="fixed", masks=masks).parse(lines)) == ["uid=<*> from <*>: ok"] * 2
    assert per_line(IPLoM(mode="fixed").parse(["a=1 b", "a: 1 b"])) == ["a<*>1 b"] * 2


def test_spell_rewrites_by_the_longest_common_subsequence() -> None:
    lines = ["job one done at noon", "job two done at noon"]
    assert per_line(Spell(tau=0.8, mode="compat").parse(lines)) == ["job <*> done at noon"] * 2
    assert per_line(Spell(tau=0.81, mode="compat").parse(lines)) == lines


def test_spell_stops_at_the_end_of_the_subsequence_with_one_wildcard() -> None:
    lines = ["a b c d e", "a b x y z q", "a b"]  # line 2 has 2 of 6; line 3 has 2 of 2 with both, the shorter wins
    assert per_line(Spell(tau=0.5, mode="compat").parse(lines)) == ["a b <*>", "a b x y z q", "a b <*>"]
    assert per_line(Spell(tau=0.5, mode="compat").parse(["a b c d", "a b x y"])) == ["a b <*>"] * 2
    # Half of the words must be shared whatever tau says: here 2 of 5 are.
    assert per_line(Spell(tau=0.4, mode="compat").parse(["a b c d e", "a b x y z"])) == ["a b c d e", "a b x y z"]


def test_spell_compat_ignores_the_order_of_words_when_all_occur() -> None:
    lines = ["b a", "a b"]
    assert per_line(Spell(tau=0.9, mode="compat").parse(lines)) == ["b a"] * 2
    assert per_line(Spell(tau=0.9, mode="fixed").parse(lines)) == lines


def test_spell_compat_lets_an_empty_line_wipe_a_template() -> None:
    assert per_line(Spell(mode="compat").parse(["a b", ""])) == ["", ""]
    assert per_line(Spell(mode="fixed").parse(["a b", ""])) == ["a b", ""]


def test_spell_keeps_separators_in_fixed_mode() -> None:
    lines = ["uid=0 tty=NODEV ruser= rhost=a", "uid=1 tty=NODEV ruser= rhost=b"]
    assert per_line(Spell(tau=0.6, mode="compat").parse(lines)) == ["uid <*> tty NODEV ruser rhost <*>"] * 2
    assert per_line(Spell(tau=0.6, mode="fixed").parse(lines)) == ["uid=<*> tty=NODEV ruser= rhost=<*>"] * 2


@pytest.mark.parametrize(
    ("parser_class", "bad"),
    [
        (Drain, {"st": 1.5}),
        (Drain, {"depth": 2}),
        (Drain, {"max_child": 0}),
        (AEL, {"min_event_count": -1}),
        (AEL, {"merge_percent": 2}),
        (IPLoM, {"ct": -0.1}),
        (IPLoM, {"lower_bound": 1.1}),
        (Spell, {"tau": 1.01}),
    ],
)
def test_bad_parameters_are_input_errors(parser_class: type[Parser], bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        parser_class(**bad)


def test_masks_apply_in_order_and_take_the_replacement_literally() -> None:
    assert Masker((r"\d+", "<"))("a 12") == "a <*>*>"
    assert Masker((r"\d+",), r"\1")("a 12") == r"a \1"
    lines = Masker((r"\d+",)).distinct(["a 1", "b", "a 2"])
    assert (lines.texts, lines.index_of_line.tolist(), lines.counts.tolist()) == (["a <*>", "b"], [0, 1, 0], [2, 1])


def test_settings_know_overrides_and_defaults() -> None:
    assert masks_for("Drain", "Spark") == ()
    assert len(masks_for("AEL", "Spark")) == 3
    assert len(masks_for("Logram", "HDFS")) == 3
    assert parameters_for("IPLoM", "HPC") == {"ct": 0.58, "lower_bound": 0.25}
    assert parameters_for("LogPPT", "HPC") == {}
    assert header_format("HealthApp") == "<Time>\\|<Component>\\|<Pid>\\|<Content>"
    with pytest.raises(InputError, match="no header format is known for system 'hpc'"):
        header_format("hpc")
    with pytest.raises(InputError, match="no parameters are known for parser 'drain'"):
        parameters_for("drain", "HPC")

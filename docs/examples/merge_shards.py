"""Shards parsed apart and merged in any order give what one miner would have given."""

import random
from pathlib import Path

from nonet.logs import Miner, merge

LOGS = [Path(__file__).with_name(name) for name in ("monday.log", "tuesday.log")]
# The header is cut off here by hand; `parse_file` does that by itself.
contents = [line.split(": ", 1)[1] for log in LOGS for line in log.read_text().splitlines() if ": " in line]


def summary(miner: Miner) -> list[tuple[str, str, int]]:
    """What must not depend on shards and their order."""
    return [(template.id, template.text, template.count) for template in miner.templates()]


whole = Miner()
whole.add_lines(contents)

for seed, num_shards in enumerate((2, 4, 8)):
    lines = contents[:]
    random.Random(seed).shuffle(lines)
    shards = []
    for number in range(num_shards):
        shard = Miner()
        shard.add_lines(lines[number::num_shards])
        shards.append(shard)
    same = summary(merge(shards)) == summary(whole)
    print(f"{num_shards} shards: {'identical' if same else 'different'}")

for _, text, count in summary(whole):
    print(f"{count:5}  {text}")

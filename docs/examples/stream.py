"""A stream: provisional answers, the lineage that mends them, and a state that survives a restart."""

import tempfile
from pathlib import Path

from nonet.logs import Miner

NAMES = ("ann", "bob", "carol", "dave", "eve", "frank", "grace", "heidi")

miner = Miner(masks=[r"req-[0-9a-f]+"])
given_out: dict[str, str] = {}  # what downstream was told: id -> template
for number, name in enumerate(NAMES):
    mined = miner.add(f"req-{number:x}7 user {name} logged in after {number + 3}ms")
    if mined.change != "none":
        print(f"{mined.change:8}{mined.template_id}  {mined.template}")
    given_out[mined.template_id] = mined.template

# Settle, then ask what became of the ids that were given out.
miner.settle()
current = {template.id: template for template in miner.templates()}
print(f"{len(given_out)} ids given out, {len(current)} now:")
for old in given_out:
    print(f"  {old} -> {', '.join(miner.lineage.resolve(old))}")
for template in current.values():
    print(f"  {template.count} lines of {template.typed_text}")

with tempfile.TemporaryDirectory() as folder:
    state = Path(folder) / "miner.state"
    miner.save(state)
    restarted = Miner.load(state)

# `match` answers without learning.
mined = restarted.match("req-ff user zoe logged in after 12ms")
print(restarted.num_lines, "lines learned before the restart; matched:")
print([(parameter.type, parameter.value) for parameter in mined.parameters] if mined else None)
print("unknown:", restarted.match("disk sda1 is full"))

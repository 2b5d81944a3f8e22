"""A filter for pipelines: lines in, JSON lines with `log.record.template` out, each answered at once."""

import json
import sys
from pathlib import Path

from nonet.logs import Miner

STATE = Path(sys.argv[1]) if len(sys.argv) > 1 else None

miner = Miner.load(STATE) if STATE is not None and STATE.exists() else Miner()
try:
    for line in sys.stdin:
        mined = miner.add(line.rstrip("\n"))
        record = {
            "body": line.rstrip("\n"),
            "log.record.template": mined.template,
            "template_id": mined.template_id,
            "parameters": [parameter.value for parameter in mined.parameters],
        }
        print(json.dumps(record), flush=True)
finally:
    if STATE is not None:
        miner.save(STATE)

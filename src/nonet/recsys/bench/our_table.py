"""Our table, timed in a process of its own: `python our_table.py FOLDER`; see `tables`."""

import json
import sys
from pathlib import Path

from nonet.recsys.bench.tables import time_ours

if __name__ == "__main__":
    print(json.dumps(time_ours(Path(sys.argv[1]))))

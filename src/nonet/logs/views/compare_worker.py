"""The process of one parser of `compare`: `python -m nonet.logs.views.compare_worker FOLDER`."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from nonet.common.errors import NonetError
from nonet.common.jsonable import dumps
from nonet.logs.evaluation.contestants import parse_function
from nonet.logs.evaluation.supervision import die_with_parent
from nonet.logs.views.compare import ERROR_FILE, JOB_FILE, MESSAGES_FILE, RESULT_FILE
from nonet.logs.views.quality import judge


def main(folder: Path) -> int:
    """Parse and judge the messages of the folder as its job says.

    Returns:
        0 when the result is written, 2 for an error that is the user's.
    """
    die_with_parent()
    job: dict[str, Any] = json.loads((folder / JOB_FILE).read_text("utf-8"))
    with pa.memory_map(str(folder / MESSAGES_FILE)) as file:
        column = pa.ipc.open_file(file).read_all()["content"]
        contents = [content.decode("utf-8", "surrogateescape") for content in column.to_pylist()]
    try:
        parse = parse_function(job["parser"], "", job["mode"], job["settings"], job["masks"])
        parse(contents[:2])  # loads compiled kernels, which belongs to no parser's time
        started = time.perf_counter()
        parsed = parse(contents)
        seconds = time.perf_counter() - started
    except NonetError as error:
        (folder / ERROR_FILE).write_text(" ".join(str(error).splitlines()), "utf-8")
        return 2
    quality = judge(contents, parsed, job["seed"])
    (folder / RESULT_FILE).write_text(dumps({"seconds": seconds, "quality": asdict(quality)}), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

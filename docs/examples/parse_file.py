"""Parse a small log: every line becomes a template and typed parameters, and can be put together again."""

import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from nonet.logs import parse_file, restore

LOG = Path(__file__).with_name("tuesday.log")

with tempfile.TemporaryDirectory() as folder:
    report = parse_file(LOG, out=folder)
    lines = pq.read_table(Path(folder) / "lines.parquet").to_pylist()

print(f"header: {report.header}")
print(f"{report.read.lines} lines, {report.num_lines} records, {report.read.joined} joined to the one before")
for template in report.templates:
    print(f"{template.count:5}  {template.id}  {template.typed_text}")

# Nothing is lost: the Contents come back from templates and parameters, byte for byte.
contents = [restore(line["template"], line["parameters"], line["spacing"]) for line in lines]
print("first Content:", contents[0])
print("all in the file:", all(content in LOG.read_text() for content in contents))

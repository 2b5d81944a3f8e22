"""Reading: bytes of any source to records with header fields, every line accounted for.

In order: `compression` and `sources` (blocks of whole lines), `lines` (plain text), `envelopes` (JSON lines, CRI,
docker) and `csv_lines`, `header_format` (one format, compiled) and `headers` (the known ones, and detection),
`timestamps`, `records` (what comes out). The kernels beside them do the same for whole blocks.
"""

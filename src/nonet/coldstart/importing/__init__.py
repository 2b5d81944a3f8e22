"""Logs and published traces into one schema; one file a format.

`base.ingest` is the way in and `base.IMPORTERS` the registry. `sources` opens files (plain, compressed, in a zip),
`tabular` reads CSV and Parquet, `json_values` JSON of any layout, `moments` times and durations as texts;
`pod_join` decides which request had to wait for its pod.
"""

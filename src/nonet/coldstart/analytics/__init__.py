"""Every analysis of the paper over a trace of anybody's, beside the published curves, and an audit of its claims.

Read from the inside out: `curve` (an empirical law as a polyline), `published` (the curves
of the paper), `engine` (DuckDB out of core; the same expressions as Spark SQL), `queries*` (the analyses as Ibis
expressions), `peaks` (peak-to-trough), `figures` (Figures 1 and 3-17 as functions of a trace), `distances`, `charts`,
`report` (one HTML page), `quantities`, `claims` and `audit` (what the paper says against what the data say), `raw`
(laws of the columns of a CSV file that was not imported).
"""

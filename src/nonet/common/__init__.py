"""What at least two rooms use: findings, errors, console, data sets, reports, statistics."""

"""Profiles from measurements: prompt and batch tables, batch sweeps, clock sweeps, and logs of a running server."""

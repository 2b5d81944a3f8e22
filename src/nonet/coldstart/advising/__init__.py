"""What to do about cold starts: causes, changes that pay, their configuration files, and a gate for CI.

Data flow: `history` (each cold start with what went on around it) -> `causes` (one main cause each) -> `explain`;
`trials` (policies tried on earlier and later calls) -> `recommend` -> `configs`. `keep_alive` infers how long the
platform keeps idle pods, `costs` knows prices, `check` is the gate. `*_view` print.
"""

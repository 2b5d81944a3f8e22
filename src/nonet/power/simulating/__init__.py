"""The row simulator: servers, budgets and faults (`row`), the event loop (`engine`), what it found (`result`)."""

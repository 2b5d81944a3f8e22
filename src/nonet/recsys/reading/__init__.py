"""Public logs of clicks and ratings, as examples and as events.

- `formats`: which file has which columns, labels and times; the registry `FORMATS`, also for a table of one's own;
- `blocks`: lines of a compressed or plain file in bounded memory, with the place of every bad one;
- `frames`: blocks as typed tables;
- `examples`: tables as batches to train on and as events to join.
"""

"""A whole job on one machine: log, joiner, trainer, shards, publisher, replica and server, in threads.

parts.py         from a job file to the parts
keeping.py       what a job keeps: tables, network, items, offsets; export and other numbers of shards
learning.py      examples into the trainer, with its chores between steps
arms.py          further arms of an experiment, each learning from the same log
saving.py        when snapshots are written
loop.py          `Loop`: all of it, running;  metrics.py  what Prometheus sees;  control.py  the way in from outside
batch_stage.py   `train_file`, `train_log`: the batch stage
items.py         the catalogue from a file
starting.py      `write_job`: the first files of a job
checking.py      `check_job`, `check_snapshot`, `check_data`: what the doctor sees
reporting.py     the page of a freshness simulation
"""

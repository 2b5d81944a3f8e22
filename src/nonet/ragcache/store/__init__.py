"""The store of chunk KV: RAM, disk, Redis and S3 behind one interface.

variant.py       what is stored: a variant's description, its KV, how it is read back
chunk_store.py   the store; index.py: its books; placing.py: what lies where; write_back.py: work behind the requests;
                 discovery.py: what is there already; stats.py
reading.py       layers ahead of whoever uses them; preload.py: how many to wait for, how fast they come
eviction.py      who goes first
tiers.py         what a tier promises; ram.py, disk.py, redis_tier.py, s3_tier.py; specs.py: tiers by name
throttle.py      a tier of a given speed, for measurements
layout.py        the bytes of a variant
"""

"""Recommendations that learn within seconds of what users do.

Embedding tables that hash ids into a fixed number of rows make unrelated users and items share a vector, and models
trained once a day do not know what happened since. Monolith (Liu et al., *Monolith: Real Time Recommendation System
With Collisionless Embedding Table*, 2022) gives every id a row of its own, trains on joined events as they come, and
brings the rows that changed to the servers every minute. This room is the whole loop, on CPUs.

Wings, data flowing from the top to the bottom:

example.py     what travels: feature events, actions, examples, batches
config.py      features and job files;  table_config.py, eviction_config.py  tables, with TorchRec's names
features/      ids of slot and signature, exact dictionaries, an audit of collisions
table/         the embedding table: cuckoo index, rows, optimizers, admission, expiry, snapshots
logs/          logs of events: embedded, Kafka, NATS, Redis
joining/       the online joiner
reading/       logs of others: MovieLens, Criteo, Avazu, OBD, Taobao, tables of your own;  data.py  published sets
training/      models, trainer, metrics, the correction of negative sampling
freshness/     what fresher syncs would buy, on your own log
syncing/       from training to serving: epochs, acknowledgement, repair
serving/       retrieval, ranking, A/B arms, HTTP
sharding/      shards in threads, processes, Ray actors; failure
running/       all of it as one job
bench/         the headline experiments
cli*.py        the command line
"""

"""Trains ranking models on examples, batch and online by the same code.

- `models`: DeepFM, DLRM, logistic regression and factorisation machine as torch modules;
- `scoring`: embeddings from tables into a model, probabilities out; the same for the trainer and for serving copies;
- `trainer`: steps on batches, progressive validation, training from a source;
- `checkpoint`: snapshot and restore of model, optimizer, tables and position in the source;
- `correction`: log-odds correction of negative sampling;
- `metrics`: AUC, log loss, normalised entropy and calibration, whole or by window;
- `river_adapter`: the trainer as a classifier of river.
"""

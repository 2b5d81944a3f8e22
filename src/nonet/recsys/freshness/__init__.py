"""What fresher syncs buy, and what collisions and sampling cost: experiments that return plain numbers.

- `setup`: the trainer that every experiment starts from;
- `serving_copy`: a copy of model and tables that changes only when it is synced;
- `simulate`: Algorithm 1 of the paper on a log of one's own, for several sync intervals in one pass;
- `charts`: plots of it;
- `drift`: a synthetic stream whose truth moves with a known half-life, with the best AUC that is possible;
- `collisions`: the collisionless table against hashed ids;
- `log_odds`: negative sampling with and without its correction.
"""

"""Language models whose forward pass can be asked for any set of rows.

config.py              the shape of a model
rotary.py, decoder.py  the forward pass, without attention over stored keys (the engine's)
toy.py                 small random models for tests and examples
"""

"""The store of chunk KV: RAM, disk, Redis and S3 behind one interface.

variant.py   what is stored: a variant's description, its KV, how it is read back
"""

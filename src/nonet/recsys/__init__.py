"""Monolith: collisionless embeddings, trained online, served minutes later."""

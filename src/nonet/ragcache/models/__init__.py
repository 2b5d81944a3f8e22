"""Language models whose forward pass can be asked for any set of rows.

config.py                               the shape of a model
rotary.py, decoder.py                   the forward pass, without attention over stored keys (the engine's)
gguf_file.py, safetensors_folder.py     weights files; weights.py puts their tensors into a decoder
tokenizer.py, gguf_tokenizer.py         text to token ids and back, streaming
template.py                             system prompt, chunks and question to a prompt in pieces
hub.py, fingerprint.py, loading.py      a name or a path to a loaded model
toy.py                                  small random models for tests and examples
"""

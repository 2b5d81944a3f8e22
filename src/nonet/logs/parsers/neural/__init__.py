"""What the two neural parsers are made of; needs the extra `logs-neural` (torch, safetensors, tokenizers).

- `extra.py`: the check that the extra is installed.
- `labels.py`: labelled lines, and where the parameters of a line are.
- `crf.py`: linear-chain conditional random field. `glove.py`: word vectors from a text file. `tagger.py`: the token
  tagger of UniParser.
- `sampling.py`: adaptive random sampling of lines to label. `roberta.py`: a masked language model of the RoBERTa
  family. `prompt.py`: its tuning on few lines for LogPPT.

Only `labels.py`, `sampling.py` and `extra.py` can be imported without the extra.
"""

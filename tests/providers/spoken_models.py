"""The tiny model, made to say what a test wants to hear: a fixed sentence, or a call of whatever tool it has.

In ``tests.models.made`` one channel of the residual stream, to which no layer writes, carries a known value to the
output. Here some more carry whether the last token was a certain one, and so decide which one follows.
"""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import gguf
import numpy as np

OPENS, CLOSES = "<tool_call>", "</tool_call>"
END = "<|im_end|>"
SENTENCE = " the model is ready."
_TOKENS = ("\n", "\u2581the", "\u2581model", "\u2581is", "\u2581ready", ".", END)
"""A prompt ends with a new line; at the other end the reply does."""
_FOLLOWS = 60.0
"""Stronger than whatever else the model would like to say."""
_ADDED = {
    "tokenizer.ggml.tokens": [OPENS, CLOSES],
    "tokenizer.ggml.scores": [0.0, 0.0],
    "tokenizer.ggml.token_type": [int(gguf.TokenType.USER_DEFINED)] * 2,
    "llama.vocab_size": 2,
}


def answering_model(tiny: Path, path: Path) -> Path:
    """A model that answers with ``SENTENCE``, at every temperature."""
    return _written(tiny, path, dict(pairwise(_TOKENS)), {OPENS: -60.0, CLOSES: -60.0})


def calling_model(tiny: Path, path: Path) -> Path:
    """A model that calls one tool and stops; what goes into the call is left to its noise and the grammar."""
    # A call is opened rather than anything said, and closed rather than spelt letter by letter.
    return _written(tiny, path, {OPENS: "\n", CLOSES: END}, {OPENS: 30.0, CLOSES: 6.0})


def _written(tiny: Path, path: Path, follows: Mapping[str, str], liked: Mapping[str, float]) -> Path:
    reader = gguf.GGUFReader(tiny)
    writer = gguf.GGUFWriter(path, "llama")
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = field.contents() + _ADDED[name] if name in _ADDED else field.contents()
        writer.add_key_value(name, value, field.types[0], sub_type=field.types[-1] if len(field.types) > 1 else None)
    tokens = {token: row for row, token in enumerate([*reader.fields["tokenizer.ggml.tokens"].contents(), *liked])}
    channels = range(1, len(follows) + 1)
    for tensor in reader.tensors:
        data = np.array(tensor.data)
        width = data.shape[-1]
        level = (width / 2) ** 0.5  # What a channel that began as sqrt(width) has come to at the output.
        if tensor.name.endswith(("attn_output.weight", "ffn_down.weight")):
            data[channels] = 0
        elif tensor.name in {"token_embd.weight", "output.weight"}:
            data = np.concatenate([data, np.zeros((len(liked), width), data.dtype)])
            data[:, channels] = 0
        if tensor.name == "token_embd.weight":
            data[[tokens[token] for token in liked], 0] = width**0.5
            for channel, token in zip(channels, follows, strict=True):
                data[tokens[token], channel] = width**0.5
        if tensor.name == "output.weight":
            for token, bias in liked.items():
                data[tokens[token], 0] = bias / level
                data[tokens[token], channels] = -_FOLLOWS / level
            for channel, token in zip(channels, follows.values(), strict=True):
                data[tokens[token], channel] = _FOLLOWS / level
        writer.add_tensor(tensor.name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path

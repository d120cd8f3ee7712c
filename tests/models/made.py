"""GGUF models of random weights, made on the spot: real files for a real engine, without any download.

The words are noise, but they are words: one channel of the residual stream is never written to by any layer, so it
arrives at the output with a known value, and the column of the output matrix that meets it acts as a bias for each
token. It keeps bytes and fragments out of the reply, and decides how soon the reply ends.

    python -m tests.models.made tiny /tmp/tiny.gguf
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

VERSION = 3
"""Part of the cached files' names; counts up when what is written changes."""

TEMPLATE = (
    "{%- if tools %}{{- '<|im_start|>system\n' }}"
    "{%- if messages[0].role == 'system' %}{{- messages[0].content + '\n\n' }}{%- endif %}"
    "{{- '# Tools\n\nYou may call functions.\n<tools>' }}"
    "{%- for tool in tools %}{{- '\n' + (tool | tojson) }}{%- endfor %}"
    "{{- '\n</tools>\n\nFor each call answer with:\n<tool_call>\n"
    '{"name": <name>, "arguments": <object>}\n</tool_call><|im_end|>\n\' }}'
    "{%- elif messages[0].role == 'system' %}{{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}"
    "{%- endif %}"
    "{%- for m in messages %}"
    "{%- if m.role == 'user' or (m.role == 'system' and not loop.first) %}"
    "{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{%- elif m.role == 'assistant' %}{{- '<|im_start|>assistant\n' }}"
    "{%- if m.content %}{{- m.content }}{%- endif %}"
    "{%- for call in (m.tool_calls or []) %}"
    "{%- set call = call.function or call %}"
    '{{- \'\n<tool_call>\n{"name": "\' + call.name + \'", "arguments": \' }}'
    "{%- if call.arguments is string %}{{- call.arguments }}{%- else %}{{- call.arguments | tojson }}{%- endif %}"
    "{{- '}\n</tool_call>' }}{%- endfor %}{{- '<|im_end|>\n' }}"
    "{%- elif m.role == 'tool' %}"
    "{{- '<|im_start|>user\n<tool_response>\n' + m.content + '\n</tool_response><|im_end|>\n' }}"
    "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
WORDS = """
the a and or not is are was be to of in on at for with from by as it this that we you they can will should make use run
test file folder path name line code function class method value list string number true false none open read write
create change remove find start stop wait load model memory task plan step goal result error warning done ready first
last new old big small fast slow good bad yes no here now then when where what why how which if else while before after
under over python rust web page user data base key token stream chat reply hello please sorry simple clear short long
import return print self main try pass break
"""
NEVER = -60.0
SPACE = "\u2581"
"""How SentencePiece writes a space."""


@dataclass(frozen=True)
class Build:
    """The shape of a model, and how it talks."""

    width: int = 128
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    forward: int = 256
    context: int = 8192
    eight_bit: bool = False
    """Weights of 8 bits in blocks of 32 (Q8_0); otherwise 16-bit floats."""
    end_bias: float = 2.0
    """How likely a reply is to end; at 2 after some 50 tokens, at -60 never."""
    architecture: str = "llama"


MODELS = {
    "tiny": Build(),
    "talkative": Build(end_bias=NEVER),
    "unknown": Build(architecture="nosuchthing"),
    # Some hundred MB, for memory; it ends its replies soon, because it is slow.
    "large": Build(
        width=1536, layers=8, heads=16, kv_heads=4, forward=4096, context=32768, eight_bit=True, end_bias=3.5
    ),
}


def made_model(name: str, folder: Path) -> Path:
    """The model's file in ``folder``, written the first time."""
    path = folder / f"{name}-{VERSION}.gguf"
    if not path.exists():
        unfinished = path.with_suffix(".part")
        write(unfinished, MODELS[name], name)
        unfinished.rename(path)
    return path


def vocabulary(build: Build) -> Iterator[tuple[str, gguf.TokenType, float]]:
    """Each token with its kind and its bias."""
    yield "<unk>", gguf.TokenType.UNKNOWN, NEVER
    yield "<s>", gguf.TokenType.CONTROL, NEVER
    yield "</s>", gguf.TokenType.CONTROL, NEVER
    yield "<|im_start|>", gguf.TokenType.CONTROL, NEVER
    yield "<|im_end|>", gguf.TokenType.CONTROL, build.end_bias
    for byte in range(256):
        yield f"<0x{byte:02X}>", gguf.TokenType.BYTE, NEVER
    seen = set()
    words = [SPACE + word for word in dict.fromkeys(WORDS.split())]
    # A word is found by merging its beginnings, so all of them have to be tokens.
    parts = [word[:end] for word in words for end in range(1, len(word))]
    signs = [chr(code) for code in range(33, 127)] + ["\n"]
    for pieces, bias in ((words, 0.0), (parts, -30.0), (signs, -6.0)):
        for piece in pieces:
            if piece not in seen:
                seen.add(piece)
                yield piece, gguf.TokenType.NORMAL, -2.0 if piece in '.,"{}[]:\n' else bias


def write(path: Path, build: Build, name: str) -> None:
    """Write the model; the same build gives the same bytes."""
    random = np.random.default_rng(20261121)
    tokens = list(vocabulary(build))
    head = build.width // build.heads
    writer = gguf.GGUFWriter(path, build.architecture)
    writer.add_name(f"random-{name}")
    writer.add_context_length(build.context)
    writer.add_embedding_length(build.width)
    writer.add_block_count(build.layers)
    writer.add_feed_forward_length(build.forward)
    writer.add_head_count(build.heads)
    writer.add_head_count_kv(build.kv_heads)
    writer.add_rope_dimension_count(head)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _, _ in tokens])
    # Longer pieces win, which makes the tokenizer greedy.
    writer.add_token_scores([float(len(text)) if kind == gguf.TokenType.NORMAL else 0.0 for text, kind, _ in tokens])
    writer.add_token_types([int(kind) for _, kind, _ in tokens])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(4)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(TEMPLATE)

    def floats(tensor: str, data: np.ndarray) -> None:
        writer.add_tensor(tensor, data.astype(np.float32 if data.ndim == 1 else np.float16))

    def weights(tensor: str, rows: int, columns: int, *, quiet: bool = False) -> None:
        """Random weights; ``quiet`` ones never write to channel 0."""
        deviation = columns**-0.5
        if not build.eight_bit:
            data = random.standard_normal((rows, columns), dtype=np.float32) * deviation
            data[: int(quiet)] = 0.0
            floats(tensor, data)
            return
        blocks = np.empty((rows, columns // 32, 34), dtype=np.uint8)
        blocks[:, :, 2:] = random.integers(0, 256, size=(rows, columns // 32, 32), dtype=np.uint8)
        scale = np.float16(deviation / (256 / 12**0.5))
        blocks[:, :, :2] = np.frombuffer(scale.tobytes(), dtype=np.uint8)
        blocks[: int(quiet), :, :2] = 0
        writer.add_tensor(tensor, blocks.reshape(rows, -1), raw_dtype=gguf.GGMLQuantizationType.Q8_0)

    embedding = random.standard_normal((len(tokens), build.width), dtype=np.float32)
    embedding[:, 0] = build.width**0.5
    floats("token_embd.weight", embedding)
    for layer in range(build.layers):
        at = f"blk.{layer}."
        floats(f"{at}attn_norm.weight", np.ones(build.width))
        weights(f"{at}attn_q.weight", build.heads * head, build.width)
        weights(f"{at}attn_k.weight", build.kv_heads * head, build.width)
        weights(f"{at}attn_v.weight", build.kv_heads * head, build.width)
        weights(f"{at}attn_output.weight", build.width, build.heads * head, quiet=True)
        floats(f"{at}ffn_norm.weight", np.ones(build.width))
        weights(f"{at}ffn_gate.weight", build.forward, build.width)
        weights(f"{at}ffn_up.weight", build.forward, build.width)
        weights(f"{at}ffn_down.weight", build.width, build.forward, quiet=True)
    floats("output_norm.weight", np.ones(build.width))
    output = random.standard_normal((len(tokens), build.width), dtype=np.float32) * build.width**-0.5
    # Channel 0 is about this large after the last normalisation: half of the stream's power is its own.
    output[:, 0] = np.array([bias for _, _, bias in tokens]) / (build.width / 2) ** 0.5
    floats("output.weight", output)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    write(Path(sys.argv[2]), MODELS[sys.argv[1]], sys.argv[1])

"""Makes a tiny Qwen2 with random weights, its tokenizer and its chat template; no network, a few seconds, 3 MB.

Run by the Python that has vLLM, which brings torch, transformers and tokenizers: `tiny_model.py FOLDER`. The same
architecture, file formats and special tokens as Qwen/Qwen2-1.5B; what it answers is noise. Left out: sharded weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch  # type: ignore[import-not-found]
from tokenizers import ByteLevelBPETokenizer  # type: ignore[import-not-found]
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM  # type: ignore[import-not-found]

#: Qwen2's own.
_SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}"
    "{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

#: Enough for a tokenizer that knows common words.
_SENTENCES = [
    "Why is the sky blue? Sunlight is scattered by the air, and blue light more than red.",
    "You are a helpful assistant. The user asks, the assistant answers.",
    "A pod runs on a node of a pool, and a pool has nodes with a TPU or with a GPU.",
    "The quick brown fox jumps over the lazy dog; 0 1 2 3 4 5 6 7 8 9.",
]

_VOCABULARY = 512

#: The server's default for `max_tokens`: noise seldom ends by itself, and the context is long.
_MAX_NEW_TOKENS = 64


def make(folder: Path) -> None:
    """Writes the model into a folder, which may be there; the same weights each time."""
    folder.mkdir(parents=True, exist_ok=True)
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(_SENTENCES, vocab_size=_VOCABULARY - len(_SPECIAL_TOKENS), min_frequency=1, show_progress=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        eos_token="<|im_end|>",  # noqa: S106 - a token of text
        pad_token="<|endoftext|>",  # noqa: S106
        additional_special_tokens=["<|im_start|>"],
        chat_template=_CHAT_TEMPLATE,
        model_max_length=32768,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            # vLLM's attention for CPUs refuses heads that are much smaller than 64.
            hidden_size=256,
            num_attention_heads=4,
            num_key_value_heads=2,
            num_hidden_layers=2,
            intermediate_size=512,
            vocab_size=_VOCABULARY,
            max_position_embeddings=32768,
            bos_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            torch_dtype="bfloat16",
        )
    ).to(torch.bfloat16)
    model.save_pretrained(folder)
    GenerationConfig(
        bos_token_id=tokenizer.pad_token_id, eos_token_id=[tokenizer.eos_token_id, tokenizer.pad_token_id], max_new_tokens=_MAX_NEW_TOKENS
    ).save_pretrained(folder)


if __name__ == "__main__":
    make(Path(sys.argv[1]))

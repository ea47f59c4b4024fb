#!/usr/bin/env python3
"""Records what Hugging Face's transformers compute for small random models: the folders that TransformersTests imports and compares with.

    python3 record_transformers.py            # writes a folder per case beside this file; needs torch and transformers

Each folder is what `save_pretrained` writes (config.json, model.safetensors), and recorded.safetensors with a batch (`tokens`), its logits
(`logits`), and the tokens that follow the first row without sampling (`greedy`). Everything is float32 and seeded.
"""
import os

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, Qwen2Config

SHAPE = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=32, rms_norm_eps=1e-6, rope_theta=1e4)

CASES = {
    "Qwen2Tied": Qwen2Config(**SHAPE, num_hidden_layers=2, tie_word_embeddings=True),
    # Its layers from 1 on attend to 5 tokens.
    "Qwen2Untied": Qwen2Config(**{**SHAPE, "rope_theta": 1e6}, num_hidden_layers=3, tie_word_embeddings=False,
                               use_sliding_window=True, sliding_window=5, max_window_layers=1),
}


def record(config, folder):
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.normal_(0, weight.shape[1] ** -0.5)
            else:
                weight.normal_(0, 0.5).add_(1 if "norm" in name else 0)
        tokens = torch.randint(config.vocab_size, (2, 20))
        logits = model(tokens).logits
        text = tokens[:1]
        for _ in range(12):
            text = torch.cat([text, model(text).logits[:, -1:].argmax(-1)], 1)
    model.save_pretrained(folder)
    save_file(dict(tokens=tokens, logits=logits, greedy=text[:, tokens.shape[1]:].contiguous()),
              os.path.join(folder, "recorded.safetensors"))


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    for seed, (name, config) in enumerate(CASES.items()):
        torch.manual_seed(seed)
        record(config, os.path.join(here, name))
        print(name, sum(os.path.getsize(os.path.join(here, name, file)) for file in os.listdir(os.path.join(here, name))), "bytes")


main()

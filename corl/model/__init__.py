"""One packed decoder for Qwen2/2.5, Qwen3 and Llama: architecture, attention, weights in and out, scoring."""

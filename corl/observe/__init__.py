"""What a run says while it works: metrics.jsonl, TensorBoard, progress bars, a line per step, tables as pictures."""

"""Networks: tensors (N, T, H, W, C) in, tensors out; no labels, no units, no paths."""

"""Concepts: tensors in, tensors out; no layer knows which model it serves."""

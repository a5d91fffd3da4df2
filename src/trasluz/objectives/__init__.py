"""Objectives: a model and a batch in, a loss out, kept as sum and count."""

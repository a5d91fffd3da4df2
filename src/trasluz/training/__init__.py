"""Training: a recipe in, a run folder and a model folder out."""

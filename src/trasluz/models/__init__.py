"""One file an architecture: paper, config, model, presets, checkpoint map."""

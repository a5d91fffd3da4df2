"""Attention made visible: recorded beside the model, held with its words, drawn as text, picture or page."""

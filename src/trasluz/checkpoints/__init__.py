"""Model folders: configs, weights and tokenizers on disk, in the layout of Hugging Face."""

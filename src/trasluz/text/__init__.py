"""Text in, integer ids out: reading data files, tokenizers, the token cache and the making of batches."""

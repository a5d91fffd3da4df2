"""Random Marian folders as the `transformers` library writes them, tokenizers included, in a second or two."""

import io
import json
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from tests.checkpoints.sentences import pairs
from transformers import GenerationConfig, MarianConfig, MarianMTModel, MarianTokenizer

ODD_SIZES: dict[str, dict[str, Any]] = {
    "shared": {},
    "scaled-gelu": {"scale_embedding": True, "activation_function": "gelu", "encoder_layers": 3, "decoder_layers": 1},
    "odd-width": {"d_model": 21, "attention_heads": 3, "ffn_dim": 17, "activation_function": "relu"},
    "separate": {"share_encoder_decoder_embeddings": False},
    "separate-untied": {"share_encoder_decoder_embeddings": False, "tie_word_embeddings": False},
}


def train_sentencepiece(texts: list[str], vocab_size: int, kind: str) -> bytes:
    """Return a SentencePiece model."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        vocab_size=vocab_size,
        model_type=kind,
        hard_vocab_limit=False,
        character_coverage=1.0,
        minloglevel=2,
        num_threads=1,
    )
    return model.getvalue()


def write_tokenizer(folder: Path, separate: bool = False, languages: tuple[str, str] | None = None) -> MarianTokenizer:
    """Write source.spm, target.spm and vocabularies; each side cuts in another way."""
    english, spanish = (list(side) for side in zip(*pairs(300, seed=5), strict=True))
    sides = {"source": (english, 90, "unigram"), "target": (spanish, 110, "bpe")}
    pieces: dict[str, list[str]] = {}
    for side, (texts, size, kind) in sides.items():
        content = train_sentencepiece(texts, size, kind)
        (folder / f"{side}.spm").write_bytes(content)
        processor = sentencepiece.SentencePieceProcessor(model_proto=content)
        pieces[side] = [processor.id_to_piece(index) for index in range(3, processor.get_piece_size())]
    vocabularies = {"vocab": [*pieces["source"], *([] if separate else pieces["target"])]}
    if separate:
        vocabularies["target_vocab"] = pieces["target"]
    for name, entries in vocabularies.items():
        # As in Marian's own: end first, unknown second, padding last.
        ordered = ["</s>", "<unk>", *dict.fromkeys(entries), "<pad>"]
        (folder / f"{name}.json").write_text(json.dumps({piece: index for index, piece in enumerate(ordered)}))
    tokenizer = MarianTokenizer(
        str(folder / "source.spm"),
        str(folder / "target.spm"),
        str(folder / "vocab.json"),
        target_vocab_file=str(folder / "target_vocab.json") if separate else None,
        separate_vocabs=separate,
        source_lang=languages[0] if languages else None,
        target_lang=languages[1] if languages else None,
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def write_marian(
    folder: Path, *, seed: int = 0, generation: dict[str, Any] | None = None, **sizes: Any
) -> MarianMTModel:
    """Write a random Marian model whose translations end, sooner or later, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    separate = not sizes.get("share_encoder_decoder_embeddings", True)
    write_tokenizer(folder, separate)
    vocab_size = len(json.loads((folder / "vocab.json").read_text()))
    target_size = len(json.loads((folder / "target_vocab.json").read_text())) if separate else vocab_size
    # The padding id must be one and the same on both sides; Marian's own separate models have it in both, too.
    heads, ffn = sizes.pop("attention_heads", 2), sizes.pop("ffn_dim", 40)
    pad_id = min(vocab_size, target_size) - 1
    config = MarianConfig(
        **{
            "vocab_size": vocab_size,
            "decoder_vocab_size": target_size,
            "d_model": 24,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": heads,
            "decoder_attention_heads": heads,
            "encoder_ffn_dim": ffn,
            "decoder_ffn_dim": ffn,
            "activation_function": "swish",
            "max_position_embeddings": 64,
            "pad_token_id": pad_id,
            "decoder_start_token_id": pad_id,
            "eos_token_id": 0,
            "forced_eos_token_id": 0,
            "init_std": 0.3,
            **sizes,
        }
    )
    torch.manual_seed(seed)
    model = MarianMTModel(config).eval()
    with torch.no_grad():
        model.final_logits_bias.normal_(std=0.3)
        # The end is the likeliest token at one random position in fifty.
        source, target = torch.randint(2, pad_id, (40, 7)), torch.randint(2, pad_id, (40, 12))
        logits = model(input_ids=source, decoder_input_ids=target).logits
        model.final_logits_bias[0, 0] += (logits[..., 1:].amax(-1) - logits[..., 0]).quantile(0.02)
    model.generation_config = GenerationConfig(
        **{
            "num_beams": 4,
            "length_penalty": 1.0,
            "max_length": 40,
            "bad_words_ids": [[pad_id]],
            "decoder_start_token_id": pad_id,
            "pad_token_id": pad_id,
            "eos_token_id": 0,
            "forced_eos_token_id": 0,
            **(generation or {}),
        }
    )
    model.save_pretrained(folder)
    return model

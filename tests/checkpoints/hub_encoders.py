"""Random encoders of Hugging Face's families, with tokenizers, as the `transformers` library writes them."""

from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tests.checkpoints.sentences import pairs
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers

BERT_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]

_BERT = {"hidden_size": 21, "num_attention_heads": 3, "intermediate_size": 17, "num_hidden_layers": 3}
SIZES: dict[str, dict[str, Any]] = {
    "Bert": {**_BERT, "hidden_act": "gelu_new"},
    "Roberta": {**_BERT, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "type_vocab_size": 1},
    "DistilBert": {"dim": 21, "n_heads": 3, "hidden_dim": 17, "n_layers": 2, "activation": "relu"},
}
HEADS = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
CLASSES = [
    *(family + head for family in SIZES for head in HEADS),
    "BertForPreTraining",
    "BertForNextSentencePrediction",
]


def family_of(class_name: str) -> str:
    """Return the family that a class belongs to."""
    return next(family for family in SIZES if class_name.startswith(family))


def write_tokenizer(folder: Path, family: str) -> int:
    """Write a small tokenizer of the family's kind, and return the size of its vocabulary."""
    texts = [text for pair in pairs(200, seed=7) for text in pair]
    if family == "Roberta":
        backend = tokenizers.Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer: Any = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=ROBERTA_SPECIALS,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        backend.train_from_iterator(texts, trainer)
        backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
        backend.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
        names = dict(
            zip(("cls_token", "pad_token", "sep_token", "unk_token", "mask_token"), ROBERTA_SPECIALS, strict=True)
        )
        names["mask_token"] = AddedToken("<mask>", lstrip=True, special=True)  # type: ignore[assignment]
    else:
        backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
        backend.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=BERT_SPECIALS, show_progress=False)
        backend.train_from_iterator(texts, trainer)
        backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
        names = dict(
            zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), BERT_SPECIALS, strict=True)
        )
    read = ["input_ids", *(["token_type_ids"] if family == "Bert" else []), "attention_mask"]
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=read, **names)
    tokenizer.save_pretrained(folder)
    return int(backend.get_vocab_size())


def write_encoder(folder: Path, class_name: str, *, seed: int = 0, **changes: Any) -> Any:
    """Write a random model of a class, with a tokenizer, and return it; its weights make clear choices."""
    folder.mkdir(parents=True, exist_ok=True)
    family = family_of(class_name)
    vocab_size = write_tokenizer(folder, family)
    labels = {"num_labels": 5} if "Classification" in class_name else {}
    sizes = {"max_position_embeddings": 40, **SIZES[family], **labels, **changes}
    config = getattr(transformers, f"{family}Config")(vocab_size=vocab_size, **sizes)
    torch.manual_seed(seed)
    model = getattr(transformers, class_name)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    model.set_attn_implementation("eager")
    model.eval().save_pretrained(folder)
    return model
